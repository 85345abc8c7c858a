//! Uploads whose response begins before the upload's end: both go on, and a client that sends its whole request can
//! read its response.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    thread,
    time::Duration,
};

use crate::support::{
    client::{Client, Ending},
    origin::{self, Connection, Gate, Origin},
    running::Running,
    setup::Setup,
};

const MIB: usize = 1024 * 1024;
const TOO_LARGE: &str =
    "HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 8\r\n\r\ntoo long";

/// Starts an origin that answers once it has a request's head, and sends back each piece of the body as it comes.
fn echoing() -> Origin {
    Origin::scripted(|mut peer| async move {
        while let Some(head) = peer.head().await {
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let mut left: usize = head.field("x-pieces").unwrap().parse().unwrap();
            while left > 0 {
                if !peer.has_unread() && peer.fill().await.is_err() {
                    return;
                }
                let bytes = peer.take();
                let pieces = String::from_utf8_lossy(&bytes).matches("piece").count();
                for _ in 0..pieces {
                    peer.write("5\r\nPIECE\r\n").await;
                }
                left -= pieces;
            }
            peer.write("0\r\n\r\n").await;
        }
        peer.close().await;
    })
    .start()
}

/// Reads a response into `came` until `pieces` pieces have come; returns false if the connection ends before.
fn read_pieces(client: &mut Client, came: &mut Vec<u8>, pieces: usize) -> bool {
    while came.windows(5).filter(|bytes| bytes == b"PIECE").count() < pieces {
        match client.read_some() {
            Ok(bytes) => came.extend(bytes),
            Err(_) => return false,
        }
    }
    true
}

#[test]
fn fault_06_request_and_response_bodies_go_both_ways_at_once() {
    let origin = echoing();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client
        .send("POST /any HTTP/1.1\r\nHost: api.test\r\nx-pieces: 3\r\nContent-Length: 15\r\n\r\n");
    client.response_head();
    let mut came = Vec::new();
    for pieces in 1..=3 {
        client.send("piece");
        assert!(read_pieces(&mut client, &mut came, pieces), "{pieces}");
    }
    let (end, rest) = client.end();
    came.extend(rest);
    assert_eq!((end, came.ends_with(b"0\r\n\r\n")), (Ending::Fin, true));
    // Request and response were both complete, so that the connection serves the next request.
    warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn fault_06_chunks_and_what_follows_them_go_up_after_the_answers_head() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(head) = peer.head().await {
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let mut body = Vec::new();
            let trailers = peer.body(&head, &mut |bytes| body.extend_from_slice(bytes)).await;
            let text = format!("{} {:?}", String::from_utf8_lossy(&body), trailers.unwrap());
            peer.write(format!("{:x}\r\n{text}\r\n0\r\n\r\n", text.len())).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let head = "POST /any HTTP/1.1\r\nHost: api.test\r\nTE: trailers\r\nTrailer: x-sum\r\n";
    client.send(format!("{head}Transfer-Encoding: chunked\r\n\r\n"));
    origin.wait_for("the head", |record| record.request_count == 1);
    client.send("5\r\nright\r\n");
    client.send("0\r\nx-sum: 7\r\n\r\n");
    assert_eq!(client.response().text(), "right [(\"x-sum\", \"7\")]");
    warmline.wait_for_pool("the connection's return", |pool| pool.census.idle == 1);
}

/// Starts an origin that hands each connection to `then` once it has a POST's head, and answers all other requests.
fn early<F>(then: impl Fn(Connection) -> F + Send + Sync + Clone + 'static) -> Origin
where
    F: Future<Output = ()> + Send + 'static,
{
    Origin::scripted(move |mut peer| {
        let then = then.clone();
        async move {
            if let Some(head) = peer.head().await {
                if head.start.starts_with("POST ") {
                    return then(peer).await;
                }
                peer.answer("right").await;
                peer.close().await;
            }
        }
    })
    .start()
}

/// Sends all of a long body before reading; returns the client, and the status and the text of the response.
fn sends_all(warmline: &Running, host: &str, length: usize) -> (Client, u16, String) {
    let mut client = warmline.connect();
    client.send(format!("POST /any HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"));
    let piece = vec![b'x'; MIB];
    for sent in (0..length).step_by(MIB) {
        let sent = client.try_send(&piece[..MIB.min(length - sent)]);
        assert!(sent.is_ok(), "the client cannot send on: {sent:?}");
    }
    let answer = client.response();
    assert_eq!(answer.head.field("connection"), Some("close"));
    (client, answer.status, answer.text())
}

#[test]
fn fault_06_a_client_that_sends_to_its_end_reads_an_early_413() {
    let reading = early(|mut peer| async move {
        peer.write(TOO_LARGE).await;
        peer.close().await;
    });
    let deaf = early(|mut peer| async move {
        peer.write(TOO_LARGE).await;
        peer.reads_nothing().await;
    });
    let resetting = early(|mut peer| async move {
        peer.write(TOO_LARGE).await;
        peer.reset();
    });
    for (origin, how) in [(reading, "reads on"), (deaf, "reads nothing"), (resetting, "resets")] {
        let warmline = Setup::before(&origin).start();
        let (_client, status, text) = sends_all(&warmline, origin::NAME, 32 * MIB);
        assert_eq!((status, text.as_str()), (413, "too long"), "{how}");
        warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
        assert_eq!(warmline.one_shot("/after").text(), "right", "{how}");
    }
}

#[test]
fn fault_06_an_early_answer_comes_whole_from_an_upstream_that_resets_behind_it() {
    let text = "x".repeat(40_000);
    let expected = text.clone();
    let origin = early(move |mut peer| {
        let text = text.clone();
        async move {
            let length = text.len();
            peer.write(format!("HTTP/1.1 413 Large\r\ncontent-length: {length}\r\n\r\n{text}"))
                .await;
            peer.reset();
        }
    });
    let warmline = Setup::before(&origin).start();
    for _ in 0..5 {
        let (_, status, text) = sends_all(&warmline, origin::NAME, 8 * MIB);
        assert_eq!((status, text == expected), (413, true), "{} bytes came", text.len());
    }
}

#[test]
fn fault_06_a_client_that_sends_to_its_end_reads_an_answer_of_ours() {
    let origin = Origin::serving().start();
    let warmline =
        Setup::before(&origin).set("pool.maxConnections", 1).set("pool.maxQueue", 0).start();
    assert_eq!(sends_all(&warmline, "nobody.test", 32 * MIB).1, 404);
    let _holder = warmline.ask("/hold");
    origin.wait_for("the holder", |record| record.request_count == 1);
    assert_eq!(sends_all(&warmline, origin::NAME, 32 * MIB).1, 503);
    origin.release();
}

#[test]
fn fault_06_a_client_whose_header_is_refused_reads_why_when_it_has_sent_the_rest() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\nx-large: ");
    let piece = vec![b'x'; MIB];
    for _ in 0..4 {
        client.try_send(&piece).expect("the rest is read and thrown away");
    }
    assert_eq!(client.response().status, 431);
}

#[test]
fn fault_06_the_bytes_read_of_a_request_that_was_answered_early_are_bounded() {
    let origin = early(|mut peer| async move {
        peer.write(TOO_LARGE).await;
        peer.close().await;
    });
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response().status, 413);
    let piece = vec![b'x'; MIB];
    let sent = (0..1024).take_while(|_| client.try_send(&piece).is_ok()).count();
    assert!(sent < 1024, "it reads on for ever");
}

/// A response that is complete ends the upload, even where the upload could have gone on.
#[test]
fn fault_06_the_upload_ends_with_its_response() {
    let came = Arc::new(AtomicUsize::new(0));
    let (counter, gate) = (Arc::clone(&came), Gate::new());
    let opened = gate.clone();
    let origin = early(move |mut peer| {
        let (counter, opened) = (Arc::clone(&counter), opened.clone());
        async move {
            peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nfirst").await;
            while peer.unread() < 4 {
                peer.fill().await.unwrap();
            }
            opened.opened().await;
            peer.write("other").await;
            let (_, bytes) = peer.ended().await;
            counter.fetch_add(bytes.len(), Relaxed);
            peer.close().await;
        }
    });
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("POST /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100000000\r\n\r\n");
    client.response_head();
    client.send("more");
    gate.open();
    let mut body = Vec::new();
    while body.len() < 10 {
        body.extend(client.read_some().expect("the answer's body"));
    }
    assert_eq!(body, b"firstother");
    for _ in 0..16 {
        let _ = client.try_send(vec![b'x'; MIB]);
    }
    origin.wait_for("the end", |record| record.connections[0].end.is_some());
    let sent = came.load(Relaxed);
    assert!(sent < MIB, "{sent} bytes were sent");
    warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
}

#[test]
fn fault_06_a_client_whose_rest_is_thrown_away_leaves_its_place_to_the_next() {
    let origin = early(|mut peer| async move {
        peer.write(TOO_LARGE).await;
        peer.close().await;
    });
    let warmline = Setup::before(&origin).set_global("listeners.0.limits.connections", 1).start();
    let mut client = warmline.connect();
    client.send("POST /any HTTP/1.1\r\nHost: api.test\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_eq!(client.response().status, 413);
    // The client sends for as long as Warmline reads.
    let sending = thread::spawn(move || {
        while client.try_send("1\r\nx\r\n").is_ok() {
            thread::sleep(Duration::from_millis(10));
        }
    });
    assert_eq!(warmline.one_shot("/after").text(), "right");
    sending.join().expect("its end");
}
