//! The assignment of dials: free places and orphan dials go to the first waiter in the queue.

use std::time::Instant;

use super::{ConnectionId, Dial, EndReason, Operation, State, WaiterId};

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Gives the oldest orphan dials to the first waiters in the queue; once there are no orphans, gives them free
    /// places.
    pub(super) fn find_dials(&mut self) {
        while let Some(orphan) = self.state.connections.oldest_orphan()
            && let Some(waiter) = self.state.waiters.first_queued()
        {
            self.adopt_dial(orphan, waiter);
        }
        self.grant_dials();
        if self.state.waiters.queued() > 0 {
            self.retire_for_places();
        }
    }

    /// Reserves free places for the first waiters in the queue, and wakes them to dial.
    pub(super) fn grant_dials(&mut self) {
        while self.state.place_free()
            && let Some(waiter) = self.state.waiters.first_queued()
        {
            let id = self.state.connections.reserve(self.now, Some(waiter));
            self.state.waiters.count_on(waiter, Dial::Granted(id), self.now);
            self.effects.wake.extend(self.state.waiters.take_waker(waiter));
        }
    }

    /// Retires connections that have room while more waiters are queued than places will be free.
    pub(super) fn retire_for_places(&mut self) {
        let lack = |state: &State<C, E, W>| {
            state.waiters.queued() > state.places_coming() + state.connections.retiring()
        };
        while lack(self.state)
            && let Some(id) = self.state.connections.least_busy()
        {
            self.retire(id, EndReason::Purged);
        }
    }

    /// Takes a dial from a waiter that no longer needs it. A reserved place where no dial has begun becomes free; a
    /// dial under way goes to the next waiter.
    pub(super) fn release_dial(&mut self, dial: Dial) {
        match dial {
            Dial::None => {}
            Dial::Granted(id) => self.state.connections.forget(id),
            Dial::Own(id) | Dial::Adopted(id) => self.pass_dial(id),
        }
    }

    /// Gives a dial to the first waiter in the queue; if the queue is empty, the dial is an orphan.
    pub(super) fn pass_dial(&mut self, dial: ConnectionId) {
        match self.state.waiters.first_queued() {
            Some(next_waiter) => self.adopt_dial(dial, next_waiter),
            None => self.state.connections.pass_dial(dial, None),
        }
    }

    pub(super) fn adopt_dial(&mut self, dial: ConnectionId, next_waiter: WaiterId) {
        self.state.connections.pass_dial(dial, Some(next_waiter));
        self.state.waiters.count_on(next_waiter, Dial::Adopted(dial), self.now);
    }

    /// Ends a failed dial for the waiter that counted on it. The waiter that began the dial gets the error as its
    /// outcome; one that adopted it returns to its old position in the queue.
    pub(super) fn fail_waiter(&mut self, owner: WaiterId, dial: ConnectionId, error: Option<E>) {
        if self.state.waiters.dial(owner) == Dial::Own(dial) {
            self.state.waiters.serve(owner, Err(error), self.now);
            self.effects.wake.extend(self.state.waiters.take_waker(owner));
        } else {
            self.state.waiters.lose_dial(owner, self.now, self.state.settings.queue_timeout);
        }
    }

    /// Wakes a waiter that has lost its dial and is queued again, so that it observes `queueTimeout` from now on.
    pub(super) fn tell_if_queued(&mut self, waiter: Option<WaiterId>) {
        if let Some(waiter) = waiter.filter(|waiter| self.state.waiters.is_queued(*waiter)) {
            self.effects.wake.extend(self.state.waiters.take_waker(waiter));
        }
    }
}

impl<C, E, W> State<C, E, W> {
    pub(super) fn place_free(&self) -> bool {
        self.census().total() < self.settings.max_connections
    }

    /// Returns the number of places that are free now, or will be once everything that is closing has closed.
    pub(super) fn places_coming(&self) -> usize {
        self.settings.max_connections.saturating_sub(self.census().staying())
    }

    /// Takes a place for one more socket of a dial that tries several addresses at once; `None` if no place is free.
    pub fn spare(&mut self, now: Instant) -> Option<ConnectionId> {
        self.place_free().then(|| self.connections.reserve_spare(now))
    }
}
