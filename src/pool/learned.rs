//! The time that the upstream lets a connection be idle, learned from its announcements and from its closes.
//!
//! Each idle period is counted by its length, as one that ended well or one that the upstream cut short, in bins that
//! are a quarter of an octave wide. Two conclusions are drawn from the counts:
//!
//! - A deadline: most of the periods that reach a length are cut short right there. It limits how long a connection is
//!   kept idle.
//! - A habit of closing at any time: the upstream closes idle connections so often that one of any idle time may be
//!   closing. It limits no idle time, but requests that cannot be sent again get new connections.
//!
//! Both need several closes at different times, because a restart of the upstream closes many connections at one time.
//! The counts are halved every ten minutes, because an upstream need not stay as it was.

use std::time::{Duration, Instant};

use crate::label;

/// The content of a response's `Keep-Alive` field.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct KeepAlive {
    /// The parameter `timeout`: how long the connection may be idle.
    pub timeout: Option<Duration>,
    /// The parameter `max`: how many more requests the upstream takes on the connection.
    pub max: Option<u64>,
}

label! {
    /// The way in which an idle limit became known.
    pub enum Source {
        /// The upstream announced it by `Keep-Alive: timeout=`.
        Announced = "announced",
        /// The upstream closed idle connections at about this age.
        Seen = "seen",
    }
}

/// The learned limit of how long a connection may be idle, with a margin below the upstream's own limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Learned {
    /// The idle time after which a connection is closed.
    pub limit: Duration,
    /// The way in which the limit became known.
    pub from: Source,
}

/// The time after which the counts are halved.
const HALF_LIFE: Duration = Duration::from_mins(10);
/// The time for which an announcement holds for connections without an announcement of their own.
const ANNOUNCEMENT_LIFE: Duration = Duration::from_hours(1);
/// The time within which several closes count as one event.
const EVENT: Duration = Duration::from_millis(20);
/// The least number of events for a deadline, and for a habit.
const DEADLINE_EVENTS: u32 = 3;
const HABIT_EVENTS: u32 = 4;
/// The least rate of closes for a habit, in closes per second that connections are idle.
const HABIT_RATE: f64 = 4.0;
/// The least share of closes for a habit: one in so many idle periods. Where idle periods are short only few are cut
/// short, and still a request is lost now and then. A server that silently ends each connection after some hundred
/// requests has a smaller share.
const HABIT_SHARE: u32 = 400;
/// The number of bins: up to 2^22 ms, which is more than an hour.
const BINS: usize = 88;

/// The counts of idle periods of about one length.
#[derive(Debug, Clone, Copy, Default)]
struct Bin {
    /// The number of periods that ended otherwise than by the upstream's close.
    survived: u32,
    closed: u32,
    /// The number of closes, where those of one event count once.
    events: u32,
    /// The shortest period that the upstream cut short.
    lowest: Duration,
}

/// The observations of one upstream's idle connections, and the conclusions from them.
#[derive(Debug, Clone)]
pub(super) struct Lessons {
    bins: Box<[Bin; BINS]>,
    /// The sum of all idle periods in seconds.
    exposure: f64,
    /// The number of events over all bins.
    events: u32,
    /// The beginning of the running event, and a bit for each bin that it touched.
    event: Option<(Instant, u128)>,
    /// The time at which the counts were last halved; at first that of the first observation.
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

/// Returns how long to keep a connection idle that the upstream keeps for `timeout`: 1 s or a tenth less, whichever is
/// more, but at least half of it.
pub(super) fn with_margin(timeout: Duration) -> Duration {
    let margin = Duration::from_secs(1).max(timeout / 10);
    timeout.saturating_sub(margin).max(timeout / 2)
}

impl Lessons {
    /// Returns the limit in force for a connection: the lower of the announced and the observed one; `None` if neither
    /// is known. `own` is the announcement on the connection itself. Without one, the upstream's last announcement
    /// holds if the connection has not `answered` yet.
    pub(super) fn limit(&self, own: Option<Duration>, answered: bool) -> Option<Duration> {
        let last = self.announced.map(|(limit, _)| limit).filter(|_| !answered);
        own.or(last).into_iter().chain(self.seen).min()
    }

    /// Returns the limits in force for connections without an announcement of their own: before their first answer, and
    /// after. While both stay, so do the limits of all connections.
    pub(super) fn limits(&self) -> [Option<Duration>; 2] {
        [false, true].map(|answered| self.limit(None, answered))
    }

    /// Returns the limit in force for new connections, and where it comes from, for people; `None` if nothing is known.
    pub(super) fn learned(&self) -> Option<Learned> {
        let announced = self.announced.map(|(limit, _)| (limit, Source::Announced));
        let seen = self.seen.map(|limit| (limit, Source::Seen));
        let lower = announced.into_iter().chain(seen).min_by_key(|(limit, _)| *limit);
        lower.map(|(limit, from)| Learned { limit, from })
    }

    /// True if the upstream closes idle connections at any time. Read by each checkout, so the conclusion is kept.
    pub(super) fn has_habit(&self) -> bool {
        self.habit
    }

    /// Notes an announced timeout, and returns the limit that follows from it. A timeout of zero says nothing about
    /// other connections, and is not kept.
    pub(super) fn announced(&mut self, timeout: Duration, now: Instant) -> Duration {
        let limit = with_margin(timeout);
        if !timeout.is_zero() {
            self.announced = Some((limit, now));
        }
        limit
    }

    /// Counts an idle period that ended well. Called for each reuse, so it is cheap and concludes nothing.
    pub(super) fn survived(&mut self, idle: Duration, now: Instant) {
        self.time_passes(now);
        let bin = &mut self.bins[bin_of(idle)];
        bin.survived = bin.survived.saturating_add(1);
        self.exposure += idle.as_secs_f64();
    }

    /// Counts an idle period that the upstream cut short, and concludes anew.
    pub(super) fn closed(&mut self, idle: Duration, now: Instant) {
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

    /// True if a close in this bin is not part of an event that has touched the bin already; notes that the event has
    /// touched it, or begins a new event.
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

    /// True if the counts show a habit: enough events, and closes that are frequent both by the time that connections
    /// are idle and by the number of idle periods.
    fn shows_habit(&self) -> bool {
        let closed = self.sum(|bin| bin.closed);
        let periods = closed.saturating_add(self.sum(|bin| bin.survived));
        self.events >= HABIT_EVENTS
            && f64::from(closed) >= HABIT_RATE * self.exposure
            && closed.saturating_mul(HABIT_SHARE) >= periods
    }

    /// Returns the shortest length at which, in several events, at least half of the periods that reached it were cut
    /// short; `None` if there is none. Looks at two bins together, because a deadline may lie at the edge of a bin.
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

    /// Halves the counts if that is due; true if a limit has changed by it. Called for each reuse, and mostly only a
    /// comparison.
    pub(super) fn time_passes(&mut self, now: Instant) -> bool {
        let since = *self.halved.get_or_insert(now);
        if now.saturating_duration_since(since) < HALF_LIFE {
            return false;
        }
        let before = self.limits();
        self.forget(since, now);
        self.limits() != before
    }

    /// Halves all counts once for each half-life since `since`, drops an announcement that is too old, and concludes
    /// anew.
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

/// Returns the bin of an idle period: one bin for each of 0 to 3 ms, then four for each doubling.
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
