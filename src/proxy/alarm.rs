//! The alarm of one exchange: a time at which the exchange is to be polled even if nothing has happened to it.
//!
//! The exchange sets a deadline and does nothing more. The client connection's one timer rings the alarm at that time;
//! the exchange then finds that the alarm has rung, and decides what follows.

use std::{
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    time::Instant,
};

use crate::stamp::Stamp;

/// A deadline, or the fact that it has passed: never both, so that one deadline is acted on once.
#[derive(Debug, Default)]
pub struct Alarm {
    deadline: Stamp,
    rung: AtomicBool,
}

impl Alarm {
    /// Sets the deadline, and forgets an earlier one, even if that has passed.
    pub(super) fn set(&self, at: Instant) {
        self.rung.store(false, Relaxed);
        self.deadline.set(at);
    }

    /// Removes the deadline, even if it has passed.
    pub(super) fn clear(&self) {
        self.rung.store(false, Relaxed);
        self.deadline.clear();
    }

    /// Returns the time at which the alarm is to ring; `None` once it has rung, until it is set again.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Rings: marks the deadline as passed and removes it.
    pub fn ring(&self) {
        self.deadline.clear();
        self.rung.store(true, Relaxed);
    }

    /// Returns true if the alarm has rung since the last call; only the first caller gets true.
    pub(super) fn take_rung(&self) -> bool {
        self.rung.load(Relaxed) && self.rung.swap(false, Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn fault_07_an_alarm_that_has_rung_has_no_deadline_until_it_is_set_again() {
        let alarm = Alarm::default();
        assert!(alarm.deadline().is_none() && !alarm.take_rung());
        let now = Instant::now();
        alarm.set(now);
        alarm.ring();
        assert_eq!(alarm.deadline(), None, "whoever sleeps until it would not sleep");
        assert!(alarm.take_rung() && !alarm.take_rung(), "it tells so once");
        assert_eq!(alarm.deadline(), None);
        alarm.set(now + Duration::from_secs(1));
        assert!(alarm.deadline().is_some());
    }

    #[test]
    fn fault_07_a_ring_that_was_not_noticed_does_not_count_for_the_next_deadline() {
        let alarm = Alarm::default();
        for forget in [Alarm::clear, |alarm: &Alarm| alarm.set(Instant::now())] {
            alarm.set(Instant::now());
            alarm.ring();
            forget(&alarm);
            assert!(!alarm.take_rung());
        }
    }
}
