//! The last log line: how long the end took, and what became of the requests that were in flight.

use std::{
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use crate::{latest::Latest, proxy::Proxy, telemetry::log::seconds, upstream::Upstream};

/// The moment at which the drain was noticed, and the number of requests that had ended by then; empty before.
#[derive(Debug, Default)]
pub(super) struct Ending(OnceLock<(Instant, u64)>);

/// The course of the end.
#[derive(Debug, PartialEq, Eq)]
struct Course {
    took: Duration,
    /// The number of requests that ended by themselves in the drain.
    finished: u64,
    /// The number of requests that Warmline broke off, as the time for the drain was over.
    cut_off: u64,
}

impl Ending {
    /// Notes that the drain has begun.
    pub(super) fn begin(&self, upstreams: &Latest<Vec<Arc<Upstream>>>, proxy: &Proxy) {
        self.0.get_or_init(|| (Instant::now(), ended(upstreams, proxy)));
    }

    /// Logs the course of the end, once no request is left.
    pub(super) fn tell(&self, upstreams: &Latest<Vec<Arc<Upstream>>>, proxy: &Proxy) {
        let now = (Instant::now(), ended(upstreams, proxy));
        // With nothing in flight the end may be over before anybody has noticed the drain.
        let began = *self.0.get_or_init(|| now);
        Course::between(began, now, proxy.cut_off.get()).tell();
    }
}

impl Course {
    /// Returns the course between two moments, each with the number of requests that had ended by then.
    fn between(began: (Instant, u64), ended: (Instant, u64), cut_off: u64) -> Self {
        Self {
            took: ended.0.saturating_duration_since(began.0),
            finished: ended.1.saturating_sub(began.1).saturating_sub(cut_off),
            cut_off,
        }
    }

    /// Logs the course: a warning if requests were cut off.
    fn tell(&self) {
        let Self { took, finished, cut_off } = *self;
        let took = seconds(took);
        if cut_off == 0 {
            tracing::info!(took, finished, cut_off, "ended");
        } else {
            tracing::warn!(
                took,
                finished,
                cut_off,
                "ended, and requests in flight were cut off: the time for the drain (drain) was over"
            );
        }
    }
}

/// Returns the number of requests that have ended since the start.
fn ended(upstreams: &Latest<Vec<Arc<Upstream>>>, proxy: &Proxy) -> u64 {
    let upstreams = upstreams.share();
    let routed = upstreams.iter().map(|upstream| upstream.counters().exchanges.requests.total());
    routed.sum::<u64>() + proxy.unrouted.requests.total()
}
