//! `/pools` as JSON, for programs.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{
    super::{
        moment::Moment,
        refused,
        snapshot::{Snapshot, UpstreamSnapshot},
    },
    phase,
};
use crate::{
    pool::{ConnectionView, Reuse},
    telemetry::{log::seconds, recent::Noted},
    upstream::Failed,
};

/// Renders the page, one JSON object.
pub(in super::super) fn render(snapshot: &Snapshot) -> String {
    let page = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptimeSeconds": seconds(snapshot.uptime),
        "configuration": {
            "hash": snapshot.configuration.hash(),
            "source": snapshot.configuration.source.as_str(),
        },
        "refused": refused::json(snapshot),
        "upstreams": snapshot.upstreams.iter().map(upstream).collect::<Vec<_>>(),
    });
    format!("{page:#}\n")
}

/// Returns the object of one upstream: its pool, requests, handshakes and last failures, and each connection.
fn upstream(upstream: &UpstreamSnapshot) -> Value {
    let (pool, exchanges) = (&upstream.pool, &upstream.counters.exchanges);
    let (handshakes, requests) = (&upstream.activity.handshakes, &upstream.activity.requests);
    json!({
        "name": upstream.name,
        "endpoint": upstream.endpoint,
        "counts": counts(upstream),
        "generation": pool.now.generation,
        "queued": pool.now.queued,
        "rejections": object(pool.counters.rejections.iter().map(|(reason, n)| (reason.as_str(), *n))),
        "opened": pool.counters.opened,
        "closed": object(pool.counters.closed.iter().map(|(reason, n)| (reason.as_str(), *n))),
        "checkouts": { "reused": pool.reused(), "new": object(pool.new_by_reason()) },
        "reuseRate": pool.reuse_rate(),
        "handshakes": object(upstream.handshakes_by_result()),
        "handshakesPerSecond": { "now": handshakes.now, "most": handshakes.most },
        "requestsPerSecond": { "now": requests.now, "most": requests.most },
        "latencySeconds": latency(upstream),
        "oldGenerationConnections": upstream.old_generation_connections,
        "learnedIdleSeconds": pool.learned.map(|learned| seconds(learned.limit)),
        "closesAtAnyTime": pool.closes_at_any_time,
        "failures": exchanges.failures.iter().map(failure).collect::<Vec<_>>(),
        "requests": object(exchanges.requests.iter().map(|(code, n)| (code.as_str(), *n))),
        "retries": object(exchanges.retries.iter().map(|(reason, n)| (reason.as_str(), *n))),
        "retriesRefused": object(exchanges.retries_refused.iter().map(|(reason, n)| (reason.as_str(), *n))),
        "connections": pool.now.connections.iter().map(connection).collect::<Vec<_>>(),
    })
}

/// Returns the object of one kind of failure: its status (null if the response was broken off, or if a dial for the
/// warm floor failed), the side at fault (`by`), the stage, the number of times and the last time. Equal failures are
/// one entry.
fn failure(failure: &Noted<Failed>) -> Value {
    let Failed { status, by, stage, text } = &failure.what;
    json!({
        "status": status,
        "by": by.as_str(),
        "stage": stage.as_str(),
        "text": text,
        "times": failure.times,
        "last": Moment(failure.last).to_string(),
    })
}

/// Returns the latencies of the last minute's requests, in seconds: estimates of median and 99th percentile, the mean,
/// and the mean that Warmline added. All four are null without a request.
fn latency(upstream: &UpstreamSnapshot) -> Value {
    let times = &upstream.times;
    json!({
        "median": times.request.quantile(0.5).map(|time| seconds(time.about())),
        "p99": times.request.quantile(0.99).map(|time| seconds(time.about())),
        "mean": times.request.mean().map(seconds),
        "added": times.cost().map(seconds),
    })
}

/// Returns the numbers of connections by state, and the cap (`max`).
fn counts(upstream: &UpstreamSnapshot) -> Value {
    let census = upstream.pool.now.census;
    json!({
        "idle": census.idle,
        "active": census.active,
        "connecting": census.connecting,
        "closing": census.closing,
        "max": upstream.pool.max,
    })
}

/// Returns the object of one connection. `worker` is the number of the thread that drives it; `peer` is null until the
/// connection is established; `lastReason`, why its last checkout was, or was not, a reuse, is null before the first.
fn connection(connection: &ConnectionView) -> Value {
    json!({
        "id": connection.id,
        "state": phase(connection.phase),
        "ageSeconds": seconds(connection.age),
        "uses": connection.uses,
        "generation": connection.generation,
        "worker": connection.thread,
        "peer": connection.peer.map(|peer| peer.to_string()),
        "lastReason": connection.last_reuse.map(Reuse::as_str),
    })
}

/// Makes an object of all counts, zeros included, so that a program need not check for missing keys.
fn object(counts: impl Iterator<Item = (&'static str, u64)>) -> BTreeMap<&'static str, u64> {
    counts.collect()
}
