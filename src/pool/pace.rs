//! Reckons the wait of a request that comes to the queue now, and says if it is too long to begin.
//!
//! Two reckonings have to agree on that: by the last few steps, so that a line that has become faster lets in all who come at
//! once, and by as many steps as there are places, in which a moment's standstill is no more than itself.
//!
//! Who comes when nobody is before it is never turned away: as long as anybody comes at all, somebody stands in line and
//! finds out when it moves again.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

/// The last few steps are so many.
const FEW: usize = 8;
/// So many steps make a pace, and in a long line one for each so many places.
const ENOUGH: usize = 4;
const PLACES: usize = 8;
/// So many of the last steps are remembered.
const REMEMBERED: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Pace {
    /// The time in which somebody stood in line: up to where the last steps began, and up to each of them.
    marks: VecDeque<Duration>,
    /// When the line last moved, or began.
    since: Option<Instant>,
    /// When the last one who stood in it gave up, and nobody came after.
    given_up: Option<Instant>,
}

impl Pace {
    /// Somebody stands in line, the first. If the last one gave up just now, it is the same standstill still. If the line
    /// has not moved for longer than anybody waits, how fast it was then says nothing of today.
    pub fn begins(&mut self, now: Instant, patience: Duration) {
        let same =
            self.given_up.take().is_some_and(|at| now.saturating_duration_since(at) < patience);
        if !same {
            let rested = self.since.replace(now).is_none_or(|at| now - at >= patience);
            if rested {
                self.marks.clear();
            }
        }
    }

    /// Somebody left the line with a connection or a dial.
    pub fn moves(&mut self, now: Instant) {
        let since = self.since.replace(now).unwrap_or(now);
        let before = self.marks.back().copied();
        let before = before.unwrap_or_else(|| {
            self.marks.push_back(Duration::ZERO);
            Duration::ZERO
        });
        self.marks.push_back(before + now.saturating_duration_since(since));
        if self.marks.len() > REMEMBERED + 1 {
            self.marks.pop_front();
        }
    }

    /// The last one in line left it with nothing.
    pub fn given_up(&mut self, now: Instant) {
        self.given_up = Some(now);
    }

    /// Whether one that comes now, with so many before it, would wait for longer than its patience. So it would at this
    /// pace, or where nobody has moved for so long.
    pub fn is_too_slow(&self, before: usize, now: Instant, patience: Duration) -> bool {
        if before == 0 {
            return false;
        }
        let stands = self.since.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        stands > patience || self.wait(before + 1).is_some_and(|wait| wait > patience)
    }

    /// Reckons the least time that so many places take, if enough steps are known to tell.
    fn wait(&self, places: usize) -> Option<Duration> {
        let steps = self.marks.len().saturating_sub(1);
        if steps < (places / PLACES).clamp(ENOUGH, REMEMBERED) {
            return None;
        }
        let by_the_last = |looked_at: usize| {
            let looked_at = looked_at.min(steps);
            let time = self.marks[steps].saturating_sub(self.marks[steps - looked_at]);
            time.mul_f64(places as f64 / looked_at as f64)
        };
        Some(by_the_last(FEW).min(by_the_last(places.max(FEW))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn secs(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A line that moved so often, so many seconds apart; and when.
    fn moved(steps: u32, apart: u64) -> (Pace, Instant) {
        let (mut pace, begun) = (Pace::default(), Instant::now());
        pace.begins(begun, PATIENCE);
        let now = moves(&mut pace, begun, steps, secs(apart));
        (pace, now)
    }

    /// Moves it so often, so far apart; says when that is over.
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
