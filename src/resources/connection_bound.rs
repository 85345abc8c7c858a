//! A bound on how many connections there are at a time. The bound can change while some exist.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::latest::Latest;

/// A bound in slots, one for each connection: those of a listener's clients, for example.
#[derive(Debug)]
pub struct ConnectionBound {
    most: AtomicUsize,
    taken: AtomicUsize,
    /// The signal that a slot may be free.
    changed: Notify,
    /// The signal that no slot may be free any more.
    filled: Notify,
}

/// The slot of one connection; given back on drop.
#[derive(Debug)]
pub struct Slot(Arc<ConnectionBound>);

impl ConnectionBound {
    /// Makes a bound of so many slots.
    pub fn new(most: usize) -> Arc<Self> {
        let (most, taken) = (AtomicUsize::new(most), AtomicUsize::new(0));
        Arc::new(Self { most, taken, changed: Notify::new(), filled: Notify::new() })
    }

    /// Sets the number of slots. Connections beyond a lower number keep their slots until they end.
    pub fn resize(&self, most: usize) {
        self.most.store(most, SeqCst);
        self.changed.notify_waiters();
        self.filled.notify_waiters();
    }

    /// Replaces a bound: new connections take slots of the next one, and those that have a slot keep it until they end.
    pub fn move_to(newest: &Latest<Self>, next: Arc<Self>) {
        let old = newest.replace(next);
        old.changed.notify_waiters();
    }

    /// Waits for a slot of the newest bound, even if the bound is replaced meanwhile.
    pub async fn slot(newest: &Latest<Self>) -> Slot {
        loop {
            let bound = newest.share();
            let changed = bound.changed.notified();
            // A replacement after this point wakes this task.
            let current = Arc::ptr_eq(&bound, &newest.share());
            if let Some(slot) = bound.free_slot().filter(|_| current) {
                return slot;
            }
            if current {
                changed.await;
            }
        }
    }

    /// Waits for a slot.
    pub async fn wait(self: &Arc<Self>) -> Slot {
        loop {
            let changed = self.changed.notified();
            if let Some(slot) = self.free_slot() {
                return slot;
            }
            changed.await;
        }
    }

    /// Waits until a slot may be free, and takes none.
    pub async fn until_free(&self) {
        let changed = self.changed.notified();
        if self.is_full() {
            changed.await;
        }
    }

    /// Waits until no slot is free.
    pub async fn full(&self) {
        loop {
            let filled = self.filled.notified();
            if self.is_full() {
                return;
            }
            filled.await;
        }
    }

    /// True if no slot is free.
    pub fn is_full(&self) -> bool {
        self.taken.load(SeqCst) >= self.most.load(SeqCst)
    }

    /// Returns the number of slots.
    pub fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    /// Takes a slot; `None` if none is free.
    pub fn free_slot(self: &Arc<Self>) -> Option<Slot> {
        let take = |taken: usize| (taken < self.most.load(SeqCst)).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, take).ok()?;
        if self.is_full() {
            self.filled.notify_waiters();
        }
        Some(Slot(Arc::clone(self)))
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, SeqCst);
        // All waiting tasks are woken: a single one could be about to stop waiting, and the slot would stay free.
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_bound_empties_before_it_fills_again() {
        let bound = ConnectionBound::new(2);
        let (first, second) = (bound.free_slot(), bound.free_slot());
        assert!(first.is_some() && second.is_some() && bound.free_slot().is_none());
        bound.resize(1);
        drop(first);
        assert!(bound.free_slot().is_none(), "one is taken, and one is all");
        drop(second);
        assert!(bound.free_slot().is_some());
    }

    #[tokio::test]
    async fn a_slot_given_back_or_added_wakes_those_that_wait() {
        let bound = ConnectionBound::new(1);
        let newest = Arc::new(Latest::new(Arc::clone(&bound)));
        let first = ConnectionBound::slot(&newest).await;
        let waiting = tokio::spawn({
            let newest = Arc::clone(&newest);
            async move { (ConnectionBound::slot(&newest).await, ConnectionBound::slot(&newest).await) }
        });
        drop(first);
        tokio::task::yield_now().await;
        bound.resize(2);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_until_no_slot_is_free_is_ended_by_the_last_one_and_by_a_smaller_bound() {
        let bound = ConnectionBound::new(2);
        let wait = || {
            tokio::spawn({
                let bound = Arc::clone(&bound);
                async move { bound.full().await }
            })
        };
        let _first = bound.free_slot();
        let waiting = wait();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let last = bound.free_slot();
        assert!(waiting.await.is_ok() && wait().await.is_ok());
        drop(last);
        let waiting = wait();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        bound.resize(1);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn a_wait_for_a_slot_gets_one_of_the_bound_that_replaces_the_old_one() {
        let newest = Arc::new(Latest::new(ConnectionBound::new(1)));
        let _taken = ConnectionBound::slot(&newest).await;
        let waiting = tokio::spawn({
            let newest = Arc::clone(&newest);
            async move { ConnectionBound::slot(&newest).await }
        });
        tokio::task::yield_now().await;
        let next = ConnectionBound::new(1);
        ConnectionBound::move_to(&newest, Arc::clone(&next));
        let _slot = waiting.await.expect("no panic");
        assert!(next.free_slot().is_none(), "it is taken");
    }
}
