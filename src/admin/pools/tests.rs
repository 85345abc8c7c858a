//! `/pools` as text and as JSON.

use std::time::{Duration, Instant, SystemTime};

use super::super::{State, sampler::RecentActivity, snapshot::Snapshot, tests::state};
use crate::{
    pool::{Census, ConnectionPhase, ConnectionView, EndReason, Reuse},
    tls::{Handshake, Version},
    upstream::{Code, Failed, Party, RetryReason, Stage},
};

/// Makes a state with two upstreams: a used one and an unused one.
fn used() -> std::sync::Arc<State> {
    let state = state(&["payments", "orders"]);
    let upstream = state.upstreams.share()[0].upstream.clone();
    let (pool, counters) = (upstream.pool().counters(), upstream.counters());
    pool.opened.add(3);
    pool.closed.increment(EndReason::Idle);
    pool.closed.increment(EndReason::Purged);
    pool.checkouts.increment(Reuse::First);
    (0..39).for_each(|_| pool.checkouts.increment(Reuse::Reused));
    counters.handshakes.increment((Handshake::Full, Version::Tls13));
    counters.handshakes.increment((Handshake::Resumed, Version::Tls13));
    counters.handshakes.increment((Handshake::Resumed, Version::Tls12));
    counters.exchanges.requests.increment(Code::Success);
    counters.exchanges.request_seconds.observe(Duration::from_millis(42));
    counters.exchanges.added_seconds.observe(Duration::from_millis(2));
    counters.exchanges.retries.increment(RetryReason::NotSent);
    state
}

fn snapshot(state: &State) -> Snapshot {
    let mut snapshot = Snapshot::take(state, Instant::now());
    snapshot.uptime = Duration::from_secs(90);
    let payments = &mut snapshot.upstreams[0];
    let start = Instant::now();
    payments.activity = RecentActivity::new(start);
    payments.activity.handshakes.sample(start + Duration::from_secs(1), 3);
    payments.activity.handshakes.sample(start + Duration::from_secs(2), 4);
    payments.pool.now.census = Census { idle: 1, connecting: 1, ..Census::default() };
    let idle = ConnectionView {
        id: 17,
        phase: ConnectionPhase::Idle,
        age: Duration::from_millis(41_300),
        uses: 8,
        peer: Some("203.0.113.7:443".parse().unwrap()),
        generation: 2,
        thread: 1,
        last_reuse: Some(Reuse::Reused),
    };
    let connecting = ConnectionView {
        id: 18,
        phase: ConnectionPhase::Connecting,
        age: Duration::from_millis(2),
        uses: 0,
        peer: None,
        generation: 0,
        thread: 0,
        last_reuse: None,
    };
    payments.pool.now.connections = vec![idle, connecting];
    snapshot
}

#[test]
fn the_text_tells_counts_rates_reasons_and_each_connection() {
    let state = used();
    let page = super::text::render(&snapshot(&state));
    let version = env!("CARGO_PKG_VERSION");
    let wanted = format!(
        "\
warmline {version}, up 90s, configuration 5a5e35f84ff0525a from file

payments  (payments.example:443)
  connections  1 idle, 0 active, 1 connecting, 0 closing; 2 of at most 100; generation 0
  queue        0 waiting, rejected 0
  opened       3, closed 2 (1 idle, 1 purged)
  checkouts    40, reused 39 (97.5 %), new 1 (first)
  handshakes   1 full, 2 resumed, 0 refused, 0 failed; 1.0 a second now, peak 3.0 since the start
  requests     1 (2xx), retries 1 (not-sent)
  latency      42ms median, 42ms p99 in the last minute; Warmline adds 2.0ms in the mean
    conn  state           age      uses  generation  last reason  peer
      17  idle            41s         8           2  reused       203.0.113.7:443
      18  connecting    2.0ms         0           -  -            -

orders  (orders.example:443)
  connections  0 idle, 0 active, 0 connecting, 0 closing; 0 of at most 100; generation 0
  queue        0 waiting, rejected 0
  opened       0, closed 0
  checkouts    0, reused 0, new 0
  handshakes   0 full, 0 resumed, 0 refused, 0 failed; 0.0 a second now, peak 0.0 since the start
  requests     0, retries 0
  latency      no request in the last minute
"
    );
    assert_eq!(page, wanted);
}

#[test]
fn the_json_holds_the_same() {
    let state = used();
    let page = super::json::render(&snapshot(&state));
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    let payments = &page["upstreams"][0];
    assert_eq!(page["configuration"]["hash"], "5a5e35f84ff0525a");
    assert_eq!(payments["counts"]["idle"], 1);
    assert_eq!(payments["counts"]["max"], 100);
    assert_eq!(payments["generation"], 0);
    assert_eq!(payments["reuseRate"], 0.975);
    assert_eq!(payments["checkouts"]["new"]["first"], 1);
    assert_eq!(payments["handshakes"]["resumed"], 2);
    assert_eq!(payments["handshakesPerSecond"], serde_json::json!({ "now": 1.0, "most": 3.0 }));
    let latency = &payments["latencySeconds"];
    assert_eq!((latency["mean"].as_f64(), latency["added"].as_f64()), (Some(0.042), Some(0.002)));
    assert_eq!(latency["median"], latency["p99"]);
    let none = serde_json::json!({ "median": null, "p99": null, "mean": null, "added": null });
    assert_eq!(page["upstreams"][1]["latencySeconds"], none);
    let idle = serde_json::json!({
        "id": 17, "state": "idle", "ageSeconds": 41.3, "uses": 8, "generation": 2, "worker": 1,
        "peer": "203.0.113.7:443", "lastReason": "reused",
    });
    assert_eq!(payments["connections"][0], idle);
    assert_eq!(page["upstreams"][1]["reuseRate"], serde_json::Value::Null);
}

#[test]
fn the_last_failures_are_told_on_a_line_each() {
    let state = state(&["payments"]);
    let upstream = state.upstreams.share()[0].upstream.clone();
    let failures = &upstream.counters().exchanges.failures;
    let failed = Failed::new(
        Some(502),
        Party::Upstream,
        Stage::Connect,
        "no\x1b[2J\nTCP \"connection's\"".into(),
    );
    failures.note(failed.clone(), SystemTime::now());
    failures.note(failed, SystemTime::now());
    let page = super::text::render(&Snapshot::take(&state, Instant::now()));
    let told = "  last failures\n    just now, 2x  502  upstream-connect  \
                no\\u{1b}[2J\\nTCP \"connection's\"\n";
    assert!(page.ends_with(told), "{page}");
}
