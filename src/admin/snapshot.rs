//! Everything that was counted, at one moment; metrics and pages are rendered from it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    Observed, State,
    acts::Act,
    expiry::Expiry,
    process::Process,
    readiness::Report,
    sampler::{Activity, Times},
};
use crate::{
    config::{
        InForce, Origin, Outcome, Refused,
        configmap::{Away, ConfigMap, Known},
    },
    connect::{ConnectError, Connection},
    pool::{self, EndReason, Learned, Rejection, Reuse},
    resources::Resource,
    telemetry::{
        HistogramSnapshot, Label, Tally,
        ends::{Facing, Manner},
        recent::Noted,
    },
    tls::{Handshake, Shown, VerifyFailure, Version},
    upstream::{Chain, Code, Exchanges, Failed, Party, RetryReason, RetryRefusal, Stage},
};

type UpstreamPool = pool::Pool<Connection, ConnectError>;

/// Each value of a label with its count, zeros too.
pub(super) type Counts<L> = Vec<(L, u64)>;

/// Everything that was counted, at one moment.
pub(super) struct Snapshot {
    /// When it was taken.
    pub at: SystemTime,
    pub uptime: Duration,
    pub started: SystemTime,
    /// What `/readyz` says.
    pub ready: Report,
    pub draining: bool,
    pub configuration: Configuration,
    pub upstreams: Vec<UpstreamSnapshot>,
    /// Requests for which no upstream was chosen.
    pub unrouted: ExchangesSnapshot,
    pub ends: Counts<(Facing, Manner)>,
    pub process: Process,
    pub shortages: Counts<Resource>,
    /// What operators did, the newest first.
    pub acts: Vec<Noted<Act>>,
}

/// Which configuration is in force, and what became of later ones.
pub(super) struct Configuration {
    /// Where it came from.
    pub source: Origin,
    /// What people call that; `None` where nothing is followed.
    pub place: Option<String>,
    /// Whether the watch has contact with the API server, and why not; `None` where there is none.
    pub watch: Option<Result<(), Away>>,
    /// The plan, and since when it is in force.
    pub in_force: Arc<InForce>,
    /// What lies there and cannot be used.
    pub refused: Refused,
    pub reloads: Counts<Outcome>,
    pub credentials: Counts<Outcome>,
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
    /// What it has done lately.
    pub activity: Activity,
    /// The times of the last minute.
    pub times: Times,
    pub verify_failures: Counts<VerifyFailure>,
    pub expiry: Expiry,
    /// The certificate chain that it showed last.
    pub shown: Option<Chain>,
    /// The fate of our certificate in its handshakes.
    pub identity_shown: Shown,
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
    /// What `idleTimeout` comes to, as the upstream is known to close earlier.
    pub learned: Option<Learned>,
    /// It was seen to close idle ones at any time.
    pub closes_at_any_time: bool,
}

/// Requests and their times.
pub(super) struct ExchangesSnapshot {
    pub requests: Counts<Code>,
    pub request_seconds: HistogramSnapshot,
    pub upstream_seconds: HistogramSnapshot,
    pub retries: Counts<RetryReason>,
    pub retries_refused: Counts<RetryRefusal>,
    pub failed: Counts<(Party, Stage)>,
    /// The last ones that failed, the newest first.
    pub failures: Vec<Noted<Failed>>,
}

impl Snapshot {
    /// Copies it all.
    pub fn take(state: &State, now: Instant) -> Self {
        Self::with(state, now, |pool| pool.snapshot(now))
    }

    /// Copies all but the connections: metrics only count, and are asked for often.
    pub fn counts(state: &State, now: Instant) -> Self {
        Self::with(state, now, UpstreamPool::counts)
    }

    fn with(state: &State, now: Instant, pool: impl Fn(&UpstreamPool) -> pool::Snapshot) -> Self {
        let (since, started) = state.started;
        let upstreams = state.upstreams.share();
        Self {
            at: SystemTime::now(),
            ready: state.ready(now),
            draining: state.drain.has_begun(),
            uptime: now.saturating_duration_since(since),
            started,
            configuration: Configuration::take(state),
            upstreams: upstreams.iter().map(|u| UpstreamSnapshot::take(u, &pool)).collect(),
            unrouted: ExchangesSnapshot::take(&state.proxy.unrouted),
            ends: counts(&state.ends),
            process: Process::read(),
            shortages: counts(&state.resources.shortages),
            acts: state.acts.snapshot(),
        }
    }
}

impl Configuration {
    fn take(state: &State) -> Self {
        let standing = &state.standing;
        let origin = standing.origin();
        let source = state.follower.as_ref().map(|follower| &follower.source);
        Self {
            source: origin,
            place: source.map(|source| source.name(origin)),
            watch: source.and_then(|source| source.configmap()).map(contact),
            reloads: counts(&standing.configurations),
            credentials: counts(&standing.credentials),
            in_force: standing.in_force(),
            refused: standing.refused(),
        }
    }

    /// Of its text.
    pub fn hash(&self) -> &str {
        &self.in_force.hash
    }

    /// The newest one is the one in force.
    pub fn is_newest(&self) -> bool {
        self.refused.configuration.is_none()
    }

    /// Certificates, keys and trust are as their files have them.
    pub fn has_newest_credentials(&self) -> bool {
        self.refused.credentials.is_empty()
    }
}

fn contact(configmap: &ConfigMap) -> Result<(), Away> {
    match configmap.known() {
        Known { away: Some(away), .. } => Err(away),
        Known { content: Some(_), away: None, .. } => Ok(()),
        Known { content: None, away: None, .. } => {
            Err(Away { since: Instant::now(), reason: "the first contact is under way".into() })
        }
    }
}

impl UpstreamSnapshot {
    fn take(observed: &Observed, pool: impl Fn(&UpstreamPool) -> pool::Snapshot) -> Self {
        let upstream = &observed.upstream;
        let (settings, counters) = (upstream.settings(), upstream.counters());
        let activity = observed.activity().clone();
        Self {
            name: upstream.name().to_owned(),
            endpoint: settings.endpoint.to_string(),
            old_generation_connections: upstream.old_generation_connections(),
            pool: PoolSnapshot::take(observed, pool(upstream.pool())),
            exchanges: ExchangesSnapshot::take(&counters.exchanges),
            handshakes: counts(&counters.handshakes),
            handshake_seconds: counters.handshake_seconds.snapshot(),
            times: activity.times(&counters.exchanges),
            activity,
            verify_failures: counts(&counters.verify_failures),
            expiry: observed.expiry,
            shown: upstream.shown(),
            identity_shown: upstream.identity_shown(),
        }
    }
}

impl PoolSnapshot {
    fn take(observed: &Observed, now: pool::Snapshot) -> Self {
        let pool = observed.upstream.pool();
        let counters = pool.counters();
        Self {
            max: observed.upstream.settings().pool.max_connections,
            now,
            opened: counters.opened.get(),
            closed: counts(&counters.closed),
            checkouts: counts(&counters.checkouts),
            rejections: counts(&counters.rejections),
            queue_wait: counters.queue_wait.snapshot(),
            learned: pool.learned(),
            closes_at_any_time: pool.closes_at_any_time(),
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
            failed: counts(&exchanges.failed),
            failures: exchanges.failures.snapshot(),
        }
    }
}

fn counts<L: Label>(tally: &Tally<L>) -> Counts<L> {
    tally.iter().collect()
}
