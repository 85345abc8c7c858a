//! The limits on retries to an upstream: a number for each request, and a budget for all of them together.

use std::{
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::{RetryRefusal, Upstream};
use crate::connect::ConnectError;

/// The rules and limits of retries. A change applies in place, without a new generation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Retries {
    /// The largest number of retries of one request.
    pub max: u32,
    /// The retries of all requests together, in percent of the requests; [`LEAST`] retries a second are always allowed.
    pub budget: u32,
    /// True if a POST or PATCH with an Idempotency-Key field counts as idempotent.
    pub idempotency_key: bool,
}

impl Default for Retries {
    fn default() -> Self {
        Self { max: 2, budget: 20, idempotency_key: false }
    }
}

/// The number of retries a second that are always allowed.
pub(super) const LEAST: u64 = 3;
/// The least size of a full bucket: ten seconds' worth of [`LEAST`] retries.
const SAVED: u64 = 10 * LEAST;

/// The cost of a retry, in the bucket's unit. A microsecond earns [`LEAST`] units, and a request earns its percentage
/// of this cost.
const COST: u64 = 1_000_000;

/// A token bucket of retries, filled by requests and by time. A request that needs no retry costs one atomic addition.
#[derive(Debug, Default)]
pub(super) struct Budget {
    /// The number of requests that the bucket does not count yet.
    requests: AtomicU64,
    bucket: Mutex<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    saved: u64,
    /// The time up to which time has been credited; `None` before the first retry, when the bucket counts as full.
    at: Option<Instant>,
}

/// The rate at which requests fill a bucket, and the size of the bucket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowance {
    /// The retries that are earned, in percent of all requests.
    pub percent: u32,
    /// The number of retries that may be saved up; [`Budget::take`] raises it to ten seconds' worth of [`LEAST`].
    pub saved: usize,
}

impl Budget {
    /// Notes that a request begins.
    pub(super) fn note_request(&self) {
        self.requests.fetch_add(1, Relaxed);
    }

    /// Takes one retry from the budget. Returns false if none is left.
    pub(super) fn take(&self, allowance: Allowance, now: Instant) -> bool {
        let mut bucket = self.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let requests = self.requests.swap(0, Relaxed);
        let earned = requests.saturating_mul(u64::from(allowance.percent) * (COST / 100));
        let full = (allowance.saved as u64).max(SAVED).saturating_mul(COST);
        bucket.fill(earned, full, now);
        let left = bucket.saved.checked_sub(COST);
        bucket.saved = left.unwrap_or(bucket.saved);
        left.is_some()
    }

    /// Takes one retry for all requests together that counted on a failed dial. Returns false if none was left when the
    /// first of them asked.
    fn take_for(&self, failed: &DialFailure, allowance: Allowance, now: Instant) -> bool {
        *failed.budget.get_or_init(|| self.take(allowance, now))
    }
}

impl Bucket {
    /// Adds what requests have earned, and the time since the last call, up to a full bucket. The first call fills the
    /// bucket.
    fn fill(&mut self, earned: u64, full: u64, now: Instant) {
        let Some(at) = self.at else {
            (self.saved, self.at) = (full, Some(now));
            return;
        };
        let micros = now.saturating_duration_since(at).as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        let by_time = micros.saturating_mul(LEAST * COST / 1_000_000);
        self.saved = self.saved.saturating_add(earned).saturating_add(by_time).min(full);
        // The part of a microsecond that is left counts next time.
        self.at = at.checked_add(Duration::from_micros(micros)).or(self.at);
    }
}

/// The failure of a dial, shared by the requests that counted on the dial.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct DialFailure {
    /// The error that ended the dial.
    pub error: ConnectError,
    /// The budget's answer to the first of the requests that asked. The answer holds for all of them, because together
    /// they dial once more.
    budget: OnceLock<bool>,
}

impl From<ConnectError> for DialFailure {
    fn from(error: ConnectError) -> Self {
        Self { error, budget: OnceLock::new() }
    }
}

impl Upstream {
    /// Notes that a request begins, which earns its share of a retry.
    pub fn note_request(&self) {
        self.budget.note_request();
    }

    /// Allows or refuses another retry of a request that was retried `retries` times already. With a time, the retry is
    /// taken from the budget; with `None` it costs nothing. A refusal is counted.
    pub fn allow_retry(&self, retries: u32, now: Option<Instant>) -> Result<(), RetryRefusal> {
        self.allow(retries, |allowance| now.is_none_or(|now| self.budget.take(allowance, now)))
    }

    /// Allows or refuses another retry of a request whose dial failed, as [`Upstream::allow_retry`] does. The requests
    /// that counted on the dial cost the budget one retry together.
    pub fn allow_redial(
        &self,
        retries: u32,
        failed: &DialFailure,
        now: Instant,
    ) -> Result<(), RetryRefusal> {
        self.allow(retries, |allowance| self.budget.take_for(failed, allowance, now))
    }

    /// Allows a retry of a request that was retried `retries` times, if that is less than `retries.max` and
    /// `within_budget` is true, which is only asked then. Counts a refusal.
    fn allow(
        &self,
        retries: u32,
        within_budget: impl FnOnce(Allowance) -> bool,
    ) -> Result<(), RetryRefusal> {
        let settings = self.settings();
        let allowance =
            Allowance { percent: settings.retries.budget, saved: settings.pool.max_connections };
        let refusal = if retries >= settings.retries.max {
            RetryRefusal::Max
        } else if within_budget(allowance) {
            return Ok(());
        } else {
            RetryRefusal::Budget
        };
        self.counters().exchanges.retries_refused.increment(refusal);
        Err(refusal)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TWENTY: Allowance = Allowance { percent: 20, saved: 0 };

    fn granted(budget: &Budget, allowance: Allowance, tries: usize, now: Instant) -> usize {
        (0..tries).filter(|_| budget.take(allowance, now)).count()
    }

    fn asked(budget: &Budget, requests: usize) {
        (0..requests).for_each(|_| budget.note_request());
    }

    #[test]
    fn at_first_what_can_be_saved_is_there_and_then_each_request_earns_its_share() {
        let (budget, now) = (Budget::default(), Instant::now());
        assert_eq!(granted(&budget, TWENTY, 100, now), 30);
        for (requests, earned) in [(4, 0), (1, 1), (99, 19), (1, 1), (1000, 30)] {
            asked(&budget, requests);
            assert_eq!(granted(&budget, TWENTY, 1000, now), earned, "{requests}");
        }
    }

    #[test]
    fn three_a_second_are_earned_without_requests_and_fractions_are_not_lost() {
        let (budget, mut now) = (Budget::default(), Instant::now());
        granted(&budget, TWENTY, 100, now);
        let mut earned = 0;
        for _ in 0..7_000 {
            now += Duration::from_micros(999) + Duration::from_nanos(500);
            earned += granted(&budget, Allowance { percent: 0, ..TWENTY }, 100, now);
        }
        assert_eq!(earned, 20);
        now += Duration::from_hours(1);
        assert_eq!(granted(&budget, TWENTY, 100, now), 30);
    }

    #[test]
    fn a_large_pool_may_save_one_retry_for_each_connection() {
        let (budget, now) = (Budget::default(), Instant::now());
        let allowance = Allowance { saved: 100, ..TWENTY };
        assert_eq!(granted(&budget, allowance, 1000, now), 100);
        asked(&budget, 10_000);
        assert_eq!(granted(&budget, allowance, 1000, now), 100);
        asked(&budget, 10_000);
        assert_eq!(
            granted(&budget, TWENTY, 1000, now),
            30,
            "a bound that was lowered holds at once"
        );
    }

    #[test]
    fn a_clock_that_another_thread_read_earlier_takes_nothing_back() {
        let (budget, now) = (Budget::default(), Instant::now());
        granted(&budget, TWENTY, 100, now + Duration::from_secs(5));
        assert_eq!(granted(&budget, TWENTY, 100, now), 0);
        assert_eq!(granted(&budget, TWENTY, 100, now + Duration::from_secs(6)), 3);
    }

    #[test]
    fn the_requests_that_counted_on_a_failed_dial_cost_the_budget_one_retry_and_share_its_answer() {
        let (budget, now) = (Budget::default(), Instant::now());
        let failed = || DialFailure::from(ConnectError::NoDescriptor { most: 1 });
        let answers =
            |failed: &DialFailure, now| [(); 32].map(|()| budget.take_for(failed, TWENTY, now));
        for _ in 0..30 {
            assert_eq!(answers(&failed(), now), [true; 32]);
        }
        let refused = failed();
        assert_eq!(answers(&refused, now), [false; 32]);
        let later = now + Duration::from_secs(1);
        assert_eq!(answers(&refused, later), [false; 32]);
        assert_eq!(granted(&budget, TWENTY, 100, later), 3);
    }

    #[derive(Debug, Clone)]
    struct Step {
        micros: u64,
        requests: usize,
        tries: usize,
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = (0..3_000_000_u64, 0..200_usize, 0..60_usize)
            .prop_map(|(micros, requests, tries)| Step { micros, requests, tries });
        proptest::collection::vec(step, 1..60)
    }

    proptest! {
        #[test]
        fn over_any_window_retries_stay_within_the_share_of_requests_the_least_and_what_was_saved(
            steps in steps(), percent in 0..=100_u32, saved in 0..200_usize,
        ) {
            let (budget, mut now) = (Budget::default(), Instant::now());
            let allowance = Allowance { percent, saved };
            let taken: Vec<u64> = steps.iter().map(|step| {
                now += Duration::from_micros(step.micros);
                asked(&budget, step.requests);
                granted(&budget, allowance, step.tries, now) as u64
            }).collect();
            for from in 0..steps.len() {
                let mut earned = saved.max(30) as u64 * COST;
                let mut retries = 0;
                for at in from..steps.len() {
                    if at > from {
                        earned += steps[at].micros * 3;
                        earned += steps[at].requests as u64 * u64::from(percent) * COST / 100;
                    }
                    retries += taken[at];
                    prop_assert!(retries * COST <= earned, "steps {from} to {at}");
                }
            }
        }

        #[test]
        fn nothing_that_was_earned_is_refused(
            steps in steps(), percent in 0..=100_u32, saved in 0..200_usize,
        ) {
            let (budget, mut now) = (Budget::default(), Instant::now());
            let full = saved.max(30) as u64 * COST;
            let mut left = full;
            for step in steps {
                now += Duration::from_micros(step.micros);
                asked(&budget, step.requests);
                left += step.micros * 3 + step.requests as u64 * u64::from(percent) * COST / 100;
                left = left.min(full);
                let expected = (left / COST).min(step.tries as u64);
                let granted = granted(&budget, Allowance { percent, saved }, step.tries, now);
                prop_assert!(granted as u64 >= expected, "{granted} of {expected}");
                left -= expected * COST;
            }
        }
    }
}
