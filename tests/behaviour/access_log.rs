//! The access log tells the truth: who ended a request, and in which stage.

use crate::support::{
    access_log::{self, line_of},
    client::Client,
    origin::{self, Gate, Origin},
    running::Running,
    setup::Setup,
};

/// Half a body, then nothing until the connection's end.
fn stalling() -> Origin {
    Origin::scripted(|mut peer| async move {
        peer.request().await;
        peer.write("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf").await;
        peer.ended().await;
        peer.close().await;
    })
    .start()
}

fn logged(origin: &Origin) -> Setup {
    access_log::catch();
    Setup::before(origin).set_global("log.access", "errors")
}

fn ask(warmline: &Running, target: &str) -> Client {
    let mut client = warmline.connect();
    client.send(format!("GET {target} HTTP/1.1\r\nHost: {}\r\n\r\n", origin::NAME));
    client
}

#[test]
fn a_download_that_the_end_of_the_drain_cuts_off_was_ended_by_us() {
    let origin = stalling();
    let warmline = logged(&origin).set_global("drain", "100ms").start();
    let mut client = ask(&warmline, "/cut-by-the-drain");
    client.response_head();
    warmline.shutdown();
    client.end();
    let line = line_of("GET /cut-by-the-drain");
    assert_eq!((line.get("end"), line.get("status")), ("us-body", "200"));
    assert!(line.get("error").contains("(drain)"), "{line:?}");
}

#[test]
fn a_download_whose_upstream_falls_silent_was_ended_by_the_upstream() {
    let origin = stalling();
    let warmline = logged(&origin).set("timeouts.idle", "200ms").start();
    ask(&warmline, "/silent-upstream").end();
    let line = line_of("GET /silent-upstream");
    assert_eq!((line.get("end"), line.get("status")), ("upstream-body", "200"));
    assert!(line.get("error").contains("timeouts.idle"), "{line:?}");
}

#[test]
fn a_download_whose_client_reads_nothing_was_ended_by_the_client() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).set("timeouts.idle", "200ms").start();
    let _client = ask(&warmline, "/bytes/1000000000");
    let line = line_of("GET /bytes/1000000000");
    assert_eq!((line.get("end"), line.get("status")), ("downstream-body", "200"));
    assert!(line.get("error").contains("timeouts.idle"), "{line:?}");
}

#[test]
fn a_download_whose_client_leaves_was_ended_by_the_client() {
    let origin = stalling();
    let warmline = logged(&origin).start();
    let mut client = ask(&warmline, "/client-left");
    client.response_head();
    client.reset();
    let line = line_of("GET /client-left");
    assert_eq!((line.get("end"), line.get("error")), ("downstream-body", ""));
}

#[test]
fn a_client_that_leaves_the_queue_left_in_the_queue() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).set("pool.maxConnections", 1).start();
    let _holder = ask(&warmline, "/hold");
    origin.wait_for("the holder's request", |record| record.request_count == 1);
    let waiter = ask(&warmline, "/left-in-the-queue");
    warmline.wait_for_pool("the waiter", |pool| pool.queued == 1);
    drop(waiter);
    assert_eq!(line_of("GET /left-in-the-queue").get("end"), "downstream-queue");
}

#[test]
fn a_client_that_leaves_while_its_connection_is_made_left_while_connecting() {
    let origin = Origin::serving().before_handshake(Gate::new()).start();
    let warmline = logged(&origin).start();
    let client = ask(&warmline, "/left-while-connecting");
    origin.wait_for("the connection", |record| record.connections.len() == 1);
    drop(client);
    assert_eq!(line_of("GET /left-while-connecting").get("end"), "downstream-connect");
}

#[test]
fn the_content_of_our_own_answers_counts() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).start();
    let answer = warmline.connect().get("unknown.test", "/own-answer");
    let line = line_of("GET /own-answer");
    assert_eq!((line.get("status"), line.get("end")), ("404", "downstream-request"));
    assert_eq!(line.get("bytes"), answer.body.len().to_string());
    assert_eq!(warmline.connect().request("HEAD", "unknown.test", "/own-answer").status, 404);
    assert_eq!(line_of("HEAD /own-answer").get("bytes"), "0");
}
