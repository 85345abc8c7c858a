//! A copy of all counts at one moment, from which metrics and pages are rendered.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use super::{
    ObservedUpstream, State,
    acts::Act,
    expiry::Expiry,
    process::Process,
    readiness::Report,
    sampler::{RecentActivity, Times},
};
use crate::{
    config::{
        InForce, Outcome, RefusedChanges, SourceKind,
        configmap::{ConfigMap, ConfigMapState, LostContact},
    },
    connect::Connection,
    pool::{self, Learned},
    resources::Resource,
    telemetry::{
        Counted as _, Counts,
        ends::{Facing, Manner},
        recent::Noted,
    },
    tls::CertificateUse,
    upstream::{self, Chain, DialFailure, ExchangesSnapshot},
};

type UpstreamPool = pool::Pool<Connection, DialFailure>;

/// A copy of all counts at one moment.
pub(super) struct Snapshot {
    /// The time at which the copy was made.
    pub at: SystemTime,
    pub uptime: Duration,
    pub started: SystemTime,
    /// The answer of `/readyz`.
    pub ready: Report,
    pub draining: bool,
    pub configuration: Configuration,
    pub upstreams: Vec<UpstreamSnapshot>,
    /// The requests for which no upstream was chosen.
    pub unrouted: ExchangesSnapshot,
    pub ends: Counts<(Facing, Manner)>,
    pub process: Process,
    pub shortages: Counts<Resource>,
    /// The acts of operators, the newest first.
    pub acts: Vec<Noted<Act>>,
}

/// The configuration in force, and the outcomes of later ones.
pub(super) struct Configuration {
    /// The source of the configuration in force.
    pub source: SourceKind,
    /// The source's name for people; `None` if no source is followed.
    pub place: Option<String>,
    /// The contact of the watch with the API server, or the reason that there is none; `None` if no `ConfigMap` is
    /// watched.
    pub watch: Option<Result<(), LostContact>>,
    /// The plan in force, with its hash and the time since when it is in force.
    pub in_force: Arc<InForce>,
    /// The later content of the sources that cannot be used.
    pub refused: RefusedChanges,
    pub reloads: Counts<Outcome>,
    pub credentials: Counts<Outcome>,
}

/// The counts of one upstream.
pub(super) struct UpstreamSnapshot {
    pub name: String,
    pub endpoint: String,
    /// The number of connections of generations that were replaced.
    pub old_generation_connections: usize,
    pub pool: PoolSnapshot,
    pub counters: upstream::CountersSnapshot,
    /// The recent rates of the upstream.
    pub activity: RecentActivity,
    /// The times of the requests of the last minute.
    pub times: Times,
    pub expiry: Expiry,
    /// The certificate chain that the upstream showed last.
    pub shown: Option<Chain>,
    /// The outcome of the upstream's last question for Warmline's certificate.
    pub identity_shown: CertificateUse,
}

/// The counts of one upstream's pool.
pub(super) struct PoolSnapshot {
    /// The cap (`pool.maxConnections`).
    pub max: usize,
    pub now: pool::Snapshot,
    pub counters: pool::CountersSnapshot,
    /// The idle time that the pool allows instead of `idleTimeout`, because the upstream is known to close earlier.
    pub learned: Option<Learned>,
    /// True if the upstream was seen to close idle connections at any time.
    pub closes_at_any_time: bool,
}

impl Snapshot {
    /// Copies everything, each connection included.
    pub(super) fn take(state: &State, now: Instant) -> Self {
        Self::with(state, now, |pool| pool.snapshot(now))
    }

    /// Copies all counts without the list of connections: metrics do not need the list, and are scraped often.
    pub(super) fn counts(state: &State, now: Instant) -> Self {
        Self::with(state, now, UpstreamPool::counts)
    }

    /// Copies everything; `pool` copies a pool, with or without its list of connections.
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
            unrouted: state.proxy.unrouted.snapshot(),
            ends: state.ends.snapshot(),
            process: Process::read(),
            shortages: state.resources.shortages.snapshot(),
            acts: state.acts.snapshot(),
        }
    }
}

impl Configuration {
    /// Copies the state of the configuration: what is in force, what was refused, and the outcomes of reloads.
    fn take(state: &State) -> Self {
        let configuration = &state.configuration;
        let origin = configuration.origin();
        let source = state.follower.as_ref().map(|follower| &follower.source);
        Self {
            source: origin,
            place: source.map(|source| source.name(origin)),
            watch: source.and_then(|source| source.configmap()).map(contact),
            reloads: configuration.configurations.snapshot(),
            credentials: configuration.credentials.snapshot(),
            in_force: configuration.in_force(),
            refused: configuration.refused(),
        }
    }

    /// Returns the hash of the configuration's text.
    pub(super) fn hash(&self) -> &str {
        &self.in_force.hash
    }

    /// True if no later configuration was refused.
    pub(super) fn is_newest(&self) -> bool {
        self.refused.configuration.is_none()
    }

    /// True if certificates, keys and trust in force are as their files have them.
    pub(super) fn has_newest_credentials(&self) -> bool {
        self.refused.credentials.is_empty()
    }
}

/// Returns the watch's contact with the API server: `Ok` if it has content and the contact lasts, else since when there
/// is none and why. Before the first answer the reason is that the first contact is under way.
fn contact(configmap: &ConfigMap) -> Result<(), LostContact> {
    match configmap.known() {
        ConfigMapState { away: Some(away), .. } => Err(away),
        ConfigMapState { content: Some(_), away: None, .. } => Ok(()),
        ConfigMapState { content: None, away: None, .. } => Err(LostContact {
            since: Instant::now(),
            reason: "the first contact is under way".into(),
        }),
    }
}

impl UpstreamSnapshot {
    /// Copies the counts of one upstream; `pool` copies its pool.
    fn take(observed: &ObservedUpstream, pool: impl Fn(&UpstreamPool) -> pool::Snapshot) -> Self {
        let upstream = &observed.upstream;
        let (settings, counters) = (upstream.settings(), upstream.counters());
        let activity = observed.activity().clone();
        Self {
            name: upstream.name().to_owned(),
            endpoint: settings.endpoint.to_string(),
            old_generation_connections: upstream.old_generation_connections(),
            pool: PoolSnapshot::take(observed, pool(upstream.pool())),
            counters: counters.snapshot(),
            times: activity.times(&counters.exchanges),
            activity,
            expiry: observed.expiry,
            shown: upstream.shown(),
            identity_shown: upstream.identity_shown(),
        }
    }
}

impl PoolSnapshot {
    /// Copies the counters of one upstream's pool; `now` is the copy of its present state.
    fn take(observed: &ObservedUpstream, now: pool::Snapshot) -> Self {
        let pool = observed.upstream.pool();
        Self {
            max: observed.upstream.settings().pool.max_connections,
            now,
            counters: pool.counters().snapshot(),
            learned: pool.learned(),
            closes_at_any_time: pool.closes_at_any_time(),
        }
    }
}
