//! `maxConnections` is strict, at every instant and over every thread.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::support::{
    client::Client,
    origin::{self, IdleClose, IdleEnd, Origin},
    refusing::Refusing,
    running::Running,
    setup::Setup,
    soaking, together,
};

const CAP: usize = 8;

/// A guard that ends the watch when dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

/// Samples the number of connections in the pool until the work is done, and returns the highest number seen. A census
/// alone holds the pool's lock only briefly.
fn most_connections(warmline: &Running, done: &AtomicBool) -> usize {
    let (upstream, mut most) = (warmline.upstream("origin"), 0);
    while !done.load(Relaxed) {
        most = most.max(upstream.pool().census().total());
        thread::yield_now();
    }
    most
}

fn the_cap_holds_while_the_origin_closes(how: IdleEnd, threads: usize) {
    let idle = IdleClose { within: Duration::from_millis(2), seed: 7, how };
    let origin = Origin::serving().closing_idle(idle).start();
    let setup = Setup::before(&origin).set_global("threads", threads);
    // The queue's pace on a busy machine is not tested here: no wait is too long.
    let setup = setup.set("pool.maxConnections", CAP).set("pool.queueTimeout", "1h");
    let warmline = setup.set("retries.max", 10).start();
    let (rounds, done) = (if soaking() { 500 } else { 5 }, AtomicBool::new(false));
    thread::scope(|scope| {
        let watcher = scope.spawn(|| most_connections(&warmline, &done));
        let over = Over(&done);
        together(200, |_| {
            let mut client = warmline.connect();
            for _ in 0..rounds {
                let answer = client.get(origin::NAME, "/any");
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        });
        drop(over);
        let most = watcher.join().expect("the watcher does not panic");
        assert!(most <= CAP, "the pool counted {most}");
    });
    let (most, accepted) = origin.read(|record| (record.most_open, record.connections.len()));
    assert!(most <= CAP, "the origin saw {most} at once");
    assert!(accepted > CAP, "the origin never closed: this test shows nothing");
}

#[test]
fn the_cap_is_never_exceeded_under_200_clients_while_the_origin_closes_politely() {
    the_cap_holds_while_the_origin_closes(IdleEnd::Polite, 2);
}

#[test]
fn the_cap_is_never_exceeded_under_200_clients_while_the_origin_truncates() {
    the_cap_holds_while_the_origin_closes(IdleEnd::Truncated, 1);
}

#[test]
fn a_connection_that_is_still_closing_counts() {
    // The peer never ends its side, so that the slot is free only after Warmline gives up reading.
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        peer.stall().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("pool.maxConnections", 1).start();
    assert_eq!(warmline.one_shot("/first").text(), "ok");
    warmline.wait_for_pool("the polite close", |pool| pool.census.closing == 1);
    assert_eq!(warmline.one_shot("/second").text(), "ok");
    assert_eq!(origin.record().connections.len(), 2);
}

#[test]
fn places_come_back_when_dials_fail() {
    let refusing = Refusing::new();
    let setup = Setup::new().upstream_at("origin", &refusing.address.to_string());
    let warmline = setup.set("tls.verifyName", origin::NAME).set("pool.maxConnections", 2).start();
    together(20, |_| {
        let mut client = Client::connect(warmline.address());
        assert_eq!(client.get("127.0.0.1", "/any").status, 502);
    });
    assert_eq!(warmline.pool("origin").census.total(), 0);
}

#[test]
fn a_connection_whose_handshake_failed_counts_until_it_is_closed() {
    const REFUSAL: [u8; 7] = [21, 3, 3, 0, 2, 2, 40];
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (open, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (counting, highest) = (Arc::clone(&open), Arc::clone(&most));
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, open) = (stream.unwrap(), Arc::clone(&counting));
            highest.fetch_max(open.fetch_add(1, Relaxed) + 1, Relaxed);
            thread::spawn(move || {
                let _ = stream.read(&mut [0; 4096]);
                let _ = stream.write_all(&REFUSAL);
                // The server ends its side a while after Warmline has ended the other.
                while matches!(stream.read(&mut [0; 4096]), Ok(1..)) {}
                thread::sleep(Duration::from_millis(50));
                open.fetch_sub(1, Relaxed);
            });
        }
    });
    // A large first message would be followed by a second handshake after a reset, which this server notices late.
    let setup =
        Setup::new().upstream_at("origin", &address.to_string()).set("tls.keyExchange", "classic");
    let warmline = setup.set("tls.verifyName", origin::NAME).set("pool.maxConnections", 1).start();
    for _ in 0..4 {
        let mut client = Client::connect(warmline.address());
        assert_eq!(client.get("127.0.0.1", "/any").status, 502);
    }
    assert_eq!(most.load(Relaxed), 1);
}
