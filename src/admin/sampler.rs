//! The recent course of counters that only grow: rates, and the times of the last minute.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use tokio::time::{MissedTickBehavior, interval};

use super::{State, ending::ToldEnds};
use crate::{
    telemetry::HistogramSnapshot,
    tls::{Handshake, Version},
    upstream::{Counters, Exchanges},
};

/// The time between two samples of the counters.
const PERIOD: Duration = Duration::from_secs(1);
/// The number of samples of a rate that are kept: a minute of them. Of times, which need more memory, only one sample
/// in [`TIMES_EVERY`] is kept.
const KEPT: usize = 60;
const TIMES_EVERY: usize = 5;

/// The recent rates and times of one upstream.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct RecentActivity {
    /// The rate of requests that ended.
    pub requests: Rate,
    /// The rate of handshakes, failed ones included.
    pub handshakes: Rate,
    /// The rate of handshakes by result, in the order of [`Handshake::ALL`].
    pub by_result: [Rate; Handshake::ALL.len()],
    samples: usize,
    /// The samples of times of the last minute, the newest first. Equal neighbours share their memory.
    times: VecDeque<Arc<Times>>,
}

/// The durations of requests, and of Warmline's part in them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Times {
    pub request: HistogramSnapshot,
    /// The parts of the durations in which the request did not wait for the upstream.
    added: HistogramSnapshot,
}

impl Times {
    /// Takes the durations of these exchanges so far.
    fn of(exchanges: &Exchanges) -> Self {
        Self {
            request: exchanges.request_seconds.snapshot(),
            added: exchanges.added_seconds.snapshot(),
        }
    }

    /// Returns the mean time that Warmline adds to a request, queue and connecting included; `None` without a request.
    pub(super) fn cost(&self) -> Option<Duration> {
        self.added.mean()
    }

    /// Returns the mean time that requests waited for the upstream; `None` without a request.
    pub(super) fn upstream(&self) -> Option<Duration> {
        Some(self.request.mean()?.saturating_sub(self.added.mean()?))
    }
}

impl RecentActivity {
    /// Makes the activity of an upstream whose counters are zero.
    pub(super) fn new(at: Instant) -> Self {
        let rate = Rate::new(at);
        Self {
            requests: rate.clone(),
            handshakes: rate.clone(),
            by_result: std::array::from_fn(|_| rate.clone()),
            samples: 0,
            times: VecDeque::new(),
        }
    }

    /// Takes a sample of the upstream's counters, once a second: of every rate each time, of the times of requests each
    /// fifth time.
    fn sample(&mut self, at: Instant, counters: &Counters) {
        self.requests.sample(at, counters.exchanges.requests.total());
        self.handshakes.sample(at, counters.handshakes.total());
        for (rate, result) in self.by_result.iter_mut().zip(Handshake::ALL) {
            let versions = Version::ALL.iter();
            let count = versions.map(|version| counters.handshakes.get((*result, *version))).sum();
            rate.sample(at, count);
        }
        if self.samples.is_multiple_of(TIMES_EVERY) {
            self.times.truncate(KEPT / TIMES_EVERY - 1);
            let now = Times::of(&counters.exchanges);
            let same = self.times.front().filter(|last| ***last == now).map(Arc::clone);
            self.times.push_front(same.unwrap_or_else(|| Arc::new(now)));
        }
        self.samples += 1;
    }

    /// Returns the times of the requests of the last minute, up to now.
    pub(super) fn times(&self, exchanges: &Exchanges) -> Times {
        let now = Times::of(exchanges);
        // Before a minute has passed, all requests are of the last minute.
        let Some(then) = self.times.get(KEPT / TIMES_EVERY - 1) else { return now };
        Times { request: now.request.since(&then.request), added: now.added.since(&then.added) }
    }
}

/// A counter's growth per second.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rate {
    last: (Instant, u64),
    /// The rate between the last two samples.
    pub now: f64,
    /// The highest rate since the process started.
    pub most: f64,
    /// The last [`KEPT`] rates, the oldest first.
    pub lately: VecDeque<f32>,
}

impl Rate {
    /// Makes the rate of a counter that is zero at this time.
    pub(super) fn new(at: Instant) -> Self {
        Self { last: (at, 0), now: 0.0, most: 0.0, lately: VecDeque::new() }
    }

    /// Takes a sample: the counter is at `total` at this time. Sets the present and the highest rate and keeps the
    /// sample; a sample at the time of the last one or before is ignored.
    pub(super) fn sample(&mut self, at: Instant, total: u64) {
        let (since, before) = self.last;
        let elapsed = at.saturating_duration_since(since);
        if elapsed.is_zero() {
            return;
        }
        self.now = total.saturating_sub(before) as f64 / elapsed.as_secs_f64();
        self.most = self.most.max(self.now);
        self.last = (at, total);
        if self.lately.len() == KEPT {
            self.lately.pop_front();
        }
        self.lately.push_back(self.now as f32);
    }
}

/// Samples every upstream's counters once a second, and logs the client certificates near their end, for as long as the
/// future is polled; never returns.
pub(crate) async fn sample(state: Arc<State>) {
    let mut ticks = interval(PERIOD);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    let mut ends = ToldEnds::default();
    loop {
        ends.tell(&state.configuration.in_force().plan, SystemTime::now());
        let at = ticks.tick().await.into_std();
        for observed in state.upstreams.share().iter() {
            observed.activity().sample(at, observed.upstream.counters());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::Code;

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
        assert_eq!(rate.lately, [12.0, 3.0, 0.0]);
    }

    #[test]
    fn times_are_those_of_the_last_minute() {
        let (start, counters) = (Instant::now(), Counters::default());
        let mut activity = RecentActivity::new(start);
        let exchanges = &counters.exchanges;
        exchanges.request_seconds.observe(Duration::from_secs(9));
        for second in 1..=200 {
            exchanges.requests.increment(Code::Success);
            exchanges.request_seconds.observe(Duration::from_millis(3));
            exchanges.added_seconds.observe(Duration::from_millis(1));
            activity.sample(start + Duration::from_secs(second), &counters);
        }
        let times = activity.times(exchanges);
        assert!((55..=60).contains(&times.request.count()), "{times:?}");
        assert_eq!(
            times.request.mean(),
            Some(Duration::from_millis(3)),
            "the slow one is long past"
        );
        assert_eq!(times.cost(), Some(Duration::from_millis(1)));
        assert_eq!(times.upstream(), Some(Duration::from_millis(2)));
        assert_eq!(activity.requests.lately.len(), KEPT);
    }

    #[test]
    fn fault_25_requests_before_the_first_sample_count_for_the_last_minute_too() {
        let (start, counters) = (Instant::now(), Counters::default());
        let mut activity = RecentActivity::new(start);
        let exchanges = &counters.exchanges;
        exchanges.request_seconds.observe(Duration::from_millis(3));
        for second in 1..=20 {
            activity.sample(start + Duration::from_secs(second), &counters);
        }
        assert_eq!(activity.times(exchanges).request.count(), 1);
    }

    #[test]
    fn fault_25_samples_of_times_in_which_nothing_happened_share_their_memory() {
        let (start, counters) = (Instant::now(), Counters::default());
        let mut activity = RecentActivity::new(start);
        for second in 1..=200 {
            activity.sample(start + Duration::from_secs(second), &counters);
        }
        assert_eq!(activity.times.len(), KEPT / TIMES_EVERY);
        assert!(activity.times.iter().all(|times| Arc::ptr_eq(times, &activity.times[0])));
    }

    #[test]
    fn handshakes_are_told_apart_by_how_they_went() {
        let (start, counters) = (Instant::now(), Counters::default());
        let mut activity = RecentActivity::new(start);
        counters.handshakes.increment((Handshake::Resumed, Version::Tls13));
        counters.handshakes.increment((Handshake::Resumed, Version::Tls12));
        counters.handshakes.increment((Handshake::Failed, Version::None));
        activity.sample(start + Duration::from_secs(1), &counters);
        let now = activity.by_result.each_ref().map(|rate| rate.now.to_string());
        assert_eq!(now, ["0", "2", "0", "1"]);
        assert_eq!(activity.handshakes.now.to_string(), "3");
    }
}
