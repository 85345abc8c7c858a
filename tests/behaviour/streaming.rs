//! Streaming of requests and responses: pipelining, trailers, both directions at once, back-pressure.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::support::{
    origin::{Gate, Origin},
    pattern,
    running::Running,
    setup::Setup,
    wait_for,
};

fn start() -> (Origin, Running) {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    (origin, warmline)
}

#[test]
fn pipelined_requests_are_answered_in_their_order() {
    let (origin, warmline) = start();
    let mut client = warmline.connect();
    let request = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let post = "POST /echo HTTP/1.1\r\nHost: api.test\r\nContent-Length: 5\r\n\r\nright";
    client
        .send(request("/bytes/100") + post + &request("/chunked/3") + &request("/nothing") + post);
    assert_eq!(client.response().body, pattern::bytes(100));
    assert_eq!(client.response().text(), "right");
    assert_eq!(client.response().body, pattern::bytes(3));
    assert_eq!(client.response().text(), "hello\n");
    assert_eq!(client.response().text(), "right");
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn many_pipelined_requests_go_one_after_another_over_one_connection() {
    let (origin, warmline) = start();
    let mut client = warmline.connect();
    let request = |n| format!("GET /bytes/{n} HTTP/1.1\r\nHost: api.test\r\n\r\n");
    client.send((0..200).map(request).collect::<Vec<_>>().concat());
    for length in 0..200 {
        assert_eq!(client.response().body, pattern::bytes(length));
    }
    let record = origin.record();
    assert_eq!((record.connections.len(), record.request_count), (1, 200));
}

#[test]
fn a_pipelined_request_behind_a_slow_one_waits_for_it() {
    let (origin, warmline) = start();
    let mut client = warmline.connect();
    client.send(
        "GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\nGET /any HTTP/1.1\r\nHost: api.test\r\n\r\n",
    );
    origin.wait_for("the first", |record| record.request_count == 1);
    origin.release();
    assert_eq!(
        (client.response().text(), client.response().text()),
        ("held\n".into(), "hello\n".into())
    );
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn half_of_a_second_request_in_the_first_ones_packet_is_completed_later() {
    let (_origin, warmline) = start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\nGET /bytes/5 HTTP/1.1\r\nHo");
    assert_eq!(client.response().text(), "hello\n");
    client.assert_silent();
    client.send("st: api.test\r\n\r\n");
    assert_eq!(client.response().body, pattern::bytes(5));
}

#[test]
fn trailers_that_are_announced_pass_in_both_directions() {
    let (origin, warmline) = start();
    let mut client = warmline.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTrailer: X-Sum";
    let body = "5\r\nright\r\n0\r\nX-Sum: 7\r\n\r\n";
    for _ in 0..2 {
        client.send(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
        let answer = client.response();
        assert_eq!(answer.text(), "right");
        let trailers: Vec<_> = answer.trailers.iter().map(|(_, value)| value.as_str()).collect();
        // The origin's `/echo` sends back the trailers that reached it.
        assert_eq!(trailers, ["7"]);
    }
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn trailers_that_would_frame_or_route_do_not_go_up() {
    let (_origin, warmline) = start();
    let mut client = warmline.connect();
    let head = "POST /echo HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTrailer: Host, Content-Length, X-Sum";
    let body = "5\r\nright\r\n0\r\nHost: evil.test\r\nContent-Length: 3\r\nX-Sum: 7\r\n\r\n";
    client.send(format!("{head}\r\nTransfer-Encoding: chunked\r\n\r\n{body}"));
    let trailers = client.response().trailers;
    assert_eq!(trailers, [("x-sum".to_string(), "7".to_string())]);
}

#[test]
fn a_get_with_a_body_keeps_it() {
    let (_origin, warmline) = start();
    for framing in [
        "Content-Length: 5\r\n\r\nright",
        "Transfer-Encoding: chunked\r\n\r\n5\r\nright\r\n0\r\n\r\n",
    ] {
        let mut client = warmline.connect();
        client.send(format!("GET /echo HTTP/1.1\r\nHost: api.test\r\n{framing}"));
        assert_eq!(client.response().text(), "right", "{framing}");
    }
}

#[test]
fn an_empty_body_stays_empty_and_framed() {
    let (origin, warmline) = start();
    for framing in ["Content-Length: 0\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"] {
        let mut client = warmline.connect();
        client.send(format!("POST /echo HTTP/1.1\r\nHost: api.test\r\n{framing}"));
        assert_eq!(client.response().text(), "", "{framing}");
        let head = origin.record().last_request().head.clone();
        assert!(head.declared_framing().unwrap().is_some(), "{framing}: {head:#?}");
    }
}

#[test]
fn each_piece_of_a_response_is_handed_on_as_it_comes() {
    let gates: [Gate; 3] = std::array::from_fn(|_| Gate::new());
    let opened = gates.clone();
    let origin = Origin::scripted(move |mut peer| {
        let opened = opened.clone();
        async move {
            peer.request().await;
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            for gate in &opened {
                gate.opened().await;
                peer.write("5\r\npiece\r\n").await;
            }
            peer.write("0\r\n\r\n").await;
            peer.ended().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    client.response_head();
    for gate in &gates {
        client.assert_silent();
        gate.open();
        let mut came = Vec::new();
        while !came.windows(5).any(|bytes| bytes == b"piece") {
            came.extend(client.read_some().expect("a piece"));
        }
    }
}

#[test]
fn each_piece_of_a_request_is_handed_on_as_it_comes() {
    let came = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&came);
    let origin = Origin::scripted(move |mut peer| {
        let counter = Arc::clone(&counter);
        async move {
            let head = peer.head().await.expect("a request");
            let mut count = |bytes: &[u8]| {
                counter.fetch_add(bytes.len() as u64, Relaxed);
            };
            peer.body(&head, &mut count).await.expect("its body");
            peer.answer("whole").await;
            peer.ended().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: 15\r\n\r\n");
    for count in 1..=3 {
        client.send("piece");
        wait_for("the piece", || came.load(Relaxed) == 5 * count);
    }
    assert_eq!(client.response().text(), "whole");
}

#[test]
fn an_upstream_that_reads_nothing_stops_the_client() {
    const MIB: usize = 1024 * 1024;
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let opened = opened.clone();
        async move {
            let head = peer.head().await.expect("a request");
            if head.start.starts_with("POST") {
                opened.opened().await;
            }
            let mut length = 0;
            let _ = peer.body(&head, &mut |bytes| length += bytes.len()).await;
            peer.answer(&length.to_string()).await;
            peer.ended().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let length = 256 * MIB;
    client
        .send(format!("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: {length}\r\n\r\n"));
    let sent = client.send_until_blocked(length);
    assert!(sent < 64 * MIB, "{sent} bytes were taken although nobody reads them");
    // Another client is served meanwhile.
    assert_eq!(warmline.one_shot("/any").text(), "0");
    gate.open();
    let piece = vec![b'x'; MIB];
    let mut left = length - sent;
    while left > 0 {
        let now = left.min(MIB);
        client.send(&piece[..now]);
        left -= now;
    }
    assert_eq!(client.response().text(), length.to_string());
}

#[test]
fn a_client_that_reads_nothing_holds_little() {
    const MIB: u64 = 1024 * 1024;
    let written = Arc::new(AtomicU64::new(0));
    let counter = Arc::clone(&written);
    let origin = Origin::scripted(move |mut peer| {
        let counter = Arc::clone(&counter);
        async move {
            peer.request().await;
            let length = 256 * MIB;
            peer.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")).await;
            let mut sent = 0;
            while sent < length && peer.write(pattern::slice(sent, length - sent)).await {
                sent += pattern::slice(sent, length - sent).len() as u64;
                counter.store(sent, Relaxed);
            }
            peer.ended().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    client.response_head();
    // Resting: an exchange on the same thread goes through, and no byte was written meanwhile.
    let rests = || {
        let before = written.load(Relaxed);
        let other = warmline.connect().get("nobody.test", "/").status == 404;
        thread::sleep(Duration::from_millis(20));
        other && before > 0 && written.load(Relaxed) == before
    };
    wait_for("the upstream's rest", rests);
    assert!(written.load(Relaxed) < 64 * MIB, "{} bytes are held", written.load(Relaxed));
}
