//! A connection that has been idle for a while rests: its HTTP buffers are freed, without a difference for either peer.

use crate::support::{
    log_lines,
    origin::{End, Gate, Handshakes, Origin},
    running::Running,
    setup::Setup,
};

/// Starts an origin that ends the first connection after its answer, once the gate is open: with these bytes, then
/// politely. Returns Warmline and the gate too.
fn ending(last_words: &'static str) -> (Origin, Running, Gate) {
    let gate = Gate::new();
    let opening = gate.clone();
    let origin = Origin::scripted(move |mut peer| {
        let gate = gate.clone();
        async move {
            while peer.request().await.is_some() {
                peer.answer("ok").await;
                if peer.number() == 0 {
                    gate.opened().await;
                    if !last_words.is_empty() {
                        peer.write(last_words).await;
                    }
                    return peer.close().await;
                }
            }
        }
    })
    .start();
    log_lines::catch();
    let warmline = Setup::before(&origin).start();
    (origin, warmline, opening)
}

fn its_end_is_seen_while_it_rests(last_words: &'static str) {
    let (origin, warmline, gate) = ending(last_words);
    assert_eq!(warmline.one_shot("/first").status, 200);
    log_lines::rests(origin.port(), 1);
    gate.open();
    warmline.wait_for_pool("the pool's notice", |pool| pool.census.total() == 0);
    assert_eq!(warmline.connect().post("api.test", "/second", "body").status, 200);
    let record = origin.record();
    assert_eq!((record.connections.len(), record.requests.len()), (2, 2));
}

#[test]
fn a_connection_that_rested_carries_the_next_request_and_rests_again() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("threads", 2).start();
    log_lines::catch();
    for (target, rests) in [("/any", 1), ("/chunked/100000", 2)] {
        assert_eq!(warmline.one_shot(target).status, 200, "{target}");
        log_lines::rests(origin.port(), rests);
    }
    assert_eq!(warmline.connect().post("api.test", "/echo", "body").text(), "body");
    let record = origin.record();
    assert_eq!((record.connections.len(), record.request_count), (1, 3));
    assert_eq!(record.handshakes(), Handshakes { full: 1, resumed: 0 });
}

#[test]
fn a_connection_that_its_peer_closes_while_it_rests_is_gone_at_once() {
    its_end_is_seen_while_it_rests("");
}

#[test]
fn bytes_that_come_while_a_connection_rests_end_it() {
    its_end_is_seen_while_it_rests("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil");
}

#[test]
fn a_connection_that_rests_is_closed_politely_when_the_end_comes() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    log_lines::catch();
    assert_eq!(warmline.one_shot("/any").status, 200);
    log_lines::rests(origin.port(), 1);
    warmline.shutdown();
    warmline.join();
    origin.wait_for("its end", |record| record.open == 0);
    assert_eq!(origin.record().ends(), [Some(End::Polite)]);
}
