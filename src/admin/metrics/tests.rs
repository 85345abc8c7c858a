//! The exposition's content and format.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use http::StatusCode;

use super::{
    super::{
        State,
        snapshot::Snapshot,
        tests::{NOT_AFTER, NOT_BEFORE, state},
    },
    *,
};
use crate::{
    pool::Reuse,
    telemetry::ends::{Facing, Manner},
    tls::{Handshake, VerifyFailure, Version},
    upstream::{Code, Party, RetryReason, RetryRefusal, Stage},
};

fn exposition(state: &State) -> String {
    render(&Snapshot::counts(state, Instant::now())).unwrap()
}

/// Checks the text format, and returns each series with its value.
fn series(text: &str) -> HashMap<String, f64> {
    let mut series = HashMap::new();
    let mut families = HashSet::new();
    let (mut name, mut kind) = (String::new(), String::new());
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            name = rest.split_once(' ').expect("a help text").0.to_owned();
            assert!(families.insert(name.clone()), "{name} comes twice");
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (named, of) = rest.split_once(' ').unwrap();
            assert_eq!(named, name, "the type stands behind its help");
            kind = of.to_owned();
        } else {
            let (key, value) = line.rsplit_once(' ').unwrap();
            check_key(key, &name, &kind);
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            assert!(series.insert(key.to_owned(), value).is_none(), "{key} comes twice");
        }
    }
    series
}

fn check_key(key: &str, family: &str, kind: &str) {
    let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
    let suffix = name.strip_prefix(family).unwrap_or_else(|| panic!("{key} in {family}"));
    let suffixes: &[_] = if kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
    assert!(suffixes.contains(&suffix), "{key} in {family}");
    assert_eq!(kind == "counter", family.ends_with("_total"), "{family} is a {kind}");
    let mut rest = labels;
    while rest != "}" {
        let (label, value) = rest.split_once("=\"").unwrap_or_else(|| panic!("{key}"));
        assert!(label.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{key}");
        let end = end_of(value).unwrap_or_else(|| panic!("{key}"));
        rest = value[end + 1..].trim_start_matches(',');
    }
}

/// Returns the index of the quote that ends a label's value.
fn end_of(value: &str) -> Option<usize> {
    let mut escaped = false;
    value
        .char_indices()
        .find(|(_, c)| {
            let ends = *c == '"' && !escaped;
            escaped = *c == '\\' && !escaped;
            ends
        })
        .map(|(at, _)| at)
}

#[test]
fn an_idle_process_has_under_150_series_and_each_further_upstream_under_70() {
    let none = series(&exposition(&state(&[]))).len();
    let one = series(&exposition(&state(&["payments"]))).len();
    let two = series(&exposition(&state(&["payments", "orders"]))).len();
    assert!(one < 150, "{one} series with one upstream");
    assert!(two - one < 70 && one - none == two - one, "{none}, {one}, {two} series");
}

#[test]
fn gauges_histograms_requests_and_rare_failures_exist_before_anything_happened_and_nothing_else_does()
 {
    let series = series(&exposition(&state(&["payments"])));
    let families: HashSet<_> = series.keys().map(|key| key.split('{').next().unwrap()).collect();
    for name in [
        "warmline_pool_connections",
        "warmline_pool_max_connections",
        "warmline_pool_queue_length",
        "warmline_pool_queue_wait_seconds_bucket",
        "warmline_tls_handshake_seconds_count",
        "warmline_request_seconds_sum",
        "warmline_upstream_seconds_bucket",
        "warmline_config_last_reload_successful",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "process_virtual_memory_bytes",
        "process_open_fds",
        "process_start_time_seconds",
    ] {
        assert!(families.contains(name), "{name} is missing: {families:?}");
    }
    for code in Code::ALL {
        for upstream in ["payments", "_none"] {
            let key = format!("warmline_requests_total{{upstream=\"{upstream}\",code=\"{code}\"}}");
            assert_eq!(series.get(&key), Some(&0.0), "{key}");
        }
    }
    for (name, labels) in [
        ("tls_verify_failures", "reason=\"expired\""),
        ("pool_rejections", "reason=\"queue-full\""),
        ("retries", "reason=\"unanswered\""),
        ("retries_refused", "reason=\"budget\""),
    ] {
        let key = format!("warmline_{name}_total{{upstream=\"payments\",{labels}}}");
        assert_eq!(series.get(&key), Some(&0.0), "{key}: increase() misses what begins at 1");
    }
    for name in ["warmline_pool_checkouts_total", "warmline_tls_handshakes_total"] {
        assert!(!families.contains(name), "{name} was never counted");
    }
}

#[test]
fn counts_appear_under_their_labels() {
    let state = state(&["payments"]);
    let upstream = state.upstreams.share()[0].upstream.clone();
    let (pool, counters) = (upstream.pool().counters(), upstream.counters());
    pool.opened.add(2);
    pool.checkouts.increment(Reuse::Reused);
    pool.checkouts.increment(Reuse::PeerClosed);
    counters.handshakes.increment((Handshake::Resumed, Version::Tls13));
    counters.handshakes.increment((Handshake::Failed, Version::None));
    counters.verify_failures.increment(VerifyFailure::Name);
    counters.exchanges.requests.increment(Code::of(StatusCode::NOT_FOUND));
    counters.exchanges.retries.increment(RetryReason::NotSent);
    counters.exchanges.retries_refused.increment(RetryRefusal::Budget);
    counters.exchanges.failed.increment((Party::Upstream, Stage::Connect));
    state.proxy.unrouted.requests.increment(Code::ClientError);
    state.proxy.unrouted.failed.increment((Party::Client, Stage::Request));
    state.ends.increment((Facing::Client, Manner::Reset));
    let series = series(&exposition(&state));
    for (key, value) in [
        (
            "pool_max_connections{upstream=\"payments\"}",
            upstream.settings().pool.max_connections as f64,
        ),
        ("pool_connections_opened_total{upstream=\"payments\"}", 2.0),
        ("pool_checkouts_total{upstream=\"payments\",result=\"reused\",reason=\"none\"}", 1.0),
        ("pool_checkouts_total{upstream=\"payments\",result=\"new\",reason=\"peer-closed\"}", 1.0),
        ("tls_handshakes_total{upstream=\"payments\",result=\"resumed\",version=\"1.3\"}", 1.0),
        ("tls_handshakes_total{upstream=\"payments\",result=\"failed\",version=\"none\"}", 1.0),
        ("tls_verify_failures_total{upstream=\"payments\",reason=\"name\"}", 1.0),
        ("requests_total{upstream=\"payments\",code=\"4xx\"}", 1.0),
        ("requests_total{upstream=\"_none\",code=\"4xx\"}", 1.0),
        ("request_failures_total{upstream=\"payments\",by=\"upstream\",stage=\"connect\"}", 1.0),
        ("request_failures_total{upstream=\"_none\",by=\"downstream\",stage=\"request\"}", 1.0),
        ("retries_total{upstream=\"payments\",reason=\"not-sent\"}", 1.0),
        ("retries_refused_total{upstream=\"payments\",reason=\"budget\"}", 1.0),
        ("connection_ends_total{side=\"downstream\",how=\"reset\"}", 1.0),
        ("config_info{hash=\"5a5e35f84ff0525a\",source=\"file\"}", 1.0),
        ("client_certificate_expiry_timestamp_seconds{upstream=\"payments\"}", NOT_AFTER as f64),
        (
            "client_certificate_not_before_timestamp_seconds{upstream=\"payments\"}",
            NOT_BEFORE as f64,
        ),
        ("trust_expiry_timestamp_seconds{upstream=\"payments\"}", NOT_AFTER as f64),
    ] {
        assert_eq!(series.get(&format!("warmline_{key}")), Some(&value), "{key}");
    }
}

#[test]
fn a_histogram_counts_each_bucket_with_all_below_it() {
    let state = state(&["payments"]);
    let upstream = state.upstreams.share()[0].upstream.clone();
    let seconds = &upstream.counters().handshake_seconds;
    for millis in [1, 4, 4, 30, 5_000] {
        seconds.observe(Duration::from_millis(millis));
    }
    let text = exposition(&state);
    series(&text);
    let lines: Vec<_> = text
        .lines()
        .filter_map(|line| line.strip_prefix("warmline_tls_handshake_seconds"))
        .map(|line| line.replace("upstream=\"payments\"", ""))
        .collect();
    assert_eq!(
        lines,
        [
            "_bucket{,le=\"0.001\"} 1",
            "_bucket{,le=\"0.005\"} 3",
            "_bucket{,le=\"0.02\"} 3",
            "_bucket{,le=\"0.05\"} 4",
            "_bucket{,le=\"0.1\"} 4",
            "_bucket{,le=\"0.25\"} 4",
            "_bucket{,le=\"1\"} 4",
            "_bucket{,le=\"+Inf\"} 5",
            "_sum{} 5.039",
            "_count{} 5",
        ]
    );
}

#[test]
fn label_values_are_escaped() {
    let state = state(&["payments"]);
    let mut snapshot = Snapshot::take(&state, Instant::now());
    snapshot.upstreams[0].name = "a\"b\\c\nd".into();
    let text = render(&snapshot).unwrap();
    series(&text);
    assert!(
        text.contains("warmline_pool_queue_length{upstream=\"a\\\"b\\\\c\\nd\"} 0\n"),
        "{text}"
    );
}
