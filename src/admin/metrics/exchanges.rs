//! `requests_total`, the times of requests, failures and retries.

use prometheus::proto::MetricFamily;

use super::{
    super::snapshot::{Snapshot, UpstreamSnapshot},
    every,
    family::{Labels, counters, histograms, labels},
};
use crate::upstream::ExchangesSnapshot;

/// The label `upstream` of requests for which no upstream was chosen. The underscore keeps it apart from configured
/// names, which cannot contain one.
const NONE: &str = "_none";

/// Returns the families about requests: their number, failures and durations, also for requests for which no upstream
/// was chosen; then the upstreams' times and the retries, made and refused.
pub(super) fn families(snapshot: &Snapshot) -> Vec<MetricFamily> {
    let upstreams = &snapshot.upstreams;
    vec![
        counters(
            "warmline_requests_total",
            "Requests by the class of their status, 502, 503 and 504 from Warmline itself included; aborted: broken off before the end of the response, by whichever side.",
            with_unrouted(snapshot).flat_map(|(upstream, exchanges)| codes(upstream, exchanges)),
        ),
        counters(
            "warmline_request_failures_total",
            "Requests without a whole response from the upstream (answered by Warmline itself, or broken off), by the side that caused that and the stage.",
            with_unrouted(snapshot).flat_map(|(upstream, exchanges)| failures(upstream, exchanges)),
        ),
        histograms(
            "warmline_request_seconds",
            "The time from a request's header to the end of its response, in seconds. The difference to upstream_seconds is what the sidecar costs, queue and connecting included.",
            with_unrouted(snapshot)
                .map(|(upstream, e)| (labels([("upstream", upstream)]), &e.request_seconds)),
        ),
        upstream_seconds(upstreams),
        counters(
            "warmline_retries_total",
            "Retries of requests, by what had happened to the attempt before.",
            every(
                upstreams,
                |u| &u.counters.exchanges.retries,
                |upstream, reason| labels([("upstream", upstream), ("reason", reason.as_str())]),
            ),
        ),
        counters(
            "warmline_retries_refused_total",
            "Retries that only a limit prevented: retries.max, or retries.budget.",
            every(
                upstreams,
                |u| &u.counters.exchanges.retries_refused,
                |upstream, reason| labels([("upstream", upstream), ("reason", reason.as_str())]),
            ),
        ),
    ]
}

/// Makes the histogram of the time that each upstream took for its responses, in seconds.
fn upstream_seconds(upstreams: &[UpstreamSnapshot]) -> MetricFamily {
    histograms(
        "warmline_upstream_seconds",
        "The time from a request handed to a connection to the end of its response, in seconds, for responses relayed whole.",
        upstreams
            .iter()
            .map(|u| (labels([("upstream", &u.name)]), &u.counters.exchanges.upstream_seconds)),
    )
}

fn with_unrouted(snapshot: &Snapshot) -> impl Iterator<Item = (&str, &ExchangesSnapshot)> {
    let routed = snapshot.upstreams.iter().map(|u| (u.name.as_str(), &u.counters.exchanges));
    routed.chain([(NONE, &snapshot.unrouted)])
}

/// Returns the samples of requests by the class of their status, for this label `upstream`.
fn codes(upstream: &str, exchanges: &ExchangesSnapshot) -> Vec<(Labels, f64)> {
    let sample = |(code, count): &(crate::upstream::Code, u64)| {
        (labels([("upstream", upstream), ("code", code.as_str())]), *count as f64)
    };
    exchanges.requests.iter().map(sample).collect()
}

/// Returns the samples of failed requests by the side at fault (label `by`) and the stage, for this label `upstream`.
/// Zeros are left out.
fn failures(upstream: &str, exchanges: &ExchangesSnapshot) -> Vec<(Labels, f64)> {
    let failed = exchanges.failed.iter().filter(|(_, count)| *count > 0);
    failed
        .map(|((by, stage), count)| {
            let (by, stage) = (by.as_str(), stage.as_str());
            (labels([("upstream", upstream), ("by", by), ("stage", stage)]), *count as f64)
        })
        .collect()
}
