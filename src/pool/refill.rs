//! The pauses between dials for the warm floor: none at first, then one that doubles while dials fail.

use std::time::{Duration, Instant};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// The age below which a connection that ends unused was dialled in vain.
pub(super) const SHORT_LIFE: Duration = Duration::from_secs(1);
/// The most dials for the warm floor that are under way at a time. A large floor is filled in turns.
pub(super) const MAX_CONCURRENT_DIALS: usize = 8;

/// The state of the pauses between dials for the warm floor.
#[derive(Debug, Clone, Default)]
pub(super) struct Refill {
    /// The number of pauses in a row after which dials failed again.
    failures: u32,
    /// The beginning and the end of the last pause.
    pause: Option<(Instant, Instant)>,
    /// A random number in 0.0..1.0 that shortens a pause by up to a half, so that many sidecars do not dial in step.
    jitter: f64,
}

impl Refill {
    /// Returns the end of the pause in which no dial may begin; `None` if a dial may begin now.
    pub(super) fn paused_until(&self, now: Instant) -> Option<Instant> {
        self.pause.map(|(_, end)| end).filter(|end| now < *end)
    }

    /// Sets the jitter of the next pause.
    pub(super) fn set_jitter(&mut self, jitter: f64) {
        self.jitter = jitter.clamp(0.0, 1.0);
    }

    /// Begins a pause because a dial failed, or its connection ended soon. Each pause is twice as long as the last, up
    /// to 30 s, until dials have gone well for a while. Further failures within the pause change nothing.
    pub(super) fn failed(&mut self, now: Instant) {
        if self.paused_until(now).is_some() {
            return;
        }
        if self.is_past(now) {
            self.failures = 0;
        }
        let length = self.length();
        let length = length.saturating_sub(length.mul_f64(self.jitter / 2.0));
        self.failures = self.failures.saturating_add(1);
        self.pause = Some((now, now + length));
    }

    /// True if the last failure is so long ago that the next one begins with the shortest pause again.
    fn is_past(&self, now: Instant) -> bool {
        self.pause.is_some_and(|(began, end)| now >= end + (end - began) + SHORT_LIFE)
    }

    fn length(&self) -> Duration {
        FIRST_PAUSE.saturating_mul(1 << self.failures.min(16)).min(LONGEST_PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn millis(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    /// Fails as soon as each pause is over, and returns how long the pauses are, in milliseconds.
    fn pauses(jitter: f64, count: usize) -> Vec<u128> {
        let mut refill = Refill::default();
        let mut now = Instant::now();
        refill.set_jitter(jitter);
        (0..count)
            .map(|_| {
                refill.failed(now);
                let end = refill.paused_until(now).unwrap();
                let length = end - now;
                now = end;
                length.as_millis()
            })
            .collect()
    }

    #[test]
    fn pauses_double_from_a_tenth_of_a_second_to_half_a_minute() {
        let expected = [100, 200, 400, 800, 1600, 3200, 6400, 12_800, 25_600, 30_000, 30_000];
        assert_eq!(pauses(0.0, 11), expected);
    }

    #[test]
    fn jitter_shortens_a_pause_by_up_to_a_half() {
        assert_eq!(pauses(1.0, 3), [50, 100, 200]);
        assert_eq!(pauses(0.5, 2), [75, 150]);
    }

    #[test]
    fn without_a_failure_there_is_no_pause() {
        assert_eq!(Refill::default().paused_until(Instant::now()), None);
    }

    #[test]
    fn many_failures_within_one_pause_are_one() {
        let (mut refill, now) = (Refill::default(), Instant::now());
        for late in 0..100 {
            refill.failed(now + millis(late));
        }
        assert_eq!(refill.paused_until(now), Some(now + millis(100)));
        refill.failed(now + millis(100));
        assert_eq!(refill.paused_until(now + millis(100)), Some(now + millis(300)));
    }

    #[test]
    fn after_a_good_while_a_failure_begins_anew() {
        let (mut refill, now) = (Refill::default(), Instant::now());
        refill.failed(now);
        let later = now + millis(200) + SHORT_LIFE;
        refill.failed(later);
        assert_eq!(refill.paused_until(later), Some(later + millis(100)));
    }
}
