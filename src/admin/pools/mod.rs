//! `/pools`: every pool and each of its connections, read-only.

pub(super) mod json;
pub(super) mod text;

use super::snapshot::{Counts, PoolSnapshot, UpstreamSnapshot};
use crate::{
    pool::{ConnectionPhase, Reuse},
    tls::Handshake,
};

impl PoolSnapshot {
    pub(super) fn reused(&self) -> u64 {
        self.checkouts.iter().find(|(reuse, _)| *reuse == Reuse::Reused).map_or(0, |(_, n)| *n)
    }

    /// The share of checkouts that reused; `None` before the first.
    pub(super) fn reuse_rate(&self) -> Option<f64> {
        let all = total(&self.checkouts);
        (all > 0).then(|| self.reused() as f64 / all as f64)
    }

    /// Checkouts that got a new connection, by why.
    pub(super) fn new_by_reason(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        let new = self.checkouts.iter().filter(|(reuse, _)| *reuse != Reuse::Reused);
        new.map(|(reuse, count)| (reuse.as_str(), *count))
    }
}

impl UpstreamSnapshot {
    /// Handshakes by how they went, over all versions.
    pub(super) fn handshakes_by_result(&self) -> impl Iterator<Item = (&'static str, u64)> + '_ {
        Handshake::ALL.iter().map(|result| {
            let same = self.handshakes.iter().filter(|((other, _), _)| other == result);
            (result.as_str(), same.map(|(_, count)| count).sum())
        })
    }
}

fn total<L>(counts: &Counts<L>) -> u64 {
    counts.iter().map(|(_, count)| count).sum()
}

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
