//! The operators' side of the program: metrics and health on one port, administration on another, both on a thread of
//! their own ("What is told: metrics, log, page" in docs/design.md).
//!
//! The workers count in plain atomics. A [`snapshot`] copies the counts, and metrics and pages are rendered from that
//! copy alone, so that they cannot disagree.

mod accept;
mod acts;
mod certificates;
mod ending;
mod expiry;
mod follower;
mod host;
mod metrics;
mod moment;
mod origin;
mod page;
mod plan;
mod pools;
mod process;
mod readiness;
mod refused;
mod routes;
mod sampler;
mod serve;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

pub(crate) use follower::{Follower, LookOutcome, LookRequest};
pub(crate) use readiness::Readiness;
pub(crate) use sampler::sample;

use crate::{
    config::ConfigurationStatus,
    drain::Drain,
    latest::Latest,
    proxy::Proxy,
    resources::{OPERATORS, Resources},
    telemetry::{Recent, ends::Ends},
    upstream::Upstream,
};
use acts::Act;
use expiry::Expiry;
use readiness::{Report, WarmStart};
use sampler::RecentActivity;

/// Everything that metrics, health and pages are made of.
pub(crate) struct State {
    upstreams: Latest<Vec<Arc<ObservedUpstream>>>,
    proxy: Arc<Proxy>,
    ends: Arc<Ends>,
    readiness: Arc<Readiness>,
    configuration: Arc<ConfigurationStatus>,
    resources: Arc<Resources>,
    drain: Drain,
    /// The way to ask for a look at the followed files; `None` if no file is followed.
    follower: Option<Follower>,
    /// The acts of operators, such as a flush.
    acts: Recent<Act>,
    /// The time of the start by two clocks: the monotonic one for the uptime, the system's for people.
    started: (Instant, SystemTime),
}

/// An upstream with the facts that only operators need.
struct ObservedUpstream {
    upstream: Arc<Upstream>,
    /// The recent rates and times of the upstream.
    activity: Mutex<RecentActivity>,
    expiry: Expiry,
}

impl State {
    /// Makes the state. The process counts as started now, and no upstream is known until [`State::follow`] is called.
    pub(crate) fn new(
        proxy: Arc<Proxy>,
        ends: Arc<Ends>,
        readiness: Arc<Readiness>,
        configuration: Arc<ConfigurationStatus>,
        resources: Arc<Resources>,
        drain: Drain,
        follower: Option<Follower>,
    ) -> Arc<Self> {
        Arc::new(Self {
            upstreams: Latest::new(Vec::new()),
            proxy,
            ends,
            readiness,
            configuration,
            resources,
            drain,
            follower,
            acts: Recent::default(),
            started: (Instant::now(), SystemTime::now()),
        })
    }

    /// Returns the answer of `/readyz` at this time, by the open ports, the warm floors of the upstreams, and the
    /// drain. Refused changes and client certificates that end soon are told, and fail nothing.
    fn ready(&self, now: Instant) -> Report {
        let in_force = self.configuration.in_force();
        let required = &in_force.plan.required_upstreams;
        let upstreams = self.upstreams.get();
        let floors = upstreams.iter().map(|upstream| upstream.floor(required));
        let mut remarks = refused::remarks(&self.configuration.refused());
        let ending = ending::remark(&in_force.plan, SystemTime::now());
        let credentials: Vec<_> = remarks.credentials.into_iter().chain(ending).collect();
        remarks.credentials = (!credentials.is_empty()).then(|| credentials.join("; "));
        self.readiness.ready(&remarks, floors, self.drain.has_begun(), now)
    }

    /// Replaces the list of upstreams. An upstream that was in the old list keeps its recent activity.
    pub(crate) fn follow(&self, upstreams: &[Arc<Upstream>]) {
        let now = Instant::now();
        let known = self.upstreams.share();
        let known: HashMap<_, _> =
            known.iter().map(|known| (Arc::as_ptr(&known.upstream), known)).collect();
        let observed = upstreams.iter().map(|upstream| {
            let known = known.get(&Arc::as_ptr(upstream));
            let activity = known.map(|known| known.activity().clone());
            let activity = activity.unwrap_or_else(|| RecentActivity::new(now));
            Arc::new(ObservedUpstream::new(Arc::clone(upstream), activity))
        });
        self.upstreams.replace(observed.collect::<Vec<_>>());
    }
}

impl ObservedUpstream {
    fn new(upstream: Arc<Upstream>, activity: RecentActivity) -> Self {
        let expiry = Expiry::of(&upstream.settings().tls);
        Self { upstream, activity: Mutex::new(activity), expiry }
    }

    /// Returns the upstream's warm floor as the start's check sees it: the number wanted, the number idle, and the
    /// newest failure. `required` holds the names that `readiness.requireUpstreams` lists.
    fn floor(&self, required: &[String]) -> WarmStart {
        let (upstream, name) = (&self.upstream, self.upstream.name());
        WarmStart {
            name: name.to_owned(),
            wanted: upstream.settings().pool.min_idle,
            idle: upstream.pool().census().idle,
            reached: upstream.was_warm(),
            required: required.iter().any(|required| required == name),
            failure: upstream.counters().exchanges.failures.newest().map(|failed| failed.text),
        }
    }

    fn activity(&self) -> MutexGuard<'_, RecentActivity> {
        self.activity.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns a text without what would leave its line or move a terminal's cursor; quotes and backslashes stay as they are.
fn on_one_line(text: &str) -> String {
    let plain = |c: char| matches!(c, '"' | '\'' | '\\');
    let shown = |c: char| if plain(c) { c.to_string() } else { c.escape_debug().to_string() };
    text.chars().map(shown).collect()
}

/// Serves `/metrics`, `/livez`, `/readyz` and `/startupz` on a bound listener, for as long as the future is polled. At
/// most `most` connections are open at the same time.
pub(crate) async fn serve_metrics(listener: TcpListener, state: Arc<State>, most: usize) {
    serve::serve(listener, routes::metrics(state), serve::Limits::for_operators(most)).await;
}

/// Serves the port of [`serve_metrics`] while there is no configuration, for as long as the future is polled. The
/// answers say that the process is not ready, for this reason.
pub(crate) async fn serve_waiting(listener: TcpListener, reason: Arc<Latest<String>>) {
    serve::serve(listener, routes::waiting(&reason), serve::Limits::for_operators(OPERATORS)).await;
}

/// Serves the page, its texts and the operators' acts on a bound listener, for as long as the future is polled. Only
/// requests to a loopback name are answered. At most `most` connections are open at the same time.
pub(crate) async fn serve_admin(listener: TcpListener, state: Arc<State>, most: usize) {
    serve::serve(listener, routes::admin(state), serve::Limits::for_operators(most)).await;
}
