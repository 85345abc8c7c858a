//! Handshakes a second, now and at most, from counters that only grow.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::time::{MissedTickBehavior, interval};

use super::State;

/// How often the counters are looked at.
const PERIOD: Duration = Duration::from_secs(1);

/// A counter's growth per second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    last: (Instant, u64),
    /// Between the last two samples.
    pub now: f64,
    /// The highest so far.
    pub most: f64,
}

impl Rate {
    /// Of a counter that stands at zero.
    pub fn new(at: Instant) -> Self {
        Self { last: (at, 0), now: 0.0, most: 0.0 }
    }

    /// The counter stands at `total`.
    pub fn sample(&mut self, at: Instant, total: u64) {
        let (since, before) = self.last;
        let elapsed = at.saturating_duration_since(since);
        if elapsed.is_zero() {
            return;
        }
        self.now = total.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        self.most = self.most.max(self.now);
        self.last = (at, total);
    }
}

/// Samples every upstream's handshakes, failed ones too, once a second, for as long as it is
/// polled.
pub async fn sample(state: Arc<State>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        let at = ticks.tick().await.into_std();
        for observed in state.upstreams.share().iter() {
            let total = observed.upstream.counters().handshakes.total();
            observed.rate().sample(at, total);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_growth_over_the_time_that_really_passed_and_the_highest_is_kept() {
        let start = Instant::now();
        let mut rate = Rate::new(start);
        rate.sample(start, 5);
        assert_eq!((rate.now, rate.most), (0.0, 0.0), "no time has passed");
        rate.sample(start + Duration::from_secs(1), 12);
        assert_eq!((rate.now, rate.most), (12.0, 12.0));
        rate.sample(start + Duration::from_secs(3), 18);
        assert_eq!((rate.now, rate.most), (3.0, 12.0), "a late sample covers two seconds");
        rate.sample(start + Duration::from_secs(4), 18);
        assert_eq!((rate.now, rate.most), (0.0, 12.0));
    }
}
