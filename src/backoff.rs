//! The wait before another try: longer after each failure, and random, so that many who failed together do not retry
//! together.

use std::time::Duration;

/// A wait that grows with each failure in a row.
#[derive(Debug)]
pub(crate) struct Backoff {
    first: Duration,
    bound: Duration,
}

impl Backoff {
    /// Makes a backoff whose first wait is at most `first`.
    #[must_use]
    pub(crate) const fn new(first: Duration) -> Self {
        Self { first, bound: first }
    }

    /// Returns the wait after another failure: a bound that doubles each time up to `longest`, multiplied by `random`,
    /// which is in 0.0..=1.0.
    pub(crate) fn after_failure(&mut self, longest: Duration, random: f64) -> Duration {
        let bound = self.bound.min(longest);
        self.bound = bound.saturating_mul(2);
        bound.mul_f64(random)
    }

    /// Notes a success: the wait after the next failure is a first one again.
    pub(crate) fn reset(&mut self) {
        self.bound = self.first;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn waits_double_up_to_the_longest_and_begin_anew_once_it_went_well() {
        let mut backoff = Backoff::new(SECOND);
        let mut waits = || [(); 5].map(|()| backoff.after_failure(10 * SECOND, 1.0).as_secs());
        assert_eq!(waits(), [1, 2, 4, 8, 10]);
        assert_eq!(waits(), [10; 5]);
        backoff.reset();
        assert_eq!(backoff.after_failure(10 * SECOND, 1.0), SECOND);
    }

    #[test]
    fn chance_takes_a_part_of_each_wait() {
        let mut backoff = Backoff::new(4 * SECOND);
        assert_eq!(backoff.after_failure(60 * SECOND, 0.0), Duration::ZERO);
        assert_eq!(backoff.after_failure(60 * SECOND, 0.25), 2 * SECOND);
    }

    #[test]
    fn a_shorter_longest_holds_at_once() {
        let mut backoff = Backoff::new(SECOND);
        for _ in 0..9 {
            backoff.after_failure(300 * SECOND, 1.0);
        }
        assert_eq!(backoff.after_failure(30 * SECOND, 1.0), 30 * SECOND);
        assert_eq!(backoff.after_failure(300 * SECOND, 1.0), 60 * SECOND);
    }
}
