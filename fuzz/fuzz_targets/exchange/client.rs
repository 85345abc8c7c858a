//! The application: it writes an input's bytes, reads what comes, and leaves.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::input::Input;

/// How long a patient application waits, more than all of Warmline's limits together.
const PATIENCE: Duration = Duration::from_millis(300);
/// How long an application waits for the first byte: a handshake and an answer take less.
const FIRST_BYTE: Duration = Duration::from_millis(15);
/// How long it takes a silence for the end of what comes.
const SILENCE: Duration = Duration::from_millis(2);

/// Sends an input's request and returns all that came back.
pub fn exchange(address: SocketAddr, input: &Input) -> Vec<u8> {
    let mut stream = connect(address);
    // Warmline may have closed after the first piece: what it then says is still read.
    let _ = write(&mut stream, input);
    let mut answered = Vec::new();
    if input.is_patient() {
        read(&mut stream, PATIENCE, PATIENCE, &mut answered);
        return answered;
    }
    let first = if may_be_whole(&input.request) { FIRST_BYTE } else { SILENCE };
    if !read(&mut stream, first, SILENCE, &mut answered) {
        // Whatever has begun may end: after a response's header a FIN does not break it off.
        let _ = stream.shutdown(Shutdown::Write);
        read(&mut stream, SILENCE, SILENCE, &mut answered);
    }
    answered
}

/// Sends a request that asks for the end of its connection, and returns all that came until then.
pub fn one_shot(address: SocketAddr, request: &str, limit: Duration) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("a sane request is read");
    let mut answered = Vec::new();
    assert!(read(&mut stream, limit, limit, &mut answered), "a sane request's connection ends");
    answered
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("Warmline accepts");
    stream.set_nodelay(true).expect("a socket can be told");
    stream
}

fn write(stream: &mut TcpStream, input: &Input) -> std::io::Result<()> {
    let middle = if input.two_pieces() { input.request.len() / 2 } else { 0 };
    let (first, second) = input.request.split_at(middle);
    stream.write_all(first)?;
    stream.write_all(second)?;
    if input.finishes_at_once() {
        stream.shutdown(Shutdown::Write)?;
    }
    Ok(())
}

/// Without the end of a header section there is nothing to wait for.
fn may_be_whole(request: &[u8]) -> bool {
    request.windows(2).any(|window| window == b"\n\n" || window == b"\n\r")
}

/// Reads until the end (true), until nothing came for so long, or until [`PATIENCE`] or the first limit is over.
fn read(stream: &mut TcpStream, first: Duration, next: Duration, into: &mut Vec<u8>) -> bool {
    let deadline = Instant::now() + first.max(PATIENCE);
    let mut buffer = [0; 16 * 1024];
    let mut limit = first;
    while Instant::now() < deadline {
        stream.set_read_timeout(Some(limit)).expect("a time above zero");
        match stream.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => into.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            // A reset is an end too.
            Err(error) => return error.kind() != ErrorKind::WouldBlock,
        }
        limit = next;
    }
    false
}
