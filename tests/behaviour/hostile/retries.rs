//! Connections that end before, during or after a request (RFC 9112 section 9.3.1, RFC 9110 section 9.2.2).

use super::Then;
use crate::support::{
    client::Response,
    origin::{Connection, Origin},
    running::Running,
    setup::Setup,
};

const ENDS: [Then; 3] = [Then::Closes, Then::Truncates, Then::Resets];

async fn end(mut peer: Connection, how: Then) {
    match how {
        Then::Resets => return peer.reset(),
        Then::Truncates => peer.half_close_without_notify().await,
        _ => peer.half_close().await,
    }
    peer.close().await;
}

fn ask(warmline: &Running, method: &str, body: &str) -> Response {
    let mut client = warmline.connect();
    let length = match body {
        "" => String::new(),
        _ => format!("content-length: {}\r\n", body.len()),
    };
    client.send(format!("{method} /any HTTP/1.1\r\nHost: api.test\r\n{length}\r\n{body}"));
    client.response_to(method).unwrap_or_else(|broken| panic!("{method}: {broken:#?}"))
}

#[test]
fn case_01_a_connection_that_ended_while_idle_is_noticed_by_no_client() {
    for how in ENDS {
        let origin = Origin::scripted(move |mut peer| async move {
            peer.request().await;
            peer.answer("ok").await;
            end(peer, how).await;
        })
        .start();
        let warmline = Setup::before(&origin).start();
        for (method, body) in [("GET", ""), ("POST", "once"), ("PATCH", "once"), ("POST", "")] {
            assert_eq!(ask(&warmline, method, body).text(), "ok", "{method} {how:?}");
            warmline.wait_for_pool("the pool's notice", |pool| pool.census.total() == 0);
        }
        let record = origin.record();
        assert_eq!((record.request_count, record.connections.len()), (4, 4), "{how:?}");
    }
}

/// Starts an origin that ends its first `count` connections after reading a request, without a byte of a response;
/// later connections answer.
fn ending(count: usize, how: Then) -> Origin {
    Origin::scripted(move |mut peer| async move {
        while peer.request().await.is_some() {
            if peer.number() < count {
                return end(peer, how).await;
            }
            peer.answer("").await;
        }
        peer.close().await;
    })
    .start()
}

#[test]
fn case_02_an_idempotent_request_without_an_answer_is_sent_once_more() {
    for how in ENDS {
        for method in ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"] {
            let origin = ending(1, how);
            let warmline = Setup::before(&origin).start();
            assert_eq!(ask(&warmline, method, "").status, 200, "{method} {how:?}");
            let record = origin.record();
            let used: Vec<_> = record.connections.iter().map(|c| c.requests).collect();
            assert_eq!(used, [1, 1], "{method} {how:?}");
            warmline.wait_for_pool("one idle", |pool| {
                pool.census.idle == 1 && pool.census.total() == 1
            });
        }
    }
}

#[test]
fn case_02_a_post_without_an_answer_is_502_and_was_sent_once() {
    for how in ENDS {
        for (method, body) in [("POST", "once"), ("POST", ""), ("PATCH", "once")] {
            let origin = ending(1, how);
            let warmline = Setup::before(&origin).start();
            let answer = ask(&warmline, method, body);
            assert_eq!(answer.status, 502, "{method} {how:?}");
            let status = answer.head.field("proxy-status").expect("the reason");
            assert!(status.contains("error=http_response_incomplete"), "{status}");
            assert_eq!(origin.record().request_count, 1, "{method} {how:?}");
            warmline.wait_for_pool("its end", |pool| pool.census.total() == 0);
            assert_eq!(ask(&warmline, method, body).status, 200, "{method} {how:?}");
        }
    }
}

#[test]
fn case_02_on_a_connection_that_was_used_before_it_is_the_same() {
    for how in ENDS {
        let origin = Origin::scripted(move |mut peer| async move {
            peer.request().await;
            peer.answer("ok").await;
            if peer.request().await.is_some() && peer.number() == 0 {
                return end(peer, how).await;
            }
            peer.answer("ok").await;
            peer.close().await;
        })
        .start();
        let warmline = Setup::before(&origin).start();
        assert_eq!(ask(&warmline, "GET", "").status, 200);
        assert_eq!(ask(&warmline, "POST", "once").status, 502, "{how:?}");
        assert_eq!(origin.record().request_count, 2, "{how:?}");
    }
}

#[test]
fn case_02_an_idempotent_request_whose_body_was_sent_is_sent_once_more() {
    for how in ENDS {
        for method in ["PUT", "DELETE", "OPTIONS"] {
            let origin = ending(1, how);
            let warmline = Setup::before(&origin).start();
            assert_eq!(ask(&warmline, method, "body").status, 200, "{method} {how:?}");
            assert_eq!(origin.record().request_count, 2, "{method} {how:?}");
        }
    }
}

#[test]
fn case_02_an_idempotent_request_whose_body_is_still_held_is_sent_once_more() {
    let origin = Origin::scripted(|mut peer| async move {
        let head = peer.head().await.expect("a request");
        if peer.number() == 0 {
            return peer.close().await;
        }
        peer.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        peer.body(&head, &mut |_| ()).await.expect("the body");
        peer.answer("ok").await;
        peer.ended().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send(
        "PUT /any HTTP/1.1\r\nHost: api.test\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n",
    );
    let head = client.response_head();
    assert!(head.start.contains(" 100 "), "{}", head.start);
    client.send("body");
    assert_eq!(client.response().text(), "ok");
}

#[test]
fn case_02_retries_end_at_their_limit() {
    for (limit, sent) in [(0, 1), (1, 2), (2, 3)] {
        let origin = ending(usize::MAX, Then::Closes);
        let warmline = Setup::before(&origin).set("retries.max", limit).start();
        let answer = ask(&warmline, "GET", "");
        let times = ["once", "2 times", "3 times"][sent - 1];
        assert_eq!(answer.status, 502);
        assert!(answer.text().contains(&format!("sent {times},")), "{}", answer.text());
        assert_eq!(origin.record().request_count, sent, "retries.max {limit}");
        warmline.wait_for_pool("all ends", |pool| pool.census.total() == 0);
    }
}

#[test]
fn case_02_a_request_whose_answer_had_begun_is_never_sent_again() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("H").await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    assert_eq!(ask(&warmline, "GET", "").status, 502);
    assert_eq!(origin.record().request_count, 1);
}
