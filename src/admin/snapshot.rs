//! Everything that was counted, at one moment; metrics and pages are rendered from it.

use std::time::{Duration, Instant, SystemTime};

use super::{Observed, State, expiry::Expiry, process::Process, sampler::Rate};
use crate::{
    config::{Outcome, Standing},
    pool::{self, EndReason, Rejection, Reuse},
    telemetry::{
        Label, Tally,
        ends::{Facing, Manner},
        histogram::HistogramSnapshot,
    },
    tls::{Handshake, VerifyFailure, Version},
    upstream::{Code, Exchanges, RetryReason, RetryRefusal},
};

/// Each value of a label with its count, zeros too.
pub(super) type Counts<L> = Vec<(L, u64)>;

/// Everything that was counted, at one moment.
pub(super) struct Snapshot {
    pub uptime: Duration,
    pub started: SystemTime,
    pub configuration: Configuration,
    pub upstreams: Vec<UpstreamSnapshot>,
    /// Requests for which no upstream was chosen.
    pub unrouted: ExchangesSnapshot,
    pub ends: Counts<(Facing, Manner)>,
    pub process: Process,
}

/// Which configuration is in force, and what became of later ones.
pub(super) struct Configuration {
    pub hash: String,
    /// Where it came from.
    pub source: &'static str,
    pub reloads: Counts<Outcome>,
    pub credentials: Counts<Outcome>,
    /// The newest one is the one in force.
    pub newest_in_force: bool,
}

/// One upstream's part.
pub(super) struct UpstreamSnapshot {
    pub name: String,
    pub endpoint: String,
    /// Connections of generations that were replaced.
    pub old_generation_connections: usize,
    pub pool: PoolSnapshot,
    pub exchanges: ExchangesSnapshot,
    pub handshakes: Counts<(Handshake, Version)>,
    pub handshake_seconds: HistogramSnapshot,
    /// Handshakes a second.
    pub rate: Rate,
    pub verify_failures: Counts<VerifyFailure>,
    pub expiry: Expiry,
}

/// Its pool's part.
pub(super) struct PoolSnapshot {
    /// `pool.maxConnections`.
    pub max: usize,
    pub now: pool::Snapshot,
    pub opened: u64,
    pub closed: Counts<EndReason>,
    pub checkouts: Counts<Reuse>,
    pub rejections: Counts<Rejection>,
    pub queue_wait: HistogramSnapshot,
}

/// Requests and their times.
pub(super) struct ExchangesSnapshot {
    pub requests: Counts<Code>,
    pub request_seconds: HistogramSnapshot,
    pub upstream_seconds: HistogramSnapshot,
    pub retries: Counts<RetryReason>,
    pub retries_refused: Counts<RetryRefusal>,
}

impl Snapshot {
    /// Copies it all.
    pub fn take(state: &State, now: Instant) -> Self {
        let (since, started) = state.started;
        let upstreams = state.upstreams.share();
        Self {
            uptime: now.saturating_duration_since(since),
            started,
            configuration: Configuration::take(&state.standing),
            upstreams: upstreams.iter().map(|u| UpstreamSnapshot::take(u, now)).collect(),
            unrouted: ExchangesSnapshot::take(&state.proxy.unrouted),
            ends: counts(&state.ends),
            process: Process::read(),
        }
    }
}

impl Configuration {
    fn take(standing: &Standing) -> Self {
        Self {
            hash: standing.in_force().hash.clone(),
            source: "file",
            reloads: counts(&standing.configurations),
            credentials: counts(&standing.credentials),
            newest_in_force: standing.refused().configuration.is_none(),
        }
    }
}

impl UpstreamSnapshot {
    fn take(observed: &Observed, now: Instant) -> Self {
        let upstream = &observed.upstream;
        let (settings, counters) = (upstream.settings(), upstream.counters());
        Self {
            name: upstream.name().to_owned(),
            endpoint: settings.endpoint.to_string(),
            old_generation_connections: upstream.old_generation_connections(),
            pool: PoolSnapshot::take(observed, now),
            exchanges: ExchangesSnapshot::take(&counters.exchanges),
            handshakes: counts(&counters.handshakes),
            handshake_seconds: counters.handshake_seconds.snapshot(),
            rate: observed.rate().clone(),
            verify_failures: counts(&counters.verify_failures),
            expiry: observed.expiry,
        }
    }
}

impl PoolSnapshot {
    fn take(observed: &Observed, now: Instant) -> Self {
        let pool = observed.upstream.pool();
        let counters = pool.counters();
        Self {
            max: observed.upstream.settings().pool.max_connections,
            now: pool.snapshot(now),
            opened: counters.opened.get(),
            closed: counts(&counters.closed),
            checkouts: counts(&counters.checkouts),
            rejections: counts(&counters.rejections),
            queue_wait: counters.queue_wait.snapshot(),
        }
    }
}

impl ExchangesSnapshot {
    fn take(exchanges: &Exchanges) -> Self {
        Self {
            requests: counts(&exchanges.requests),
            request_seconds: exchanges.request_seconds.snapshot(),
            upstream_seconds: exchanges.upstream_seconds.snapshot(),
            retries: counts(&exchanges.retries),
            retries_refused: counts(&exchanges.retries_refused),
        }
    }
}

fn counts<L: Label>(tally: &Tally<L>) -> Counts<L> {
    tally.iter().collect()
}
