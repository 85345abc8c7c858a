//! The access log names the side that ended a request and the stage in which it ended.

use crate::support::{
    log_lines::{self, line_of},
    origin::{Gate, Origin},
    running::Running,
    setup::Setup,
};

fn logged(origin: &Origin) -> Setup {
    log_lines::catch();
    Setup::before(origin).set_global("log.access", "errors")
}

/// Returns the count of failures by this side in this stage, which has to agree with the `end` of the access lines.
fn failures(warmline: &Running, by: &str, stage: &str) -> u64 {
    warmline.metric("warmline_request_failures_total", &[("by", by), ("stage", stage)])
}

#[test]
fn a_download_that_the_end_of_the_drain_cuts_off_was_ended_by_us() {
    let origin = Origin::stalling().start();
    let warmline = logged(&origin).set_global("drain", "100ms").start();
    let mut client = warmline.ask("/cut-by-the-drain");
    client.response_head();
    warmline.shutdown();
    client.end();
    let line = line_of("GET /cut-by-the-drain");
    assert_eq!((line.get("end"), line.get("status")), ("us-body", "200"));
    assert!(line.get("error").contains("(drain)"), "{line:?}");
}

#[test]
fn a_download_whose_upstream_falls_silent_was_ended_by_the_upstream() {
    let origin = Origin::stalling().start();
    let warmline = logged(&origin).set("timeouts.idle", "200ms").start();
    warmline.ask("/silent-upstream").end();
    let line = line_of("GET /silent-upstream");
    assert_eq!((line.get("end"), line.get("status")), ("upstream-body", "200"));
    assert!(line.get("error").contains("timeouts.idle"), "{line:?}");
    assert_eq!(failures(&warmline, "upstream", "body"), 1);
}

#[test]
fn a_download_whose_client_reads_nothing_was_ended_by_the_client() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).set("timeouts.idle", "1s").start();
    let _client = warmline.ask("/bytes/1000000000");
    let line = line_of("GET /bytes/1000000000");
    assert_eq!((line.get("end"), line.get("status")), ("downstream-body", "200"));
    assert!(line.get("error").contains("timeouts.idle"), "{line:?}");
}

#[test]
fn a_download_whose_client_leaves_was_ended_by_the_client() {
    let origin = Origin::stalling().start();
    let warmline = logged(&origin).start();
    let mut client = warmline.ask("/client-left");
    client.response_head();
    client.reset();
    let line = line_of("GET /client-left");
    assert_eq!((line.get("end"), line.get("error")), ("downstream-body", ""));
}

#[test]
fn a_client_that_leaves_the_queue_left_in_the_queue() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).set("pool.maxConnections", 1).start();
    let _holder = warmline.ask("/hold");
    origin.wait_for("the holder's request", |record| record.request_count == 1);
    let waiter = warmline.ask("/left-in-the-queue");
    warmline.wait_for_pool("the waiter", |pool| pool.queued == 1);
    drop(waiter);
    assert_eq!(line_of("GET /left-in-the-queue").get("end"), "downstream-queue");
    assert_eq!(failures(&warmline, "downstream", "queue"), 1);
}

#[test]
fn a_client_that_leaves_while_its_connection_is_made_left_while_connecting() {
    let origin = Origin::serving().before_handshake(Gate::new()).start();
    let warmline = logged(&origin).start();
    let client = warmline.ask("/left-while-connecting");
    origin.wait_for("the connection", |record| record.connections.len() == 1);
    drop(client);
    assert_eq!(line_of("GET /left-while-connecting").get("end"), "downstream-connect");
    assert_eq!(failures(&warmline, "downstream", "connect"), 1);
}

#[test]
fn the_content_of_our_own_answers_counts() {
    let origin = Origin::serving().start();
    let warmline = logged(&origin).start();
    let answer = warmline.connect().get("unknown.test", "/own-answer");
    let line = line_of("GET /own-answer");
    assert_eq!((line.get("status"), line.get("end")), ("404", "downstream-request"));
    assert_eq!(failures(&warmline, "downstream", "request"), 1);
    assert_eq!(line.get("bytes"), answer.body.len().to_string());
    assert_eq!(warmline.connect().request("HEAD", "unknown.test", "/own-answer").status, 404);
    assert_eq!(line_of("HEAD /own-answer").get("bytes"), "0");
}
