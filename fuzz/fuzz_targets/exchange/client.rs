//! The client: it writes an input's bytes, reads what comes, and leaves.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use crate::input::Input;

/// The time for which a patient client waits, more than all of Warmline's limits together.
const PATIENCE: Duration = Duration::from_millis(300);
/// The time for which a client waits for the first byte: a handshake and an answer take less.
const FIRST_BYTE: Duration = Duration::from_millis(8);
/// The time of silence after which a client takes an answer for complete.
const SILENCE: Duration = Duration::from_millis(2);

/// Sends an input's request and returns all bytes that came back.
pub fn exchange(address: SocketAddr, input: &Input) -> Vec<u8> {
    let mut stream = connect(address);
    // Warmline may have closed after the first piece: what it says then is still read.
    let _ = write(&mut stream, input);
    let mut answered = Vec::new();
    if input.is_patient() {
        read(&mut stream, PATIENCE, PATIENCE, |_| false, &mut answered);
        return answered;
    }
    let heads = heads(&input.request);
    let first = if heads > 0 { FIRST_BYTE } else { SILENCE };
    let ended = read(&mut stream, first, SILENCE, |all| heads < 2 && is_final(all), &mut answered);
    if !ended {
        // A response that has begun may end: after its header a FIN does not break it off.
        let _ = stream.shutdown(Shutdown::Write);
        read(&mut stream, SILENCE, SILENCE, |_| false, &mut answered);
    }
    answered
}

/// Sends a request that asks for the end of its connection, and returns all bytes that came until then.
pub fn one_shot(address: SocketAddr, request: &str, limit: Duration) -> Vec<u8> {
    let mut stream = connect(address);
    stream.write_all(request.as_bytes()).expect("a sane request is read");
    let mut answered = Vec::new();
    let ended = read(&mut stream, limit, limit, |_| false, &mut answered);
    assert!(ended, "a sane request's connection ends");
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

/// Returns the most header sections that may end in these bytes; at 0 no answer is due.
fn heads(request: &[u8]) -> usize {
    request.windows(2).filter(|window| *window == b"\n\n" || *window == b"\n\r").count()
}

/// True if a final response has begun: a single request gets one of these at most.
fn is_final(answered: &[u8]) -> bool {
    answered.get(9).is_some_and(|digit| *digit != b'1')
}

/// Reads until the end of the stream, and returns true then; or until `enough` is true, until nothing came for the
/// limit, or until [`PATIENCE`] is over, or `first` if that is longer.
fn read(
    stream: &mut TcpStream,
    first: Duration,
    next: Duration,
    enough: impl Fn(&[u8]) -> bool,
    into: &mut Vec<u8>,
) -> bool {
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
        if enough(into) {
            return false;
        }
        limit = next;
    }
    false
}
