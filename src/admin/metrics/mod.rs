//! `/metrics`: the names of the design's section 6, a public contract.
//!
//! Gauges, histograms and `requests_total` exist from the start, every other combination of labels
//! once it was first counted. `upstream="_none"` stands where no upstream was chosen,
//! `version="none"` where no TLS version was agreed, and a reused checkout has `reason="none"`:
//! reasons are given for new connections.

mod edges;
mod exchanges;
mod family;
mod pool;
mod tls;

use prometheus::{TextEncoder, proto::MetricFamily};

use super::snapshot::{Counts, Snapshot, UpstreamSnapshot};
use family::Labels;

/// What the exposition is served as.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The exposition in Prometheus' text format. It fails only on a family without a name.
pub(super) fn render(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let mut families = pool::families(snapshot);
    families.extend(tls::families(snapshot));
    families.extend(exchanges::families(snapshot));
    families.extend(edges::families(snapshot));
    // The encoder refuses a family in which nothing was counted yet.
    families.retain(|family: &MetricFamily| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families)
}

/// Those of each upstream's samples that were ever counted.
fn counted<'a, L: Copy + 'a>(
    upstreams: &'a [UpstreamSnapshot],
    counts: impl Fn(&'a UpstreamSnapshot) -> &'a Counts<L>,
    labels: impl Fn(&'a str, L) -> Labels,
) -> Vec<(Labels, f64)> {
    let pairs =
        upstreams.iter().flat_map(|u| counts(u).iter().map(|count| (u.name.as_str(), *count)));
    pairs
        .filter(|(_, (_, count))| *count > 0)
        .map(|(name, (label, count))| (labels(name, label), count as f64))
        .collect()
}

#[cfg(test)]
mod tests;
