//! How many connections a listener may have: a bound that can change while some exist.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

/// See the module.
#[derive(Debug)]
pub struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
    /// A seat may be free.
    changed: Notify,
}

/// One connection's; given back on drop.
pub(super) struct Seat(Arc<Room>);

impl Room {
    /// For so many connections.
    pub fn new(most: usize) -> Arc<Self> {
        let (most, taken) = (AtomicUsize::new(most), AtomicUsize::new(0));
        Arc::new(Self { most, taken, changed: Notify::new() })
    }

    /// From now on for so many; those above stay until they leave.
    pub fn resize(&self, most: usize) {
        self.most.store(most, SeqCst);
        self.changed.notify_waiters();
    }

    /// Waits for a seat.
    pub(super) async fn seat(self: &Arc<Self>) -> Seat {
        loop {
            let changed = self.changed.notified();
            if let Some(seat) = self.free_seat() {
                return seat;
            }
            changed.await;
        }
    }

    /// A seat, if one is free.
    pub(super) fn free_seat(self: &Arc<Self>) -> Option<Seat> {
        let sit = |taken: usize| (taken < self.most.load(SeqCst)).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, sit).is_ok().then(|| Seat(Arc::clone(self)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, SeqCst);
        // Whoever waits for two threads' sake looks again: waking one could wake the one that is about to leave.
        self.0.changed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_smaller_room_empties_before_it_fills_again() {
        let room = Room::new(2);
        let (first, second) = (room.free_seat(), room.free_seat());
        assert!(first.is_some() && second.is_some() && room.free_seat().is_none());
        room.resize(1);
        drop(first);
        assert!(room.free_seat().is_none(), "one is taken, and one is all");
        drop(second);
        assert!(room.free_seat().is_some());
    }

    #[tokio::test]
    async fn a_seat_given_back_or_added_wakes_whoever_waits() {
        let room = Room::new(1);
        let first = room.seat().await;
        let waiting = tokio::spawn({
            let room = Arc::clone(&room);
            async move { (room.seat().await, room.seat().await) }
        });
        drop(first);
        tokio::task::yield_now().await;
        room.resize(2);
        assert!(waiting.await.is_ok());
    }
}
