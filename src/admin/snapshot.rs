//! Everything that was counted, at one moment; metrics and pages are rendered from it.

use std::time::{Duration, Instant, SystemTime};

use super::{Configuration, Observed, State, expiry::Expiry, process::Process, sampler::Rate};
use crate::{
    pool::{self, EndReason, Rejection, Reuse},
    telemetry::{
        Label, Tally,
        ends::{Facing, Manner},
        histogram::HistogramSnapshot,
    },
    tls::{Handshake, VerifyFailure, Version},
    upstream::{Code, Exchanges, RetryReason},
};

/// Each value of a label with its count, zeros too.
pub(super) type Counts<L> = Vec<(L, u64)>;

/// Everything that was counted, at one moment.
pub(super) struct Snapshot<'a> {
    pub uptime: Duration,
    pub started: SystemTime,
    pub configuration: &'a Configuration,
    pub upstreams: Vec<UpstreamSnapshot<'a>>,
    /// Requests for which no upstream was chosen.
    pub unrouted: ExchangesSnapshot,
    pub ends: Counts<(Facing, Manner)>,
    pub process: Process,
}

/// One upstream's part.
pub(super) struct UpstreamSnapshot<'a> {
    pub name: &'a str,
    pub endpoint: String,
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
}

impl<'a> Snapshot<'a> {
    /// Copies it all.
    pub fn take(state: &'a State, now: Instant) -> Self {
        let (since, started) = state.started;
        Self {
            uptime: now.saturating_duration_since(since),
            started,
            configuration: &state.configuration,
            upstreams: state.upstreams.iter().map(|u| UpstreamSnapshot::take(u, now)).collect(),
            unrouted: ExchangesSnapshot::take(&state.proxy.unrouted),
            ends: counts(&state.ends),
            process: Process::read(),
        }
    }
}

impl<'a> UpstreamSnapshot<'a> {
    fn take(observed: &'a Observed, now: Instant) -> Self {
        let upstream = &observed.upstream;
        let (settings, counters) = (upstream.settings(), upstream.counters());
        Self {
            name: &settings.name,
            endpoint: settings.endpoint.to_string(),
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
        }
    }
}

fn counts<L: Label>(tally: &Tally<L>) -> Counts<L> {
    tally.iter().collect()
}
