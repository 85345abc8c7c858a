//! A bound on how many connections there are at a time. The bound can change while some exist.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use tokio::sync::Notify;

use crate::latest::Latest;

/// A number of seats, one for each connection: those of a listener's clients, for example.
#[derive(Debug)]
pub struct Room {
    most: AtomicUsize,
    taken: AtomicUsize,
    /// The signal that a seat may be free.
    changed: Notify,
    /// The signal that no seat may be free any more.
    filled: Notify,
}

/// The seat of one connection; given back on drop.
#[derive(Debug)]
pub struct Seat(Arc<Room>);

impl Room {
    /// Makes a room with so many seats.
    pub fn new(most: usize) -> Arc<Self> {
        let (most, taken) = (AtomicUsize::new(most), AtomicUsize::new(0));
        Arc::new(Self { most, taken, changed: Notify::new(), filled: Notify::new() })
    }

    /// Sets the number of seats. Connections beyond a lower number keep their seats until they end.
    pub fn resize(&self, most: usize) {
        self.most.store(most, SeqCst);
        self.changed.notify_waiters();
        self.filled.notify_waiters();
    }

    /// Replaces a room: new connections take seats in the next one, and those that have a seat keep it until they end.
    pub fn move_to(newest: &Latest<Self>, next: Arc<Self>) {
        let old = newest.replace(next);
        old.changed.notify_waiters();
    }

    /// Waits for a seat in the newest room, even if the room is replaced meanwhile.
    pub async fn seat(newest: &Latest<Self>) -> Seat {
        loop {
            let room = newest.share();
            let changed = room.changed.notified();
            // A replacement after this point wakes this task.
            let current = Arc::ptr_eq(&room, &newest.share());
            if let Some(seat) = room.free_seat().filter(|_| current) {
                return seat;
            }
            if current {
                changed.await;
            }
        }
    }

    /// Waits for a seat.
    pub async fn wait(self: &Arc<Self>) -> Seat {
        loop {
            let changed = self.changed.notified();
            if let Some(seat) = self.free_seat() {
                return seat;
            }
            changed.await;
        }
    }

    /// Waits until a seat may be free, and takes none.
    pub async fn vacancy(&self) {
        let changed = self.changed.notified();
        if self.is_full() {
            changed.await;
        }
    }

    /// Waits until no seat is free.
    pub async fn full(&self) {
        loop {
            let filled = self.filled.notified();
            if self.is_full() {
                return;
            }
            filled.await;
        }
    }

    /// True if no seat is free.
    pub fn is_full(&self) -> bool {
        self.taken.load(SeqCst) >= self.most.load(SeqCst)
    }

    /// Returns the number of seats.
    pub fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    /// Takes a seat; `None` if none is free.
    pub fn free_seat(self: &Arc<Self>) -> Option<Seat> {
        let sit = |taken: usize| (taken < self.most.load(SeqCst)).then_some(taken + 1);
        self.taken.fetch_update(SeqCst, SeqCst, sit).ok()?;
        if self.is_full() {
            self.filled.notify_waiters();
        }
        Some(Seat(Arc::clone(self)))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, SeqCst);
        // All waiting tasks are woken: a single one could be about to stop waiting, and the seat would stay free.
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
        let newest = Arc::new(Latest::new(Arc::clone(&room)));
        let first = Room::seat(&newest).await;
        let waiting = tokio::spawn({
            let newest = Arc::clone(&newest);
            async move { (Room::seat(&newest).await, Room::seat(&newest).await) }
        });
        drop(first);
        tokio::task::yield_now().await;
        room.resize(2);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_until_no_seat_is_free_is_woken_by_the_last_one_and_by_a_smaller_bound() {
        let room = Room::new(2);
        let wait = || {
            tokio::spawn({
                let room = Arc::clone(&room);
                async move { room.full().await }
            })
        };
        let _first = room.free_seat();
        let waiting = wait();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        let last = room.free_seat();
        assert!(waiting.await.is_ok() && wait().await.is_ok());
        drop(last);
        let waiting = wait();
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        room.resize(1);
        assert!(waiting.await.is_ok());
    }

    #[tokio::test]
    async fn whoever_waits_for_a_seat_gets_one_in_the_room_that_takes_its_place() {
        let newest = Arc::new(Latest::new(Room::new(1)));
        let _taken = Room::seat(&newest).await;
        let waiting = tokio::spawn({
            let newest = Arc::clone(&newest);
            async move { Room::seat(&newest).await }
        });
        tokio::task::yield_now().await;
        let next = Room::new(1);
        Room::move_to(&newest, Arc::clone(&next));
        let _seat = waiting.await.expect("no panic");
        assert!(next.free_seat().is_none(), "it is taken");
    }
}
