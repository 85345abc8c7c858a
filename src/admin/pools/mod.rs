//! `/pools`: every pool and each of its connections, read-only.

pub(super) mod json;
pub(super) mod text;

use super::snapshot::{PoolSnapshot, UpstreamSnapshot};
use crate::{
    pool::{ConnectionPhase, Reuse},
    telemetry::Counts,
    tls::Handshake,
};

impl PoolSnapshot {
    /// Returns the number of checkouts that reused a connection.
    pub(super) fn reused(&self) -> u64 {
        self.counters
            .checkouts
            .iter()
            .find(|(reuse, _)| *reuse == Reuse::Reused)
            .map_or(0, |(_, n)| *n)
    }

    /// Returns the share of checkouts that reused a connection, from 0 to 1; `None` before the first checkout.
    pub(super) fn reuse_rate(&self) -> Option<f64> {
        let all = total(&self.counters.checkouts);
        (all > 0).then(|| self.reused() as f64 / all as f64)
    }

    /// Returns the number of checkouts that got a new connection, for each reason.
    pub(super) fn new_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let new = self.counters.checkouts.iter().filter(|(reuse, _)| *reuse != Reuse::Reused);
        new.map(|(reuse, count)| (reuse.as_str(), *count))
    }
}

impl UpstreamSnapshot {
    /// Returns the number of handshakes for each result, over all TLS versions.
    pub(super) fn handshakes_by_result(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Handshake::ALL.iter().map(|result| {
            let same = self.counters.handshakes.iter().filter(|((other, _), _)| other == result);
            (result.as_str(), same.map(|(_, count)| count).sum())
        })
    }
}

fn total<L>(counts: &Counts<L>) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

/// Returns the word for a connection's phase in `/pools` and on the page.
pub(super) fn phase(phase: ConnectionPhase) -> &'static str {
    match phase {
        ConnectionPhase::Connecting => "connecting",
        ConnectionPhase::Active => "active",
        ConnectionPhase::Idle => "idle",
        ConnectionPhase::Closing => "closing",
    }
}

#[cfg(test)]
mod tests;
