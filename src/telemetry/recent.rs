//! A bounded list of rare events, for people: the last few different ones with counts and times.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

/// The number of entries that are kept.
pub const KEPT: usize = 12;

/// The last [`KEPT`] different entries that were noted.
#[derive(Debug)]
pub struct Recent<T>(Mutex<VecDeque<Noted<T>>>);

/// An entry that was noted once or more often.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Noted<T> {
    /// The entry.
    pub what: T,
    /// The number of times that the entry was noted while it was kept.
    pub times: u64,
    /// The time at which the entry was first noted.
    pub first: SystemTime,
    /// The time at which the entry was last noted.
    pub last: SystemTime,
}

impl<T: Clone + PartialEq> Recent<T> {
    /// Notes an entry; returns true if no equal entry was kept. Equal entries become one, so that a storm of one kind
    /// does not push the others out.
    pub fn note(&self, what: T, at: SystemTime) -> bool {
        let mut kept = self.lock();
        let known = kept.iter().position(|noted| noted.what == what);
        let noted = match known.and_then(|index| kept.remove(index)) {
            Some(noted) => Noted { times: noted.times + 1, last: at, ..noted },
            None => Noted { what, times: 1, first: at, last: at },
        };
        kept.truncate(KEPT - 1);
        kept.push_front(noted);
        known.is_none()
    }

    /// Returns the entry that was noted last; `None` before the first.
    #[must_use]
    pub fn newest(&self) -> Option<T> {
        self.lock().front().map(|noted| noted.what.clone())
    }

    /// Returns the kept entries, the newest first.
    #[must_use]
    pub fn snapshot(&self) -> Vec<Noted<T>> {
        self.lock().iter().cloned().collect()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Noted<T>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Recent<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn the_newest_come_first_and_the_oldest_are_forgotten() {
        let recent = Recent::default();
        (0..40).for_each(|number| assert!(recent.note(number, at(number))));
        assert_eq!(recent.newest(), Some(39));
        let kept: Vec<_> = recent.snapshot().into_iter().map(|noted| noted.what).collect();
        assert_eq!(kept, (28..40).rev().collect::<Vec<_>>());
    }

    #[test]
    fn a_repeated_event_is_one_entry_with_its_count() {
        let recent = Recent::default();
        for (what, when, new) in [("a", 1, true), ("b", 2, true), ("a", 3, false), ("a", 4, false)]
        {
            assert_eq!(recent.note(what, at(when)), new, "{what} at {when}");
        }
        let kept = recent.snapshot();
        assert_eq!(kept[0], Noted { what: "a", times: 3, first: at(1), last: at(4) });
        assert_eq!(kept[1], Noted { what: "b", times: 1, first: at(2), last: at(2) });
        assert_eq!(kept.len(), 2);
    }
}
