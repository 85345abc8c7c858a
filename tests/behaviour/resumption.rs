//! TLS sessions: after a polite end the next connection resumes, and a session that the peer refuses is counted as
//! refused.

use crate::support::{
    client::Client,
    origin::{Handshakes, Origin, Resumption},
    running::Running,
    setup::Setup,
};

/// Sends five requests after each of which the origin closes, so that each needs a handshake.
fn five_connections(warmline: &Running) {
    for _ in 0..5 {
        assert_eq!(warmline.one_shot("/close").status, 200);
    }
}

fn counted(warmline: &Running, result: &str, version: &str) -> u64 {
    let labels = [("result", result), ("version", version)];
    warmline.metric("warmline_tls_handshakes_total", &labels)
}

fn all_but_the_first_resume(resumption: Resumption) {
    let tls12 = Origin::serving().tls12().resumption(resumption).start();
    let tls13 = Origin::serving().resumption(resumption).start();
    for (origin, version) in [(tls12, "1.2"), (tls13, "1.3")] {
        let warmline = Setup::before(&origin).start();
        five_connections(&warmline);
        let expected = Handshakes { full: 1, resumed: 4 };
        assert_eq!(origin.record().handshakes(), expected, "TLS {version}");
        let told = (counted(&warmline, "full", version), counted(&warmline, "resumed", version));
        assert_eq!(told, (1, 4), "TLS {version}");
    }
}

#[test]
fn sessions_that_the_origin_keeps_are_resumed() {
    all_but_the_first_resume(Resumption::Sessions);
}

#[test]
fn stateless_tickets_are_resumed() {
    all_but_the_first_resume(Resumption::Tickets);
}

#[test]
fn a_session_that_the_origin_forgot_counts_as_refused() {
    let tls12 = Origin::serving().tls12().start();
    let tls13 = Origin::serving().start();
    for (origin, version) in [(tls12, "1.2"), (tls13, "1.3")] {
        let warmline = Setup::before(&origin).start();
        warmline.one_shot("/close");
        origin.forget_sessions();
        warmline.one_shot("/close");
        assert_eq!(origin.record().handshakes(), Handshakes { full: 2, resumed: 0 });
        let told = (counted(&warmline, "full", version), counted(&warmline, "refused", version));
        assert_eq!(told, (1, 1), "TLS {version}");
    }
}

#[test]
fn without_sessions_every_handshake_is_full_and_none_refused() {
    let origin = Origin::serving().resumption(Resumption::None).start();
    let warmline = Setup::before(&origin).start();
    five_connections(&warmline);
    assert_eq!(origin.record().handshakes(), Handshakes { full: 5, resumed: 0 });
    assert_eq!((counted(&warmline, "full", "1.3"), counted(&warmline, "refused", "1.3")), (5, 0));
}

#[test]
fn sessions_are_shared_by_all_threads() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set_global("threads", 4).start();
    five_connections(&warmline);
    assert_eq!(origin.record().handshakes(), Handshakes { full: 1, resumed: 4 });
}

#[test]
fn several_tickets_let_several_connections_resume_at_once() {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).start();
    warmline.one_shot("/close");
    let mut clients = [warmline.connect(), warmline.connect()];
    for client in &mut clients {
        client.send("GET /hold HTTP/1.1\r\nHost: api.test\r\n\r\n");
    }
    origin.wait_for("both requests", |record| record.request_count == 3);
    assert_eq!(origin.record().handshakes(), Handshakes { full: 1, resumed: 2 });
}

/// Connects `count` clients whose requests the origin holds at the same time, each on a connection of its own.
fn hold_at_once(origin: &Origin, warmline: &Running, count: usize) -> Vec<Client> {
    let before = origin.read(|record| record.request_count);
    let clients: Vec<_> = (0..count).map(|_| warmline.ask("/hold")).collect();
    origin.wait_for("all requests", |record| record.request_count == before + count);
    clients
}

#[test]
fn a_raised_cap_lets_as_many_connections_resume_at_once() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.maxConnections", 1).start_following();
    assert_eq!(warmline.one_shot("/close").status, 200);
    warmline.set("upstreams.0.pool.maxConnections", 2).apply();
    assert_eq!(warmline.one_shot("/close").status, 200);
    let _held = hold_at_once(&origin, &warmline, 2);
    assert_eq!(origin.record().handshakes(), Handshakes { full: 1, resumed: 3 });
}

#[test]
fn a_lowered_cap_keeps_no_more_sessions_than_it_has_connections() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.maxConnections", 4).start_following();
    for _ in 0..2 {
        assert_eq!(warmline.one_shot("/close").status, 200);
    }
    warmline.set("upstreams.0.pool.maxConnections", 1).apply();
    assert_eq!(warmline.one_shot("/close").status, 200);
    warmline.set("upstreams.0.pool.maxConnections", 2).apply();
    let _held = hold_at_once(&origin, &warmline, 2);
    assert_eq!(origin.record().handshakes(), Handshakes { full: 2, resumed: 3 });
}

#[test]
fn min_version_is_kept() {
    let origin = Origin::serving().tls12().start();
    let warmline = Setup::before(&origin).set("tls.minVersion", "1.3").start();
    let answer = warmline.one_shot("/any");
    assert_eq!((answer.status, origin.read(|record| record.request_count)), (502, 0));
    assert_eq!(counted(&warmline, "failed", "none"), 1);
}
