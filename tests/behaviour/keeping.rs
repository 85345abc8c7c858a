//! Keeping connections: the reuse modes, the warm floor, and what the upstream announces by Keep-Alive.

use serde_json::json;

use crate::support::{
    authority::Authority,
    client::Client,
    log_lines,
    origin::{self, End, Origin},
    running::Running,
    setup::Setup,
    wait_for,
};

fn in_mode(mode: &str) -> (Origin, Running) {
    let origin = Origin::serving().start();
    let warmline = Setup::before(&origin).set("pool.reuse", mode).start();
    (origin, warmline)
}

fn get(client: &mut Client) {
    assert_eq!(client.get(origin::NAME, "/any").status, 200);
}

/// Starts an origin that announces by Keep-Alive that it keeps idle connections for a second.
fn keeping_a_second() -> Origin {
    let origin = Origin::scripted(|mut peer| async move {
        while peer.request().await.is_some() {
            peer.write("HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 0\r\n\r\n")
                .await;
        }
        peer.close().await;
    });
    origin.start()
}

/// Connects two clients that send requests in turn, twice each.
fn two_in_turn(warmline: &Running) -> [Client; 2] {
    let mut clients = [warmline.connect(), warmline.connect()];
    for _ in 0..2 {
        clients.iter_mut().for_each(get);
    }
    clients
}

/// Returns for each request so far the number of the connection that carried it.
fn carried(origin: &Origin) -> Vec<usize> {
    origin.read(|record| record.requests.iter().map(|request| request.connection).collect())
}

#[test]
fn safe_gives_a_client_s_first_request_a_connection_of_its_own_and_later_ones_any() {
    let (origin, warmline) = in_mode("safe");
    two_in_turn(&warmline);
    assert_eq!(carried(&origin), [0, 1, 1, 1]);
    let policy = warmline.metric("warmline_pool_checkouts_total", &[("reason", "policy")]);
    assert_eq!(policy, 2, "each client's first");
}

#[test]
fn aggressive_gives_a_first_request_only_a_connection_that_was_reused_before() {
    let (origin, warmline) = in_mode("aggressive");
    let mut first = warmline.connect();
    get(&mut first);
    get(&mut warmline.connect());
    get(&mut first);
    get(&mut warmline.connect());
    assert_eq!(carried(&origin), [0, 1, 1, 1]);
}

#[test]
fn never_keeps_a_connection_for_its_client_alone_and_ends_it_with_that() {
    let (origin, warmline) = in_mode("never");
    let [first, mut second] = two_in_turn(&warmline);
    assert_eq!(carried(&origin), [0, 1, 0, 1]);
    drop(first);
    origin.wait_for("its connection ends with it", |record| {
        record.ends() == [Some(End::Polite), None]
    });
    get(&mut second);
    assert_eq!(carried(&origin), [0, 1, 0, 1, 1]);
}

#[test]
fn another_reuse_mode_applies_in_place() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).start_following();
    get(&mut warmline.connect());
    warmline.set("upstreams.0.pool.reuse", "safe").apply();
    get(&mut warmline.connect());
    warmline.set("upstreams.0.pool.reuse", "always").apply();
    get(&mut warmline.connect());
    assert_eq!(carried(&origin), [0, 1, 1]);
}

#[test]
fn a_warm_floor_is_dialled_before_any_request_and_refilled_when_the_upstream_closes() {
    let origin = Origin::scripted(|mut peer| async move {
        if peer.request().await.is_some() {
            peer.answer("closing").await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).set("pool.minIdle", 2).start();
    warmline.wait_for_pool("two are idle", |pool| pool.census.idle == 2);
    assert_eq!(warmline.one_shot("/any").status, 200);
    warmline.wait_for_pool("two are idle again", |pool| {
        pool.census.idle == 2 && pool.census.total() == 2
    });
    assert_eq!(origin.record().connections.len(), 3);
    assert_eq!(carried(&origin), [1], "a warm one, the newest");
}

#[test]
fn the_threads_dial_for_the_warm_floor_in_turn() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("threads", 2).set("pool.minIdle", 4);
    let warmline = setup.start();
    warmline.wait_for_pool("four are idle", |pool| pool.census.idle == 4);
    let pool = warmline.pool("origin");
    let mut threads: Vec<_> = pool.connections.iter().map(|view| view.thread).collect();
    threads.sort_unstable();
    assert_eq!(threads, [0, 0, 1, 1]);
}

#[test]
fn a_rotation_refills_the_warm_floor() {
    let origin = Origin::serving().start();
    let mut warmline = Setup::before(&origin).set("pool.minIdle", 2).start_following();
    warmline.wait_for_pool("two are idle", |pool| pool.census.idle == 2);
    warmline.set("upstreams.0.tls.minVersion", "1.3").apply();
    warmline.wait_for_pool("two of the new generation are idle", |pool| {
        pool.census.idle == 2 && pool.connections.iter().all(|view| view.generation == 1)
    });
}

#[test]
fn a_required_upstream_without_its_warm_connections_is_named_by_readyz_until_it_has_them() {
    let gate = origin::Gate::new();
    let origin = Origin::serving().before_handshake(gate.clone()).start();
    let setup = Setup::before(&origin).set("pool.minIdle", 1);
    let warmline = setup.set_global("readiness", json!({ "requireUpstreams": ["origin"] })).start();
    let ready = || warmline.health("/readyz");
    let cold = ready();
    assert_eq!(cold.status, 503);
    let told = "[-]upstream origin failed: 0 of 1 connections are there (pool.minIdle)";
    assert!(cold.text().contains(told), "{}", cold.text());
    assert_eq!(warmline.health("/startupz").status, 200);
    gate.open();
    wait_for("it is ready", || ready().status == 200);
}

#[test]
fn warm_connections_that_the_upstream_refuses_after_the_handshake_make_nothing_ready_and_are_told()
{
    let origin = Origin::serving().requires(&Authority::new("another")).start();
    let setup = Setup::before(&origin).set("pool.minIdle", 1);
    let warmline = setup.set_global("readiness", json!({ "requireUpstreams": ["origin"] })).start();
    let failed = || warmline.metric("warmline_tls_handshakes_total", &[("result", "failed")]);
    wait_for("two were refused", || failed() >= 2);
    assert_eq!(warmline.health("/readyz").status, 503);
    let told = warmline.admin("/pools").text();
    assert!(
        told.contains("refused our client certificate (tls.identity) with the alert"),
        "{told}"
    );
    let upstream = warmline.upstream("origin");
    assert_eq!((upstream.pool().learned(), upstream.pool().closes_at_any_time()), (None, false));
}

#[test]
fn an_announced_keep_alive_timeout_retires_a_connection_before_the_upstream_would_close_it() {
    let origin = keeping_a_second();
    let warmline = Setup::before(&origin).start();
    let answer = warmline.one_shot("/any");
    assert_eq!((answer.status, answer.head.field("keep-alive")), (200, None));
    origin.wait_for("we close first, long before 55 s", |record| {
        record.ends() == [Some(End::Polite)]
    });
    let learned = warmline.upstream("origin").pool().learned().map(|learned| learned.limit);
    assert_eq!(learned, Some(std::time::Duration::from_millis(500)));
}

#[test]
fn an_announced_maximum_of_requests_retires_a_connection_before_it_is_refused() {
    let origin = Origin::scripted(|mut peer| async move {
        let mut left = 3;
        while peer.request().await.is_some() {
            left -= 1;
            let fields = format!("keep-alive: max={left}\r\ncontent-length: 0\r\n");
            peer.write(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await;
        }
        peer.close().await;
    })
    .start();
    let warmline = Setup::before(&origin).start();
    for _ in 0..7 {
        assert_eq!(warmline.one_shot("/any").status, 200);
    }
    assert_eq!(carried(&origin), [0, 0, 0, 1, 1, 1, 2]);
    warmline.wait_for_closed("requests", 2);
}

#[test]
fn readyz_says_why_a_warm_connection_is_missing() {
    let setup = Setup::new().upstream_at("origin", "127.0.0.1:1").set("pool.minIdle", 1);
    let warmline = setup.set_global("readiness", json!({ "requireUpstreams": ["origin"] })).start();
    wait_for("the reason", || {
        let ready = warmline.health("/readyz");
        ready.status == 503
            && ready.text().contains("could not be made: ")
            && ready.text().contains("127.0.0.1:1")
    });
}

#[test]
fn a_timeout_above_what_the_upstream_keeps_is_named_once_in_the_log() {
    log_lines::catch();
    let origin = keeping_a_second();
    let setup = Setup::new().upstream("told-once", &origin).set("hosts", json!(["api.test"]));
    let warmline = setup.start();
    for ends in 1..=3 {
        assert_eq!(warmline.one_shot("/any").status, 200);
        origin.wait_for("its end", |record| record.ends() == vec![Some(End::Polite); ends]);
    }
    assert_eq!(log_lines::about("told-once", "before pool.idleTimeout"), 1);
}

#[test]
fn the_warm_floor_is_refilled_after_idle_timeouts() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("pool.minIdle", 1).set("pool.idleTimeout", "100ms");
    let warmline = setup.start();
    origin.wait_for("three in a row", |record| record.connections.len() >= 3);
    warmline.wait_for_pool("never more than the floor and one that closes", |pool| {
        pool.census.total() <= 2
    });
}
