//! What an operator sees: metrics and health on one port, administration on another, both on a
//! thread of their own (design, section 4.14).
//!
//! The workers count, in plain atomics. A [`snapshot`] copies what they counted, and metrics and
//! the pages are rendered from it alone, so that they cannot disagree.

mod expiry;
mod host;
mod metrics;
mod pools;
mod process;
mod readiness;
mod routes;
mod sampler;
mod serve;
mod snapshot;
#[cfg(test)]
mod tests;

use std::{
    net::TcpListener,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Instant, SystemTime},
};

pub use readiness::Readiness;
pub use sampler::sample;

use crate::{drain::Drain, proxy::Proxy, telemetry::ends::Ends, upstream::Upstream};
use expiry::Expiry;
use sampler::Rate;

/// What the pages are made of.
pub struct State {
    upstreams: Vec<Observed>,
    proxy: Arc<Proxy>,
    ends: Arc<Ends>,
    readiness: Arc<Readiness>,
    configuration: Configuration,
    /// By both clocks: for uptime, and for people.
    started: (Instant, SystemTime),
}

/// Which configuration is in force.
struct Configuration {
    /// `config::hash` of its text.
    hash: String,
    /// Where it came from.
    source: &'static str,
}

/// An upstream, and what only operators want to know of it.
struct Observed {
    upstream: Arc<Upstream>,
    /// Handshakes a second.
    rate: Mutex<Rate>,
    expiry: Expiry,
}

impl State {
    /// Gathers what the pages are made of; the process counts as started now. The hash is that of
    /// the configuration's text. The drain is the proxy's.
    pub fn new(
        upstreams: Vec<Arc<Upstream>>,
        proxy: Arc<Proxy>,
        ends: Arc<Ends>,
        readiness: Arc<Readiness>,
        configuration_hash: String,
    ) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            upstreams: upstreams.into_iter().map(|upstream| Observed::new(upstream, now)).collect(),
            proxy,
            ends,
            readiness,
            configuration: Configuration { hash: configuration_hash, source: "file" },
            started: (now, SystemTime::now()),
        })
    }

    fn drain(&self) -> &Drain {
        &self.proxy.drain
    }
}

impl Observed {
    fn new(upstream: Arc<Upstream>, now: Instant) -> Self {
        let expiry = Expiry::of(&upstream.settings().tls);
        Self { upstream, rate: Mutex::new(Rate::new(now)), expiry }
    }

    fn rate(&self) -> MutexGuard<'_, Rate> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Serves `/metrics`, `/livez`, `/readyz` and `/startupz` on a bound listener, for as long as it is
/// polled.
pub async fn serve_metrics(listener: TcpListener, state: Arc<State>) {
    serve::serve(listener, routes::metrics(state), serve::LIMITS).await;
}

/// Serves `/pools` on a bound listener to those who ask for it by a loopback name, for as long as
/// it is polled.
pub async fn serve_admin(listener: TcpListener, state: Arc<State>) {
    serve::serve(listener, routes::admin(state), serve::LIMITS).await;
}
