//! Tests of the lessons: each upstream is played for hours or days on a clock that only moves from event to event.

use super::*;

fn millis(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

struct Play {
    lessons: Lessons,
    now: Instant,
    /// The state of a small random generator, so that each run plays the same.
    dice: u64,
}

impl Play {
    fn new() -> Self {
        Self { lessons: Lessons::default(), now: Instant::now(), dice: 1 }
    }

    /// Returns a random number below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.dice >> 33) % sides
    }

    /// Plays one idle period: a request comes after `gap`, the upstream would close after `life`. True if the upstream
    /// closed.
    fn idles(&mut self, gap: Duration, life: Duration) -> bool {
        let kept = self.lessons.limit(None, false).unwrap_or(Duration::MAX);
        let ends = gap.min(life).min(kept);
        self.now += ends;
        if life < gap && life < kept {
            self.lessons.closed(life, self.now);
            return true;
        }
        self.lessons.survived(ends, self.now);
        self.now += gap.saturating_sub(ends);
        false
    }

    fn seen(&self) -> Option<Duration> {
        self.lessons.learned().map(|learned| learned.limit)
    }

    fn nothing_is_believed(&self) -> bool {
        self.seen().is_none() && !self.lessons.has_habit()
    }
}

#[test]
fn a_second_or_a_tenth_is_the_margin_and_never_more_than_half() {
    for (timeout, limit) in [
        (0, 0),
        (1_000, 500),
        (2_000, 1_000),
        (3_000, 2_000),
        (5_000, 4_000),
        (60_000, 54_000),
        (100, 50),
    ] {
        assert_eq!(with_margin(millis(timeout)), millis(limit), "{timeout} ms");
    }
}

#[test]
fn an_announcement_is_believed_at_once_and_the_last_one_counts() {
    let mut play = Play::new();
    assert_eq!(play.lessons.learned(), None);
    play.lessons.announced(secs(5), play.now);
    let learned = Learned { limit: secs(4), from: Source::Announced };
    assert_eq!(play.lessons.learned(), Some(learned));
    play.lessons.announced(secs(20), play.now);
    assert_eq!(play.lessons.limit(None, false), Some(secs(18)));
    assert_eq!(
        play.lessons.limit(Some(secs(3)), true),
        Some(secs(3)),
        "a connection's own goes before"
    );
}

#[test]
fn an_announcement_that_is_not_repeated_is_forgotten_after_an_hour() {
    let mut play = Play::new();
    play.lessons.announced(secs(5), play.now);
    for _ in 0..59 {
        play.idles(secs(60), Duration::MAX);
        assert_eq!(play.seen(), Some(secs(4)));
    }
    for _ in 0..11 {
        play.idles(secs(60), Duration::MAX);
    }
    assert_eq!(play.seen(), None);
}

#[test]
fn a_deadline_of_five_seconds_is_learned_from_three_closes() {
    let mut play = Play::new();
    for closes in 0..3 {
        assert_eq!(play.seen(), None, "after {closes}");
        for _ in 0..20 {
            play.idles(secs(2), secs(5));
        }
        let late = millis(play.roll(40));
        assert!(play.idles(secs(10), secs(5) + late));
    }
    let learned = play.lessons.learned().unwrap();
    assert_eq!(learned.from, Source::Seen);
    assert!((secs(4)..millis(4_040)).contains(&learned.limit), "{learned:?}");
}

#[test]
fn a_deadline_on_the_edge_between_two_bins_is_learned_too() {
    let mut play = Play::new();
    for life in [5_121, 5_119, 5_122] {
        play.idles(secs(10), millis(life));
    }
    assert_eq!(play.seen(), Some(millis(4_119)));
}

#[test]
fn a_learned_deadline_costs_a_few_closes_an_hour_for_days() {
    let mut play = Play::new();
    let end = play.now + secs(3 * 86_400);
    let mut closes = 0;
    while play.now < end {
        let gap = millis(500 + play.roll(20_000));
        closes += u32::from(play.idles(gap, secs(5)));
    }
    assert!(closes < 3 * 24 * 20, "{closes} closes in three days");
}

#[test]
fn closes_at_any_time_within_fifty_milliseconds_are_a_habit_after_a_few() {
    for gap in [1, 10, 100] {
        let mut play = Play::new();
        let mut closes = 0;
        while !play.lessons.has_habit() {
            let life = millis(play.roll(51));
            closes += u32::from(play.idles(millis(gap), life));
            play.now += millis(1);
            assert!(closes < 12, "with {gap} ms between requests: {closes} closes");
        }
    }
}

#[test]
fn a_busy_client_that_leaves_connections_idle_for_a_fifth_of_a_millisecond_finds_the_habit_too() {
    let mut play = Play::new();
    let mut closes = 0;
    while !play.lessons.has_habit() {
        let life = Duration::from_micros(play.roll(50_000));
        closes += u32::from(play.idles(Duration::from_micros(200), life));
        play.now += millis(1);
        assert!(closes < 12, "{closes} closes");
    }
}

#[test]
fn a_habit_is_believed_for_as_long_as_it_lasts_and_limits_nothing_that_may_live() {
    let mut play = Play::new();
    let mut since_believed = None;
    for period in 0..100_000 {
        let life = millis(play.roll(51));
        play.idles(millis(2), life);
        play.now += millis(1);
        if play.lessons.has_habit() {
            since_believed.get_or_insert(period);
        }
        assert_eq!(play.lessons.has_habit(), since_believed.is_some(), "period {period}");
    }
    assert_eq!(play.seen(), None, "most of what reaches 2 ms lives on");
}

#[test]
fn a_deadline_is_no_habit() {
    let mut play = Play::new();
    for _ in 0..1000 {
        let gap = millis(500 + play.roll(20_000));
        play.idles(gap, secs(5));
    }
    assert!(play.seen().is_some() && !play.lessons.has_habit());
}

#[test]
fn a_restart_that_closes_a_hundred_connections_at_once_teaches_nothing() {
    let mut play = Play::new();
    for round in 0..3 {
        for _ in 0..200 {
            let gap = millis(play.roll(30_000));
            play.idles(gap, Duration::MAX);
        }
        for _ in 0..100 {
            let (idle, late) = (millis(play.roll(30_000)), millis(play.roll(15)));
            play.lessons.closed(idle, play.now + late);
        }
        assert!(play.nothing_is_believed(), "restart {round}");
    }
}

#[test]
fn one_early_close_now_and_then_teaches_nothing() {
    let mut play = Play::new();
    for _ in 0..5_000 {
        let gap = millis(play.roll(30_000));
        let unlucky = play.roll(50) == 0;
        let life = if unlucky { gap / 2 } else { Duration::MAX };
        play.idles(gap, life);
        assert!(play.nothing_is_believed());
    }
}

#[test]
fn an_upstream_that_limits_age_instead_of_idleness_teaches_nothing() {
    for (age, gap) in [(60, 100), (60, 7_000), (10, 40)] {
        let mut play = Play::new();
        let mut dies = play.now + secs(age);
        for _ in 0..20_000 {
            let gap = millis(1 + play.roll(gap));
            let life = dies.saturating_duration_since(play.now);
            if play.idles(gap, life) || play.now >= dies {
                dies = play.now + secs(age);
            }
            assert!(play.nothing_is_believed(), "an age of {age} s, {gap:?} between requests");
        }
    }
}

#[test]
fn what_was_seen_is_forgotten_when_it_is_no_longer_so() {
    let mut play = Play::new();
    for _ in 0..4 {
        play.idles(secs(10), secs(5));
    }
    assert!(play.seen().is_some());
    let end = play.now + secs(3600);
    while play.now < end {
        play.idles(secs(10), Duration::MAX);
    }
    assert_eq!(play.seen(), None);
}

#[test]
fn a_habit_is_forgotten_too() {
    let mut play = Play::new();
    for _ in 0..200 {
        let life = millis(play.roll(51));
        play.idles(millis(100), life);
    }
    assert!(play.lessons.has_habit());
    let end = play.now + secs(3600);
    while play.now < end {
        play.idles(secs(1), Duration::MAX);
    }
    assert!(play.nothing_is_believed());
}

#[test]
fn a_deadline_that_becomes_shorter_is_followed() {
    let mut play = Play::new();
    for life in [20, 20, 20, 5, 5, 5] {
        play.idles(secs(60), secs(life));
    }
    assert_eq!(play.seen(), Some(secs(4)));
}

#[test]
fn bins_ascend_and_each_age_has_one() {
    let mut last = 0;
    for age in 0..200_000 {
        let bin = bin_of(millis(age));
        assert!(bin == last || bin == last + 1, "at {age} ms");
        last = bin;
    }
    assert_eq!(bin_of(Duration::MAX), BINS - 1);
}

#[test]
fn two_restarts_of_a_hundred_equally_idle_connections_teach_nothing() {
    let mut play = Play::new();
    for idle in [secs(3), millis(200)] {
        for _ in 0..2 {
            play.now += secs(30);
            for _ in 0..100 {
                let late = millis(play.roll(15));
                play.lessons.closed(idle, play.now + late);
            }
            assert!(play.nothing_is_believed());
        }
        play = Play::new();
    }
}
