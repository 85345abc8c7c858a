//! `/metrics`. Names and labels are a public contract ("What is told: metrics, log, page" in docs/design.md).
//!
//! Gauges, histograms, `requests_total`, the counters of reloads and shortages, and those that alerts look at for their
//! first event (`every`) exist from the start, every other combination of labels from its first count on. The label is
//! `upstream="_none"` if no upstream was chosen, `version="none"` if no TLS version was agreed, and `reason="none"` for a
//! checkout that reused a connection, because reasons are given for new connections only.

mod edges;
mod exchanges;
mod family;
mod pool;
mod tls;

use prometheus::{TextEncoder, proto::MetricFamily};

use super::snapshot::{Snapshot, UpstreamSnapshot};
use crate::telemetry::Counts;
use family::Labels;

/// The content type of the exposition.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Renders the exposition in Prometheus' text format. Fails only if a family has no name.
pub(super) fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let mut families = pool::families(snapshot);
    families.extend(tls::families(snapshot));
    families.extend(exchanges::families(snapshot));
    families.extend(edges::families(snapshot));
    // The encoder refuses a family without metrics, which is one in which nothing was counted yet.
    families.retain(|family: &MetricFamily| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// Returns a sample for each upstream and each label whose count is above 0. `counts` picks the counts of an upstream,
/// and `labels` makes the labels of an upstream's name and a label.
fn counted<'a, L: Copy + 'a>(
    upstreams: &'a [UpstreamSnapshot],
    counts: impl Fn(&'a UpstreamSnapshot) -> &'a Counts<L>,
    labels: impl Fn(&'a str, L) -> Labels,
) -> Vec<(Labels, f64)> {
    let mut samples = every(upstreams, counts, labels);
    samples.retain(|(_, count)| *count > 0.0);
    samples
}

/// Returns the samples of all upstreams, zeros included. `increase()` does not see the first event of a series that
/// begins with it.
fn every<'a, L: Copy + 'a>(
    upstreams: &'a [UpstreamSnapshot],
    counts: impl Fn(&'a UpstreamSnapshot) -> &'a Counts<L>,
    labels: impl Fn(&'a str, L) -> Labels,
) -> Vec<(Labels, f64)> {
    let pairs =
        upstreams.iter().flat_map(|u| counts(u).iter().map(|count| (u.name.as_str(), *count)));
    pairs.map(|(name, (label, count))| (labels(name, label), count as f64)).collect()
}

#[cfg(test)]
mod tests;
