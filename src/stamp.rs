//! A point in time in one atomic word, for deadlines that one task sets and another checks.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

/// A point in time, or none, stored as microseconds since the first use of a stamp in this process; 0 for none.
#[derive(Debug, Default)]
pub(crate) struct Stamp(AtomicU64);

impl Stamp {
    /// Stores a point in time.
    pub(crate) fn set(&self, at: Instant) {
        let since = at.saturating_duration_since(epoch());
        // In 64 bits, which last for half a million years, as a request sets seven stamps.
        let micros = since.as_secs().saturating_mul(1_000_000) + u64::from(since.subsec_micros());
        self.0.store(micros.max(1), Relaxed);
    }

    /// Stores the point in time of another stamp, or none.
    pub(crate) fn copy(&self, other: &Self) {
        self.0.store(other.0.load(Relaxed), Relaxed);
    }

    /// Removes the point in time.
    pub(crate) fn clear(&self) {
        self.0.store(0, Relaxed);
    }

    /// Returns the point in time, exact to the microsecond, or `None`.
    pub(crate) fn get(&self) -> Option<Instant> {
        match self.0.load(Relaxed) {
            0 => None,
            micros => Some(epoch() + Duration::from_micros(micros)),
        }
    }
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_gives_back_what_was_set_and_nothing_once_cleared() {
        let stamp = Stamp::default();
        assert_eq!(stamp.get(), None);
        let at = Instant::now() + Duration::from_secs(5);
        stamp.set(at);
        let got = stamp.get().expect("it was set");
        assert!(at.saturating_duration_since(got) <= Duration::from_micros(1), "{at:?} {got:?}");
        stamp.clear();
        assert_eq!(stamp.get(), None);
    }
}
