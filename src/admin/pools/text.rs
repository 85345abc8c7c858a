//! `/pools` as text, for people: a block for each upstream, a line for each connection.

use std::{fmt::Write as _, time::SystemTime};

use super::{
    super::{
        moment::Ago,
        on_one_line, refused,
        snapshot::{Snapshot, UpstreamSnapshot},
    },
    phase, total,
};
use crate::{
    pool::{ConnectionPhase, ConnectionView, Reuse},
    telemetry::log::HumanDuration,
    upstream::Failed,
};

/// The format of a line of the table of connections. The peer comes last, because its width varies.
macro_rules! row {
    () => {
        "  {:>6}  {:<10}  {:>7}  {:>8}  {:>10}  {:<11}  {}\n"
    };
}

/// Renders the page: a line about the process, the changes that were refused, then each upstream.
pub(in super::super) fn render(snapshot: &Snapshot) -> String {
    let mut page = format!(
        "warmline {}, up {}, configuration {} from {}\n",
        env!("CARGO_PKG_VERSION"),
        HumanDuration(snapshot.uptime),
        snapshot.configuration.hash(),
        snapshot.configuration.source.as_str(),
    );
    page.push_str(&refused::text(snapshot));
    for upstream in &snapshot.upstreams {
        let _ = writeln!(page, "\n{}  ({})", upstream.name, upstream.endpoint);
        for (topic, text) in summary(upstream) {
            let _ = writeln!(page, "  {topic:<12} {text}");
        }
        connections(&mut page, &upstream.pool.now.connections);
        failures(&mut page, upstream, snapshot.at);
    }
    page
}

/// Returns the lines about an upstream before its table of connections, each as a topic and its text.
fn summary(upstream: &UpstreamSnapshot) -> [(&'static str, String); 7] {
    let (pool, exchanges) = (&upstream.pool, &upstream.counters.exchanges);
    let rejected = pool.counters.rejections.iter().map(|(reason, n)| (reason.as_str(), *n));
    let closed = pool.counters.closed.iter().map(|(reason, n)| (reason.as_str(), *n));
    let classes = exchanges.requests.iter().map(|(code, n)| (code.as_str(), *n));
    let retries = exchanges.retries.iter().map(|(reason, n)| (reason.as_str(), *n));
    [
        ("connections", census(upstream)),
        ("queue", format!("{} waiting, rejected {}", pool.now.queued, list(rejected))),
        ("opened", format!("{}, closed {}", pool.counters.opened, list(closed))),
        ("checkouts", checkouts(upstream)),
        ("handshakes", handshakes(upstream)),
        ("requests", format!("{}, retries {}", list(classes), list(retries))),
        ("latency", latency(upstream)),
    ]
}

/// Returns the latencies of the last minute, as a sentence.
fn latency(upstream: &UpstreamSnapshot) -> String {
    let times = &upstream.times;
    let quantiles = times.request.quantile(0.5).zip(times.request.quantile(0.99));
    match quantiles.zip(times.cost()) {
        Some(((median, p99), cost)) => format!(
            "{median} median, {p99} p99 in the last minute; Warmline adds {} in the mean",
            HumanDuration(cost)
        ),
        None => "no request in the last minute".into(),
    }
}

/// Returns the numbers of connections by state, their sum, the cap and the generation, as a sentence.
fn census(upstream: &UpstreamSnapshot) -> String {
    let census = upstream.pool.now.census;
    format!(
        "{} idle, {} active, {} connecting, {} closing; {} of at most {}; generation {}",
        census.idle,
        census.active,
        census.connecting,
        census.closing,
        census.total(),
        upstream.pool.max,
        upstream.pool.now.generation,
    )
}

/// Returns the number of checkouts, of those that reused a connection with their share, and of the others by reason.
fn checkouts(upstream: &UpstreamSnapshot) -> String {
    let pool = &upstream.pool;
    let rate =
        pool.reuse_rate().map_or_else(String::new, |rate| format!(" ({:.1} %)", rate * 100.0));
    let (all, reused) = (total(&pool.counters.checkouts), pool.reused());
    format!("{all}, reused {reused}{rate}, new {}", list(pool.new_by_reason()))
}

/// Returns the numbers of handshakes by result, zeros included, and their rate, as a sentence.
fn handshakes(upstream: &UpstreamSnapshot) -> String {
    let results = upstream.handshakes_by_result();
    let results: Vec<_> = results.map(|(result, count)| format!("{count} {result}")).collect();
    let rate = &upstream.activity.handshakes;
    format!(
        "{}; {:.1} a second now, peak {:.1} since the start",
        results.join(", "),
        rate.now,
        rate.most
    )
}

/// Returns the sum of the counts with its parts in parentheses: `3 (2 idle, 1 purged)`, `1 (idle)`. Zeros are left out.
fn list(counts: impl Iterator<Item = (&'static str, u64)>) -> String {
    let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
    match counts[..] {
        [] => "0".into(),
        [(name, count)] => format!("{count} ({name})"),
        _ => {
            let sum: u64 = counts.iter().map(|(_, count)| count).sum();
            let parts: Vec<_> = counts.iter().map(|(name, n)| format!("{n} {name}")).collect();
            format!("{sum} ({})", parts.join(", "))
        }
    }
}

/// Appends the table of connections to the page, a line for each; nothing if there are none.
fn connections(page: &mut String, connections: &[ConnectionView]) {
    if connections.is_empty() {
        return;
    }
    let _ =
        write!(page, row!(), "conn", "state", "age", "uses", "generation", "last reason", "peer");
    for connection in connections {
        let _ = write!(
            page,
            row!(),
            connection.id,
            phase(connection.phase),
            HumanDuration(connection.age).to_string(),
            connection.uses,
            generation(connection),
            connection.last_reuse.map_or("-", Reuse::as_str),
            connection.peer.map_or_else(|| "-".into(), |peer| peer.to_string()),
        );
    }
}

/// Returns the connection's generation; `-` before the handshake, which determines it.
fn generation(connection: &ConnectionView) -> String {
    match connection.phase {
        ConnectionPhase::Connecting => "-".into(),
        _ => connection.generation.to_string(),
    }
}

/// Appends the last failures to the page, the newest first.
fn failures(page: &mut String, upstream: &UpstreamSnapshot, now: SystemTime) {
    if upstream.counters.exchanges.failures.is_empty() {
        return;
    }
    page.push_str("  last failures\n");
    for failure in &upstream.counters.exchanges.failures {
        let Failed { by, stage, text, .. } = &failure.what;
        let status = failure.what.outcome();
        let (ago, text) = (Ago(failure.last, now), on_one_line(text));
        let _ = writeln!(page, "    {ago}, {}x  {status}  {by}-{stage}  {text}", failure.times);
    }
}
