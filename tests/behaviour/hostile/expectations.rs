//! `Expect: 100-continue` (RFC 9110 section 10.1.1).

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::Relaxed},
};

use crate::support::{
    client::{Client, Ending},
    log_lines::{self, line_of},
    origin::{Connection, Gate, Origin},
    running::Running,
    setup::Setup,
};

const HEAD: &str =
    "POST /any HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 4";

fn expecting(warmline: &Running) -> Client {
    let mut client = warmline.connect();
    client.send(format!("{HEAD}\r\n\r\n"));
    client
}

/// Reads the body that follows this head and answers with its content.
async fn take_body(peer: &mut Connection, head: &crate::support::message::Head) {
    let mut body = Vec::new();
    peer.body(head, &mut |bytes| body.extend_from_slice(bytes)).await.expect("the body");
    peer.answer(&String::from_utf8(body).unwrap()).await;
}

#[test]
fn case_32_a_body_waits_for_the_upstreams_100() {
    let gate = Gate::new();
    let opened = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let opened = opened.clone();
        async move {
            while let Some(head) = peer.head().await {
                assert_eq!(head.field("expect"), Some("100-continue"));
                opened.opened().await;
                assert!(!peer.has_unread(), "the body came before the 100");
                peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
                take_body(&mut peer, &head).await;
            }
            peer.close().await;
        }
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = expecting(&warmline);
    origin.wait_for("the head", |record| record.request_count == 1);
    client.assert_silent();
    gate.open();
    let head = client.response_head();
    assert!(head.start.starts_with("HTTP/1.1 100 "), "{}", head.start);
    client.send("body");
    assert_eq!(client.response().text(), "body");
    client.send(format!("{HEAD}\r\n\r\n"));
    assert!(client.response_head().start.starts_with("HTTP/1.1 100 "));
    client.send("next");
    assert_eq!(client.response().text(), "next");
    assert_eq!(origin.record().connections.len(), 1);
}

#[test]
fn case_32_an_upstream_that_never_says_100_gets_the_body_all_the_same() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(head) = peer.head().await {
            take_body(&mut peer, &head).await;
        }
        peer.close().await;
    })
    .start();
    // An idle limit shorter than the wait for the 100 must not end the exchange before the body may be sent.
    let warmline = Setup::before(&origin).set("timeouts.idle", "300ms").start();
    let mut client = expecting(&warmline);
    assert!(client.response_head().start.starts_with("HTTP/1.1 100 "));
    client.send("body");
    assert_eq!(client.response().text(), "body");
}

#[test]
fn case_32_a_client_that_does_not_wait_is_served() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    let head = HEAD.replace("/any", "/echo");
    client.send(format!("{head}\r\n\r\nbody"));
    assert_eq!(client.response().text(), "body");
    client.send(format!("{head}\r\n\r\nnext"));
    assert_eq!(client.response().text(), "next");
}

/// Starts an origin that answers a request with Expect at once with this status, and counts the bytes of the body that
/// still come.
fn answering_at_once(status: &'static str) -> (Origin, Arc<AtomicUsize>) {
    let came = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&came);
    let origin = Origin::scripted(move |mut peer| {
        let counter = Arc::clone(&counter);
        async move {
            while let Some(head) = peer.head().await {
                if head.field("expect").is_some() {
                    peer.write(format!("HTTP/1.1 {status}\r\ncontent-length: 2\r\n\r\nno")).await;
                    let (_, bytes) = peer.ended().await;
                    counter.fetch_add(bytes.len(), Relaxed);
                    break;
                }
                peer.answer("right").await;
            }
            peer.close().await;
        }
    })
    .start();
    (origin, came)
}

#[test]
fn case_32_after_a_final_answer_at_once_the_body_is_never_sent() {
    for status in ["417 Expectation Failed", "200 OK", "401 Unauthorized"] {
        let (origin, came) = answering_at_once(status);
        let warmline = Setup::before(&origin).start();
        let mut client = expecting(&warmline);
        let answer = client.response();
        assert_eq!((answer.text().as_str(), answer.interim.len()), ("no", 0), "{status}");
        // The announced body comes late; behind the final answer it must not be taken for a request.
        let _ = client.try_send("body");
        origin.wait_for("the end", |record| record.connections[0].end.is_some());
        assert_eq!(came.load(Relaxed), 0, "{status}");
        warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
        assert_eq!(warmline.one_shot("/after").text(), "right", "{status}");
    }
}

#[test]
fn case_32_a_client_that_was_answered_without_its_body_is_told_to_close() {
    let (origin, _) = answering_at_once("417 Expectation Failed");
    let warmline = Setup::before(&origin).start();
    let mut client = expecting(&warmline);
    let answer = client.response();
    assert_eq!((answer.status, answer.head.field("connection")), (417, Some("close")));
    client.half_close();
    assert_eq!(client.end(), (Ending::Fin, Vec::new()));
}

#[test]
fn case_32_a_client_that_sends_its_next_request_in_the_bodys_place_is_not_misunderstood() {
    let (origin, _) = answering_at_once("417 Expectation Failed");
    let warmline = Setup::before(&origin).start();
    let mut client = expecting(&warmline);
    assert_eq!(client.response().status, 417);
    let _ = client.try_send("GET /next HTTP/1.1\r\nHost: api.test\r\n\r\n");
    match client.response_to("GET") {
        Ok(answer) => assert_eq!(answer.text(), "right"),
        Err(broken) => assert_eq!(broken.partial.status, 0, "{broken:#?}"),
    }
}

#[test]
fn case_32_an_answer_of_ours_comes_without_100() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send(format!("{}\r\n\r\n", HEAD.replace("api.test", "nobody.test")));
    let answer = client.response();
    assert_eq!((answer.status, answer.interim.len()), (404, 0));
    let _ = client.try_send("body");
    client.half_close();
    assert_eq!(client.end().1, b"");
}

#[test]
fn fault_06_an_upstream_that_answers_first_and_then_wants_the_body_gets_it() {
    let origin = Origin::scripted(|mut peer| async move {
        while let Some(head) = peer.head().await {
            peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
            let mut body = Vec::new();
            peer.body(&head, &mut |bytes| body.extend_from_slice(bytes)).await.expect("the body");
            peer.write(format!("4\r\n{}\r\n0\r\n\r\n", String::from_utf8(body).unwrap())).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = expecting(&warmline);
    let head = client.response_head();
    assert!(head.start.starts_with("HTTP/1.1 200 "), "{}", head.start);
    client.send("body");
    let (end, body) = client.end();
    assert_eq!((end, body.as_slice()), (Ending::Fin, &b"4\r\nbody\r\n0\r\n\r\n"[..]));
}

#[test]
fn fault_06_a_client_that_keeps_its_body_back_from_such_an_upstream_is_at_fault() {
    log_lines::catch();
    let origin = Origin::scripted(|mut peer| async move {
        peer.head().await;
        peer.write("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin)
        .set("timeouts.idle", "1500ms")
        .set_global("log.access", "errors")
        .start();
    let mut client = warmline.connect();
    client.send(format!("{}\r\n\r\n", HEAD.replace("/any", "/kept-back")));
    client.response_head();
    assert_eq!(client.end().0, Ending::Reset);
    let line = line_of("POST /kept-back");
    assert_eq!(line.get("end"), "downstream-body", "{line:?}");
    assert!(line.get("error").contains("the client sent no byte of its request"), "{line:?}");
}
