//! Bodies of any size stream through: whole, in order, and without being held in memory.

use std::{
    fs,
    io::Write,
    net::TcpStream,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    thread,
};

use crate::support::{
    client::Client, origin::Origin, pattern, running::Running, setup::Setup, soaking,
};

const MIB: u64 = 1024 * 1024;

/// Returns the bodies' size: 1 GiB in a release build or a soak, else 64 MiB.
fn size() -> u64 {
    if soaking() || !cfg!(debug_assertions) { 1024 * MIB } else { 64 * MIB }
}

fn start() -> (Origin, Running) {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    (origin, warmline)
}

/// Runs the transfer; in a soak, where no other test runs at the same time, asserts that memory stays flat meanwhile.
fn with_flat_memory(transfer: impl FnOnce()) {
    let (before, most, done) = (resident(), AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Relaxed) {
                most.fetch_max(resident(), Relaxed);
                thread::yield_now();
            }
        });
        transfer();
        done.store(true, Relaxed);
    });
    let grown = most.into_inner().saturating_sub(before);
    assert!(!soaking() || grown < 16 * MIB, "memory grew by {} KiB", grown / 1024);
}

/// Returns this process's resident memory in bytes: client, origin and Warmline together.
fn resident() -> u64 {
    let status = fs::read_to_string("/proc/self/status").expect("Linux says it");
    let line = status.lines().find(|line| line.starts_with("VmRSS")).expect("the line is there");
    let kibibytes = line.split_whitespace().nth(1).and_then(|word| word.parse::<u64>().ok());
    kibibytes.expect("a number") * 1024
}

fn download(path: &str) {
    let (_origin, warmline) = start();
    let mut client = warmline.connect();
    let mut reader = pattern::Reader::default();
    with_flat_memory(|| {
        client.send(format!("GET /{path}/{} HTTP/1.1\r\nHost: api.test\r\n\r\n", size()));
        client.response_into("GET", &mut |bytes| reader.take(bytes)).expect("a whole response");
    });
    assert_eq!((reader.length, reader.wrong_at), (size(), None));
    warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
}

#[test]
fn a_large_response_with_a_length_comes_whole() {
    download("bytes");
}

#[test]
fn a_large_response_in_chunks_comes_whole() {
    download("chunked");
}

#[test]
fn a_large_request_with_a_length_goes_whole() {
    let (_origin, warmline) = start();
    let mut client = warmline.connect();
    with_flat_memory(|| {
        let head = format!("Host: api.test\r\nContent-Length: {}\r\n\r\n", size());
        client.send(format!("POST /count HTTP/1.1\r\n{head}"));
        send_pieces(&mut client, <[u8]>::to_vec);
    });
    assert_eq!(client.response().text(), format!("{} right", size()));
}

#[test]
fn a_large_request_in_chunks_goes_whole() {
    let (_origin, warmline) = start();
    let mut client = warmline.connect();
    with_flat_memory(|| {
        client.send("POST /count HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
        send_pieces(&mut client, |piece| {
            [format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat()
        });
        client.send("0\r\n\r\n");
    });
    assert_eq!(client.response().text(), format!("{} right", size()));
}

fn send_pieces(client: &mut Client, frame: impl Fn(&[u8]) -> Vec<u8>) {
    let mut sent = 0;
    while sent < size() {
        let piece = pattern::slice(sent, size() - sent);
        client.send(frame(piece));
        sent += piece.len() as u64;
    }
}

#[test]
fn a_client_that_reads_nothing_stops_the_upstream() {
    let (origin, warmline) = start();
    let mut idle = TcpStream::connect(warmline.address()).unwrap();
    write!(idle, "GET /bytes/{} HTTP/1.1\r\nHost: api.test\r\n\r\n", 1024 * MIB).unwrap();
    origin.wait_for("the request", |record| record.request_count == 1);
    // While this client reads nothing, the same thread serves others.
    for _ in 0..20 {
        assert_eq!(warmline.one_shot("/bytes/100000").body.len(), 100_000);
    }
    drop(idle);
    origin.wait_for("the end of the transfer", |record| record.connections[0].end.is_some());
}
