//! In every way in which a connection can end, Warmline ends its side with `close_notify` and FIN, and writes nothing
//! after it.

use crate::support::{
    origin::{End, Origin},
    setup::Setup,
    wait_for,
};

/// Waits for the first connection's end, and asserts that it was polite.
fn assert_polite(origin: &Origin) {
    origin.wait_for("the connection's end", |record| record.connections[0].end.is_some());
    let record = origin.record();
    assert_eq!(record.connections[0].end, Some(End::Polite));
    assert_eq!(record.connections[0].bytes_after_close, 0);
}

fn idle_connection_ends(key: &str, value: &str, reason: &str) {
    for origin in [Origin::serving().start(), Origin::serving().tls12().start()] {
        let warmline = Setup::before(&origin).set(key, value).start();
        warmline.one_shot("/any");
        assert_polite(&origin);
        warmline.wait_for_closed(reason, 1);
    }
}

#[test]
fn a_connection_that_was_idle_for_too_long_ends_politely() {
    idle_connection_ends("pool.idleTimeout", "100ms", "idle");
}

#[test]
fn a_connection_that_became_too_old_ends_politely() {
    idle_connection_ends("pool.maxAge", "100ms", "aged");
}

#[test]
fn a_connection_that_may_not_be_idle_ends_politely() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("pool.maxIdle", 0).start();
    warmline.one_shot("/any");
    assert_polite(&origin);
    warmline.wait_for_closed("purged", 1);
}

#[test]
fn a_connection_that_carried_its_requests_ends_politely() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("pool.maxRequests", 3).start();
    for _ in 0..4 {
        warmline.one_shot("/any");
    }
    assert_polite(&origin);
    let requests: Vec<_> = origin.record().connections.iter().map(|c| c.requests).collect();
    assert_eq!(requests, [3, 1]);
    warmline.wait_for_closed("requests", 1);
}

#[test]
fn a_surplus_connection_is_purged_politely_but_the_newest_stays() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("pool.purgeDelay", "100ms").start();
    let mut clients = [warmline.connect(), warmline.connect(), warmline.connect()];
    for client in &mut clients {
        client.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    }
    origin.wait_for("three requests", |record| record.request_count == 3);
    origin.release();
    origin.wait_for("two ends", |record| record.open == 1);
    let record = origin.record();
    let ends = record.ends().into_iter().flatten();
    assert_eq!(ends.collect::<Vec<_>>(), [End::Polite, End::Polite]);
    assert_eq!(warmline.one_shot("/any").status, 200);
    assert_eq!(origin.record().connections.len(), 3);
}

/// Asserts that Warmline ends the connection politely after a response of these bytes.
fn ends_politely_after(bytes: &'static str) {
    let origin = Origin::scripted(move |mut peer| async move {
        peer.request().await;
        peer.write(bytes).await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    let mut client = warmline.connect();
    client.send("GET /any HTTP/1.1\r\nHost: api.test\r\n\r\n");
    let _ = client.response_to("GET");
    assert_polite(&origin);
}

#[test]
fn a_connection_that_the_upstream_asks_to_close_ends_politely() {
    ends_politely_after("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok");
}

#[test]
fn a_connection_with_a_malformed_response_ends_politely() {
    ends_politely_after("HTTP/1.1 2OO OK\r\n\r\n");
}

#[test]
fn a_connection_with_a_malformed_body_ends_politely() {
    ends_politely_after("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n");
}

#[test]
fn a_connection_with_bytes_after_its_response_ends_politely() {
    ends_politely_after("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok and more");
}

#[test]
fn a_connection_whose_response_never_comes_ends_politely() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.ended().await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("timeouts.response", "100ms").start();
    assert_eq!(warmline.one_shot("/any").status, 504);
    assert_polite(&origin);
}

#[test]
fn a_connection_that_the_upstream_closes_while_idle_is_answered_politely() {
    let origin = Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.answer("ok").await;
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    warmline.one_shot("/any");
    assert_polite(&origin);
    warmline.wait_for_closed("peer-closed", 1);
}

#[test]
fn the_ends_of_connections_are_counted_by_side_and_manner() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("pool.idleTimeout", "100ms").start();
    warmline.one_shot("/any");
    assert_polite(&origin);
    let polite = || {
        let labels = [("side", "upstream"), ("how", "polite")];
        warmline.metric("warmline_connection_ends_total", &labels)
    };
    wait_for("the count of a polite end", || polite() > 0);
}
