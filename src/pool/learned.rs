//! How long the upstream lets a connection be idle: as it announces, and as it is seen to do.
//!
//! Seen are idle periods: those that ended well, and those that the upstream cut short, by age in bins that are a quarter
//! of an octave wide. Two things are believed. A deadline: most of what reaches an age is closed right there. It limits how
//! long a connection is kept. A habit of closing at any time: connections live so short that to reuse an idle one is a
//! gamble at any age. It limits nothing, but who cannot be sent again must not gamble. Either needs several closes at
//! different times, for a restart closes many connections, but at one time; and what was seen is forgotten by halves, for
//! an upstream that was slow once need not stay so.

use std::time::{Duration, Instant};

use crate::label;

/// What a response's `Keep-Alive` field announced.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// `timeout`: how long the connection may be idle.
    pub timeout: Option<Duration>,
    /// `max`: how many more requests it takes.
    pub max: Option<u64>,
}

label! {
    /// How an idle limit became known.
    pub enum Source {
        /// By `Keep-Alive: timeout=`.
        Announced = "announced",
        /// By the ages at which the upstream closed.
        Seen = "seen",
    }
}

/// How long a connection may be idle here, less than the upstream's own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// After so long idle it is retired.
    pub limit: Duration,
    /// How that is known.
    pub from: Source,
}

/// Half of what was seen is forgotten after this time.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// What was announced is believed for so long, where no connection has an announcement of its own.
const ANNOUNCEMENT_LIFE: Duration = Duration::from_hours(1);
/// Closes within this time are one event.
const EVENT: Duration = Duration::from_millis(20);
/// So many events make a deadline, and a habit.
const DEADLINE_EVENTS: u32 = 3;
const HABIT_EVENTS: u32 = 4;
/// A habit: the upstream closes more often than so many times in each second that a connection is idle...
const HABIT_RATE: f64 = 4.0;
/// ... and not less than one in so many idle periods ends so: where they are short, few do, and yet a request is lost now and
/// then. Servers that end each connection after some hundred requests, without a word, do not count.
const HABIT_SHARE: u32 = 400;
/// Up to 2^22 ms, more than an hour.
const BINS: usize = 88;

/// Idle periods of about one length.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    /// Those that ended otherwise than by the upstream's close.
    survived: u32,
    closed: u32,
    /// Closes, but those at one time counted once.
    events: u32,
    /// The shortest that was closed.
    lowest: Duration,
}

/// See the module.
#[derive(Debug, Clone)]
pub struct Lessons {
    bins: Box<[Bin; BINS]>,
    /// Seconds that connections were idle, in all.
    exposure: f64,
    /// Events over all bins.
    events: u32,
    /// When the running event began, and a bit for each bin that it touched.
    event: Option<(Instant, u128)>,
    /// When half was forgotten, or the first thing seen.
    halved: Option<Instant>,
    announced: Option<(Duration, Instant)>,
    seen: Option<Duration>,
    habit: bool,
}

impl Default for Lessons {
    fn default() -> Self {
        Self {
            bins: Box::new([Bin::default(); BINS]),
            exposure: 0.0,
            events: 0,
            event: None,
            halved: None,
            announced: None,
            seen: None,
            habit: false,
        }
    }
}

/// How long to keep idle what the upstream keeps for so long: less by 1 s or a tenth, but not by more than a half.
pub fn with_margin(timeout: Duration) -> Duration {
    let margin = Duration::from_secs(1).max(timeout / 10);
    timeout.saturating_sub(margin).max(timeout / 2)
}

impl Lessons {
    /// The limit in force. Of a connection that has `answered`, its own announcement counts, or that there was none; of one
    /// that has not, the upstream's last one.
    pub fn limit(&self, own: Option<Duration>, answered: bool) -> Option<Duration> {
        let last = self.announced.map(|(limit, _)| limit).filter(|_| !answered);
        own.or(last).into_iter().chain(self.seen).min()
    }

    /// The same, for a person.
    pub fn learned(&self) -> Option<Learned> {
        let announced = self.announced.map(|(limit, _)| (limit, Source::Announced));
        let seen = self.seen.map(|limit| (limit, Source::Seen));
        let lower = announced.into_iter().chain(seen).min_by_key(|(limit, _)| *limit);
        lower.map(|(limit, from)| Learned { limit, from })
    }

    /// The upstream closes idle connections at any time. On the warm path.
    pub fn has_habit(&self) -> bool {
        self.habit
    }

    /// The upstream announced this timeout; returns the limit that follows. No time at all is said of that connection alone.
    pub fn announced(&mut self, timeout: Duration, now: Instant) -> Duration {
        let limit = with_margin(timeout);
        if !timeout.is_zero() {
            self.announced = Some((limit, now));
        }
        limit
    }

    /// A connection was idle for so long, and nothing was wrong with it. On the warm path.
    pub fn survived(&mut self, idle: Duration, now: Instant) {
        self.time_passes(now);
        let bin = &mut self.bins[bin_of(idle)];
        bin.survived = bin.survived.saturating_add(1);
        self.exposure += idle.as_secs_f64();
    }

    /// The upstream closed a connection that was idle for so long.
    pub fn closed(&mut self, idle: Duration, now: Instant) {
        self.time_passes(now);
        let index = bin_of(idle);
        let new = self.is_new_event(index, now);
        let bin = &mut self.bins[index];
        bin.lowest = if bin.closed == 0 { idle } else { bin.lowest.min(idle) };
        bin.closed = bin.closed.saturating_add(1);
        bin.events = bin.events.saturating_add(u32::from(new));
        self.exposure += idle.as_secs_f64();
        self.conclude();
    }

    /// Whether a close in this bin is not part of an event that touched it already.
    fn is_new_event(&mut self, index: usize, now: Instant) -> bool {
        let bit = 1 << index;
        match &mut self.event {
            Some((began, touched)) if now.saturating_duration_since(*began) < EVENT => {
                let new = *touched & bit == 0;
                *touched |= bit;
                new
            }
            _ => {
                self.event = Some((now, bit));
                self.events = self.events.saturating_add(1);
                true
            }
        }
    }

    fn conclude(&mut self) {
        self.habit = self.shows_habit();
        self.seen = self.deadline().map(with_margin);
    }

    fn shows_habit(&self) -> bool {
        let closed = self.sum(|bin| bin.closed);
        let periods = closed.saturating_add(self.sum(|bin| bin.survived));
        self.events >= HABIT_EVENTS
            && f64::from(closed) >= HABIT_RATE * self.exposure
            && closed.saturating_mul(HABIT_SHARE) >= periods
    }

    /// The lowest age at which, again and again, most of what reached it was closed. Two bins, for it may be an edge.
    fn deadline(&self) -> Option<Duration> {
        let mut reached = self.sum(|bin| bin.closed.saturating_add(bin.survived));
        for (index, bin) in self.bins.iter().enumerate() {
            let next = self.bins.get(index + 1).copied().unwrap_or_default();
            let closed = bin.closed.saturating_add(next.closed);
            let often = bin.events > 0 && bin.events + next.events >= DEADLINE_EVENTS;
            if often && closed.saturating_mul(2) >= reached {
                return Some(bin.lowest);
            }
            reached = reached.saturating_sub(bin.closed.saturating_add(bin.survived));
        }
        None
    }

    fn sum(&self, of: impl Fn(&Bin) -> u32) -> u32 {
        self.bins.iter().map(of).fold(0, u32::saturating_add)
    }

    /// Forgets by halves what is old; true if that changed the limit. On the warm path.
    pub fn time_passes(&mut self, now: Instant) -> bool {
        let since = *self.halved.get_or_insert(now);
        if now.saturating_duration_since(since) < HALF_LIFE {
            return false;
        }
        let before = self.limit(None, false);
        self.forget(since, now);
        self.limit(None, false) != before
    }

    fn forget(&mut self, since: Instant, now: Instant) {
        let halves = now.saturating_duration_since(since).as_secs() / HALF_LIFE.as_secs();
        let halves = u32::try_from(halves).unwrap_or(u32::MAX).min(31);
        self.halved = Some(now);
        for bin in self.bins.iter_mut() {
            bin.survived >>= halves;
            bin.closed >>= halves;
            bin.events >>= halves;
        }
        self.events >>= halves;
        self.exposure /= f64::from(1_u32 << halves);
        let fresh = |at: &(Duration, Instant)| now - at.1 < ANNOUNCEMENT_LIFE;
        self.announced = self.announced.filter(fresh);
        self.conclude();
    }
}

/// The bin of an idle period: 0 to 3 ms one each, then four to each doubling.
fn bin_of(idle: Duration) -> usize {
    let millis = u64::try_from(idle.as_millis()).unwrap_or(u64::MAX);
    if millis < 4 {
        return millis as usize;
    }
    let octave = millis.ilog2();
    let quarter = (millis >> (octave - 2)) & 3;
    (((octave - 1) * 4) as usize + quarter as usize).min(BINS - 1)
}

#[cfg(test)]
mod tests;
