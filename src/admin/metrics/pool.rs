//! The families `pool_*`.

use prometheus::proto::MetricFamily;

use super::{
    super::snapshot::{PoolSnapshot, Snapshot, UpstreamSnapshot},
    counted, every,
    family::{Labels, counters, gauges, histograms, labels},
};
use crate::pool::Reuse;

/// Returns the families about the pools: connections, checkouts, the queue and rejections, for each upstream.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let upstreams = &snapshot.upstreams;
    vec![
        connections(upstreams),
        gauges(
            "warmline_pool_max_connections",
            "The cap on connections to the upstream (pool.maxConnections).",
            each(upstreams, |pool| pool.max as f64),
        ),
        counters(
            "warmline_pool_connections_opened_total",
            "Connections established to the upstream, handshake included.",
            each(upstreams, |pool| pool.counters.opened as f64),
        ),
        counters(
            "warmline_pool_connections_closed_total",
            "Closed connections, by the reason for which the pool gave them up.",
            counted(
                upstreams,
                |u| &u.pool.counters.closed,
                |upstream, reason| labels([("upstream", upstream), ("reason", reason.as_str())]),
            ),
        ),
        counters(
            "warmline_pool_checkouts_total",
            "Connections handed to requests: reused ones (reason none), and new ones by the reason why none could be reused.",
            counted(upstreams, |u| &u.pool.counters.checkouts, checkout),
        ),
        gauges(
            "warmline_pool_queue_length",
            "Requests that wait for a free place because maxConnections is reached.",
            each(upstreams, |pool| pool.now.queued as f64),
        ),
        gauges(
            "warmline_old_generation_connections",
            "Connections made before the certificate, key, trust or another part of their key was replaced.",
            upstreams
                .iter()
                .map(|u| (labels([("upstream", &u.name)]), u.old_generation_connections as f64)),
        ),
        queue_wait(upstreams),
        counters(
            "warmline_pool_rejections_total",
            "Requests answered with 503: the queue was full (maxQueue), or the wait was, or would be, too long (queueTimeout).",
            every(
                upstreams,
                |u| &u.pool.counters.rejections,
                |upstream, reason| labels([("upstream", upstream), ("reason", reason.as_str())]),
            ),
        ),
    ]
}

/// Makes the gauge of each upstream's connections by state: idle, active, connecting and closing, zeros included.
fn connections(upstreams: &[UpstreamSnapshot]) -> MetricFamily {
    let samples = upstreams.iter().flat_map(|upstream| {
        let census = upstream.pool.now.census;
        let states = [
            ("idle", census.idle),
            ("active", census.active),
            ("connecting", census.connecting),
            ("closing", census.closing),
        ];
        states.map(|(state, count)| {
            (labels([("upstream", &upstream.name), ("state", state)]), count as f64)
        })
    });
    gauges(
        "warmline_pool_connections",
        "Connections to the upstream by state; all four together never exceed maxConnections.",
        samples,
    )
}

/// Returns the labels of a checkout: `result` is `reused` or `new`, and `reason` says why a connection is new (`none`
/// if it was reused).
fn checkout(upstream: &str, reuse: Reuse) -> Labels {
    let (result, reason) = match reuse {
        Reuse::Reused => ("reused", "none"),
        new => ("new", new.as_str()),
    };
    labels([("upstream", upstream), ("result", result), ("reason", reason)])
}

/// Makes the histogram of the time that requests waited for a connection at the cap, in seconds, for each upstream.
fn queue_wait(upstreams: &[UpstreamSnapshot]) -> MetricFamily {
    histograms(
        "warmline_pool_queue_wait_seconds",
        "The time that requests with a connection had waited for a free place at maxConnections, in seconds.",
        upstreams.iter().map(|u| (labels([("upstream", &u.name)]), &u.pool.counters.queue_wait)),
    )
}

/// Returns a sample of this value of each upstream's pool, with the label `upstream`.
fn each(
    upstreams: &[UpstreamSnapshot],
    value: impl Fn(&PoolSnapshot) -> f64,
) -> Vec<(Labels, f64)> {
    upstreams.iter().map(|u| (labels([("upstream", &u.name)]), value(&u.pool))).collect()
}
