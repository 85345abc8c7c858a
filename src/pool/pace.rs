//! Estimates how long a request that joins the queue now would wait there, and refuses it if that is too long.
//!
//! A step is a waiter that leaves the queue with a connection or a dial. A request is only refused if two estimates
//! agree: one by the last few steps, so that a queue that has become faster admits all at once, and one by as many
//! steps as there are waiters ahead, in which a moment's standstill has little weight.
//!
//! A request with no waiter ahead of it is never refused: so there is always a waiter that notices when the queue moves
//! again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The number of steps for the estimate by the last few.
const LAST_STEPS: usize = 8;
/// The least number of steps for an estimate; in a long queue one for each `WAITERS_PER_STEP` waiters, if that is more.
const MIN_STEPS: usize = 4;
const WAITERS_PER_STEP: usize = 8;
/// The number of steps that are remembered.
const MAX_REMEMBERED: usize = 256;

/// The recent speed of a queue.
#[derive(Debug, Clone, Default)]
pub(super) struct Pace {
    /// A clock that only runs while a waiter is queued: its reading before the first remembered step, and at each step.
    marks: VecDeque<Duration>,
    /// The time at which the queue last moved, or at which the first waiter joined the empty queue.
    since: Option<Instant>,
    /// The time at which the last waiter gave up and left the queue empty; `None` if another one has joined since.
    given_up: Option<Instant>,
}

impl Pace {
    /// Notes that a waiter has joined the empty queue. If the last waiter gave up less than `patience` ago, the
    /// standstill goes on. If the queue has not moved for `patience`, its former speed is forgotten.
    pub(super) fn begins(&mut self, now: Instant, patience: Duration) {
        let same =
            self.given_up.take().is_some_and(|at| now.saturating_duration_since(at) < patience);
        if !same {
            let rested = self.since.replace(now).is_none_or(|at| now - at >= patience);
            if rested {
                self.marks.clear();
            }
        }
    }

    /// Notes that a waiter left the queue with a connection or a dial.
    pub(super) fn moves(&mut self, now: Instant) {
        let since = self.since.replace(now).unwrap_or(now);
        let before = self.marks.back().copied();
        let before = before.unwrap_or_else(|| {
            self.marks.push_back(Duration::ZERO);
            Duration::ZERO
        });
        self.marks.push_back(before + now.saturating_duration_since(since));
        if self.marks.len() > MAX_REMEMBERED + 1 {
            self.marks.pop_front();
        }
    }

    /// Notes that the last waiter gave up and left the queue empty.
    pub(super) fn given_up(&mut self, now: Instant) {
        self.given_up = Some(now);
    }

    /// True if a request with so many waiters before it would wait for longer than `patience`: by the speed of the
    /// queue, or because the queue has not moved for that long.
    pub(super) fn is_too_slow(&self, before: usize, now: Instant, patience: Duration) -> bool {
        if before == 0 {
            return false;
        }
        let stands = self.since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        stands > patience || self.wait(before + 1).is_some_and(|wait| wait > patience)
    }

    /// Returns the lower of the two estimates of the time in which so many waiters leave the queue; `None` if too few
    /// steps are known.
    fn wait(&self, places: usize) -> Option<Duration> {
        let steps = self.marks.len().saturating_sub(1);
        if steps < (places / WAITERS_PER_STEP).clamp(MIN_STEPS, MAX_REMEMBERED) {
            return None;
        }
        let by_the_last = |looked_at: usize| {
            let looked_at = looked_at.min(steps);
            let time = self.marks[steps].saturating_sub(self.marks[steps - looked_at]);
            time.mul_f64(places as f64 / looked_at as f64)
        };
        Some(by_the_last(LAST_STEPS).min(by_the_last(places.max(LAST_STEPS))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// Makes a queue that moved `steps` times, `apart` seconds between two steps; returns also the time of the last
    /// step.
    fn moved(steps: u32, apart: u64) -> (Pace, Instant) {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        pace.begins(begun, PATIENCE);
        let now = moves(&mut pace, begun, steps, secs(apart));
        (pace, now)
    }

    /// Moves the queue `steps` times; returns the time of the last step.
    fn moves(pace: &mut Pace, mut now: Instant, steps: u32, apart: Duration) -> Instant {
        for _ in 0..steps {
            now += apart;
            pace.moves(now);
        }
        now
    }

    #[test]
    fn as_many_as_the_pace_serves_in_time_may_stand_in_line() {
        let (pace, now) = moved(8, 1);
        assert!(!pace.is_too_slow(4, now, PATIENCE), "the fifth waits for 5 s");
        assert!(pace.is_too_slow(5, now, PATIENCE));
    }

    #[test]
    fn a_few_steps_make_no_pace_nor_do_some_for_a_long_line() {
        let (pace, now) = moved(3, 4);
        assert!(!pace.is_too_slow(1, now, PATIENCE));
        let (pace, now) = moved(10, 4);
        assert!(!pace.is_too_slow(100, now, PATIENCE));
        assert!(pace.is_too_slow(80, now, PATIENCE));
    }

    #[test]
    fn a_moment_s_standstill_turns_nobody_away_from_a_long_line_and_a_line_that_has_become_slow_does()
     {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        let (fast, slow) = (Duration::from_millis(10), Duration::from_millis(100));
        pace.begins(begun, PATIENCE);
        let now = moves(&mut pace, begun, 300, fast);
        let now = moves(&mut pace, now, 1, secs(1));
        assert!(!pace.is_too_slow(190, now, PATIENCE), "its wait is 3 s");
        let now = moves(&mut pace, now, 40, slow);
        assert!(pace.is_too_slow(190, now, PATIENCE));
        assert!(!pace.is_too_slow(40, now, PATIENCE), "its wait is 4 s");
    }

    #[test]
    fn the_first_in_line_is_never_turned_away() {
        let (pace, now) = moved(8, 60);
        assert!(pace.is_too_slow(1, now, PATIENCE));
        assert!(!pace.is_too_slow(0, now + secs(3600), PATIENCE));
    }

    #[test]
    fn it_becomes_faster_as_soon_as_the_line_does() {
        let (mut pace, now) = moved(8, 60);
        for _ in 0..40 {
            pace.moves(now);
        }
        assert!(!pace.is_too_slow(10, now, PATIENCE));
    }

    #[test]
    fn where_nobody_moves_for_so_long_none_but_the_first_is_let_in() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.begins(now, PATIENCE);
        assert!(!pace.is_too_slow(1, now + secs(5), PATIENCE));
        let later = now + secs(6);
        assert!(pace.is_too_slow(1, later, PATIENCE));
        pace.given_up(later);
        pace.begins(later + secs(1), PATIENCE);
        assert!(pace.is_too_slow(1, later + secs(1), PATIENCE), "the same standstill");
        pace.moves(later + secs(2));
        assert!(!pace.is_too_slow(1, later + secs(2), PATIENCE));
    }

    #[test]
    fn a_standstill_of_long_ago_does_not_count() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.begins(now, PATIENCE);
        pace.given_up(now + secs(5));
        pace.begins(now + secs(60), PATIENCE);
        assert!(!pace.is_too_slow(1, now + secs(61), PATIENCE));
    }

    #[test]
    fn a_pace_of_long_ago_turns_nobody_away() {
        let (mut pace, now) = moved(8, 60);
        pace.begins(now + PATIENCE, PATIENCE);
        assert!(!pace.is_too_slow(30, now + PATIENCE, PATIENCE));
        let (mut pace, now) = moved(8, 60);
        pace.begins(now + PATIENCE / 2, PATIENCE);
        assert!(pace.is_too_slow(1, now + PATIENCE / 2, PATIENCE), "it was just now");
    }

    #[test]
    fn time_in_which_nobody_stands_in_line_does_not_count() {
        let (mut pace, now) = moved(8, 1);
        let later = now + secs(3600);
        pace.begins(later, PATIENCE);
        pace.moves(later + secs(1));
        assert!(!pace.is_too_slow(4, later + secs(1), PATIENCE));
    }
}
