//! Configurations and certificates change a thousand times while requests go on without a pause: nothing is lost,
//! delivered twice or left over.

use std::{
    collections::HashSet,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
    time::Instant,
};

use serde_json::{Value, json};

use crate::support::{
    authority::Authority,
    client::{Client, Response},
    origin::{Origin, Record},
    running::Running,
    setup::Setup,
    wait_for,
};

const RELOADS: usize = 1_000;
const CLIENTS: usize = 6;
/// The number of reloads after which the identity changes; that makes a hundred changes.
const ROTATION: usize = 10;
/// The number of generations after all reloads: a hundred by the identity, and fifty by `tls.serverName`.
const GENERATIONS: u64 = 150;

/// The configurations, one for each turn.
struct Turns {
    document: Value,
    /// The upstream that comes and goes.
    guest: Value,
    /// The values of `tls.identity`, one for each certificate.
    identities: Vec<Value>,
}

impl Turns {
    /// Takes the set-up's first upstream as permanent, and the second as the one that comes and goes.
    fn of(setup: &Setup) -> Self {
        let mut document: Value = serde_json::from_str(&setup.text()).unwrap();
        let guest = document["upstreams"].as_array_mut().unwrap().pop().unwrap();
        let identity = |number: usize| {
            let identity = Authority::shared().client("warmline");
            let files = identity.write(setup.folder(), &format!("rotated-{number}"));
            json!({ "certificate": files.certificate, "key": files.key })
        };
        Self { document, guest, identities: (0..3).map(identity).collect() }
    }

    fn turn(&mut self, turn: usize) -> &Value {
        let upstream = &mut self.document["upstreams"][0];
        let pool = &mut upstream["pool"];
        pool["maxConnections"] = [4, 16, 8, 32][turn % 4].into();
        pool["reuse"] = ["always", "safe", "aggressive", "never"][turn / 4 % 4].into();
        pool["minIdle"] = [0, 2, 1][turn % 3].into();
        pool["maxIdle"] = [-1, 4][turn / 2 % 2].into();
        upstream["timeouts"]["response"] = ["30s", "20s"][turn % 2].into();
        upstream["retries"]["max"] = [2, 1][turn % 2].into();
        upstream["hosts"] =
            [json!(["api.test"]), json!(["other.test", "api.test"])][turn % 2].take();
        upstream["tls"]["verifyName"] = "api.test".into();
        upstream["tls"]["serverName"] = ["api.test", "none"][(turn + 5) / 20 % 2].into();
        upstream["tls"]["identity"] = self.identities[turn / ROTATION % 3].clone();
        let upstreams = self.document["upstreams"].as_array_mut().unwrap();
        upstreams.truncate(1);
        if turn % 7 < 3 {
            upstreams.push(self.guest.clone());
        }
        &self.document
    }
}

/// Sends requests without a pause, GET and POST in turn, until `over`; returns their number. The first client's
/// responses are long, so that reloads take place within them.
fn load(warmline: &Running, client: usize, over: &AtomicBool) -> usize {
    let mut connection = warmline.connect();
    let length = if client == 0 { 1_000_000 } else { 100 };
    let mut sent = 0;
    while !over.load(Relaxed) {
        let id = format!("{client}-{sent}");
        let answer = ask(&mut connection, &id, length, sent % 2 == 0);
        assert_eq!((answer.status, answer.body.len()), (200, length), "{id}: {}", answer.text());
        sent += 1;
    }
    sent
}

fn ask(client: &mut Client, id: &str, length: usize, reads: bool) -> Response {
    let head = format!("/bytes/{length} HTTP/1.1\r\nHost: api.test\r\nx-id: {id}\r\n");
    client.send(if reads {
        format!("GET {head}\r\n")
    } else {
        format!("POST {head}Content-Length: 4\r\n\r\nbody")
    });
    client.response()
}

fn assert_each_was_delivered_once(record: &Record, sent: usize) {
    assert_eq!(record.duplicates(), Vec::<&str>::new(), "delivered twice");
    assert_eq!((record.deliveries.len(), record.request_count), (sent, sent));
}

/// Asserts that one upstream and one generation are left, and only the sockets that the pool has.
fn assert_nothing_is_left_over(warmline: &Running, origin: &Origin) {
    wait_for("no connection of an older generation", || {
        warmline.metric("warmline_old_generation_connections", &[]) == 0
    });
    let pools =
        || -> Value { serde_json::from_str(&warmline.admin("/pools?format=json").text()).unwrap() };
    wait_for("the guest is gone", || pools()["upstreams"].as_array().unwrap().len() == 1);
    let pool = warmline.pool("origin");
    assert_eq!(pool.generation, GENERATIONS);
    assert!(pool.connections.iter().all(|c| c.generation == GENERATIONS), "{pool:?}");
    wait_for("no socket is left over", || {
        origin.read(|record| record.open) == warmline.pool("origin").census.total()
    });
}

fn a_thousand_reloads(threads: usize) {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set_global("threads", threads).upstream("guest", &origin);
    let setup = setup.set("hosts", vec!["guest.test"]).set("pool.minIdle", 1);
    let mut turns = Turns::of(&setup);
    let warmline = setup.start();
    let (over, sent) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _ends_all = Over(&over);
        for client in 0..CLIENTS {
            let (warmline, over, sent) = (&warmline, &over, &sent);
            scope.spawn(move || sent.fetch_add(load(warmline, client, over), Relaxed));
        }
        for turn in 0..RELOADS {
            warmline.reconfigure(turns.turn(turn));
            // At least one request reaches the origin in each turn.
            let seen = origin.read(|record| record.request_count);
            origin.wait_for("the load goes on", |record| record.request_count > seen);
        }
    });
    let sent = sent.into_inner();
    assert!(sent > RELOADS, "{sent} requests are no load");
    let record = origin.record();
    assert_each_was_delivered_once(&record, sent);
    assert_eq!(certificates_shown(&record), turns.identities.len() + 1, "and the guest's");
    assert_nothing_is_left_over(&warmline, &origin);
}

/// Returns the number of different client certificates that the origin saw.
fn certificates_shown(record: &Record) -> usize {
    let handshakes = record.connections.iter().filter_map(|c| c.handshake.as_ref());
    handshakes.map(|h| &h.client_certificate).collect::<HashSet<_>>().len()
}

/// A guard that ends the load when dropped, also by a panic.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Relaxed);
    }
}

#[test]
fn a_thousand_reloads_and_a_hundred_rotations_under_load_lose_nothing() {
    a_thousand_reloads(1);
}

#[test]
fn a_thousand_reloads_and_a_hundred_rotations_under_load_lose_nothing_on_two_threads() {
    a_thousand_reloads(2);
}

/// Returns true if the newest connection's handshake named the server.
fn named_last(record: &Record) -> bool {
    let last = record.connections.last().and_then(|connection| connection.handshake.as_ref());
    last.unwrap().server_name.is_some()
}

#[test]
fn whatever_an_operator_drains_meanwhile_new_connections_are_as_was_configured_last() {
    let origin = Origin::serving().start();
    let setup = Setup::before(&origin).set("tls.verifyName", "api.test");
    let mut document: Value = serde_json::from_str(&setup.text()).unwrap();
    let warmline = setup.start();
    let upstream = warmline.upstream("origin");
    for turn in 0..100 {
        let named = turn % 2 == 1;
        document["upstreams"][0]["tls"]["serverName"] =
            if named { "api.test" } else { "none" }.into();
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            let _ends_all = Over(&over);
            scope.spawn(|| {
                while !over.load(Relaxed) {
                    upstream.replace_connections(Instant::now());
                }
            });
            warmline.reconfigure(&document);
        });
        assert_eq!(warmline.one_shot("/any").status, 200);
        assert_eq!(origin.read(named_last), named, "in turn {turn}");
        let pool = warmline.pool("origin");
        assert!(pool.connections.iter().all(|c| c.generation == pool.generation), "{pool:?}");
    }
}
