//! 408 with `Connection: close` as the first bytes on a connection that was idle: an idle close announced by a
//! response, which crosses a request.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use crate::support::{
    client::Response,
    lives::Lives,
    origin::{self, Origin},
    running::Running,
    setup::Setup,
    wait_for,
};

const CLOSES: &str =
    "HTTP/1.1 408 Request Timeout\r\nConnection: Close\r\ncontent-length: 4\r\n\r\nidle";
const OLD: &str = "HTTP/1.0 408 Request Time-out\r\nconnection: foo, close\r\n\r\nidle";
const OLDER: &str = "HTTP/1.0 408 Request Time-out\r\ncontent-length: 4\r\n\r\nidle";
const TO_THE_END: &str = "HTTP/1.1 408 Request Timeout\r\n\r\nidle";
const KEPT: &str =
    "HTTP/1.0 408 Request Time-out\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\nslow";
const CHUNKED: &str =
    "HTTP/1.1 408 Request Timeout\r\ntransfer-encoding: chunked\r\n\r\n4\r\nslow\r\n0\r\n\r\n";
const STAYS: &str = "HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nslow";
const ASKED: &str = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 408 Request Timeout\r\nConnection: close\r\ncontent-length: 4\r\n\r\nslow";

/// Starts an origin that answers `answers` requests on its first connection and then sends `last`; later connections
/// are served.
fn saying(answers: usize, last: &'static str) -> Origin {
    Origin::scripted(move |mut peer| async move {
        let mut left = if peer.number() == 0 { answers } else { usize::MAX };
        while let Some(head) = peer.head().await {
            if left == 0 {
                peer.write(last).await;
                break;
            }
            left -= 1;
            let mut body = Vec::new();
            peer.body(&head, &mut |bytes| body.extend_from_slice(bytes)).await.unwrap();
            peer.answer(&format!("right {}", String::from_utf8_lossy(&body))).await;
        }
        peer.close().await;
    })
    .start()
}

fn ask(warmline: &Running, method: &str, body: &str) -> Response {
    let mut client = warmline.connect();
    let (host, length) = (origin::NAME, body.len());
    let head = format!("{method} /any HTTP/1.1\r\nHost: {host}\r\nx-id: it\r\n");
    client.send(format!("{head}Content-Length: {length}\r\n\r\n{body}"));
    client.response()
}

#[test]
fn fault_09_a_408_that_closes_a_used_connection_is_no_answer_and_what_can_be_is_sent_again() {
    for last in [CLOSES, OLD, OLDER, TO_THE_END] {
        for (method, body) in [("GET", ""), ("PUT", "body"), ("DELETE", "")] {
            let origin = saying(1, last);
            let warmline = Setup::before(&origin).start();
            assert_eq!(warmline.one_shot("/first").status, 200);
            let answer = ask(&warmline, method, body);
            assert_eq!((answer.status, answer.text()), (200, format!("right {body}")), "{method}");
            assert_eq!(origin.record().connections.len(), 2);
            let labels = [("reason", "unanswered")];
            assert_eq!(warmline.metric("warmline_retries_total", &labels), 1);
            // The connection counts as closed while idle.
            warmline.wait_for_closed("stale", 1);
        }
    }
}

#[test]
fn fault_09_a_408_that_closes_a_warm_connection_which_was_never_used_is_no_answer_either() {
    let origin = saying(0, CLOSES);
    let warmline = Setup::before(&origin).set("pool.minIdle", 1).start();
    warmline.wait_for_pool("one is idle", |pool| pool.census.idle == 1);
    let answer = ask(&warmline, "GET", "");
    assert_eq!((answer.status, answer.text()), (200, "right ".to_owned()));
    warmline.wait_for_closed("stale", 1);
    assert_eq!(warmline.closed("unfit"), 0);
}

#[test]
fn fault_09_a_post_that_crossed_such_a_408_is_not_sent_again() {
    let origin = saying(1, CLOSES);
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/first").status, 200);
    let answer = ask(&warmline, "POST", "body");
    assert_eq!(answer.status, 502);
    assert!(answer.text().contains("408"), "{}", answer.text());
    assert_eq!(origin.record().deliveries["it"], 1);
}

#[test]
fn fault_09_any_other_408_is_the_answer() {
    for (answers, last) in
        [(0, CLOSES), (0, TO_THE_END), (1, STAYS), (1, ASKED), (1, KEPT), (1, CHUNKED)]
    {
        let origin = saying(answers, last);
        let warmline = Setup::before(&origin).start();
        for _ in 0..answers {
            assert_eq!(warmline.one_shot("/first").status, 200);
        }
        assert_eq!(ask(&warmline, "GET", "").status, 408, "{answers} {last}");
        assert_eq!(origin.record().connections.len(), 1);
    }
}

#[test]
fn fault_09_a_408_to_a_client_that_keeps_its_request_back_is_the_answer() {
    let origin = saying(1, CLOSES);
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/first").status, 200);
    let mut client = warmline.connect();
    client.send("PUT /any HTTP/1.1\r\nHost: api.test\r\nContent-Length: 100\r\n\r\nhalf");
    assert_eq!(client.response().status, 408);
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn fault_09_such_a_408_teaches_how_long_connections_may_be_idle_as_any_idle_close_does() {
    let (lives, over) = (Lives::default(), Arc::new(AtomicUsize::new(0)));
    let (idle, count) = (lives.clone(), Arc::clone(&over));
    let origin = Origin::scripted(move |mut peer| {
        let (idle, count) = (idle.clone(), Arc::clone(&count));
        async move {
            while peer.request().await.is_some() {
                peer.answer("right").await;
                if let Some(life) = idle.of(peer.number()) {
                    tokio::time::sleep(life).await;
                    count.fetch_add(1, SeqCst);
                    peer.request().await;
                    peer.write(CLOSES).await;
                    return peer.close().await;
                }
            }
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(warmline.one_shot("/any").status, 200);
    let lessons = lives.teach(&warmline, |number| {
        wait_for("the end of an idle time", || over.load(SeqCst) == number);
        // The request crosses the 408 and is sent again on the next connection.
        assert_eq!(warmline.one_shot("/any").status, 200);
    });
    assert_eq!(origin.record().connections.len(), lessons + 1);
}
