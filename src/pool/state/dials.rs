//! The assignment of dials: free places, and dials with room, go to the first waiters in the queue.

use std::{sync::Arc, time::Instant};

use super::{ConnectionId, Dial, EndReason, Operation, State, WaiterId};

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Lets the first waiters in the queue count on the oldest dials that have room for them; once there are no such
    /// dials, gives the waiters free places.
    pub(super) fn find_dials(&mut self) {
        while let Some(dial) = self.state.connections.oldest_dial_with_room()
            && let Some(waiter) = self.state.waiters.first_queued()
        {
            self.join_dial(dial, waiter);
        }
        self.grant_dials();
        if self.state.waiters.queued() > 0 {
            self.end_for_places();
        }
    }

    /// Reserves free places for the first waiters in the queue, and wakes one for each place to dial.
    pub(super) fn grant_dials(&mut self) {
        while self.state.place_free()
            && let Some(waiter) = self.state.waiters.first_queued()
        {
            let id = self.state.connections.reserve(self.now);
            self.count_on(waiter, Dial::Granted(id));
            self.effects.wake.extend(self.state.waiters.take_waker(waiter));
            self.fill_dial(id);
        }
    }

    /// Lets the first waiters in the queue count on a dial, as long as it has room.
    fn fill_dial(&mut self, dial: ConnectionId) {
        while self.state.connections.has_dial_room(dial)
            && let Some(waiter) = self.state.waiters.first_queued()
        {
            self.join_dial(dial, waiter);
        }
    }

    /// Lets a queued waiter count on a dial that has room. Beside a waiter for which the dial began, its failure will be
    /// this waiter's own, too: otherwise the waiters of a dial that fails would dial one after the other, and each wait
    /// for all failures before its own.
    fn join_dial(&mut self, dial: ConnectionId, waiter: WaiterId) {
        let others = self.state.connections.waiters_of(dial);
        let adopted = |other: &WaiterId| self.state.waiters.dial(*other) == Dial::Adopted(dial);
        let adopts = others.iter().all(adopted);
        self.count_on(waiter, if adopts { Dial::Adopted(dial) } else { Dial::Own(dial) });
    }

    /// Makes a queued waiter count on this dial, which promises it a stream; the waiter leaves the queue and is not
    /// woken.
    fn count_on(&mut self, waiter: WaiterId, dial: Dial) {
        if let Some(id) = dial.id() {
            self.state.connections.promise(id, waiter);
        }
        self.state.waiters.count_on(waiter, dial, self.now);
    }

    /// Closes idle connections, and then retires connections that have room, while more waiters are queued than places
    /// will be free. The waiters may take none of these connections, which occupy places in which the waiters could dial.
    fn end_for_places(&mut self) {
        while self.state.waiters.queued() > self.state.places_coming()
            && self.close_oldest_idle(EndReason::Purged)
        {}
        let lack = |state: &State<C, E, W>| {
            state.waiters.queued() > state.places_coming() + state.connections.retiring()
        };
        while lack(self.state)
            && let Some(id) = self.state.connections.least_busy()
        {
            self.retire(id, EndReason::Purged);
        }
    }

    /// Takes a dial from a waiter that no longer needs it. A reserved place where no dial has begun goes to another waiter
    /// that counts on it, or becomes free; a dial under way goes on. The first waiter in the queue may then count on the
    /// dial.
    pub(super) fn release_dial(&mut self, waiter: WaiterId, dial: Dial) {
        let Some(id) = dial.id() else { return };
        self.state.connections.take_promise(id, waiter);
        if matches!(dial, Dial::Granted(_)) && !self.grant_again(id) {
            self.state.connections.forget(id);
        }
        self.fill_dial(id);
    }

    /// Grants a reserved place to the first of the waiters that count on it; false if there is none.
    fn grant_again(&mut self, id: ConnectionId) -> bool {
        let next = self.state.waiters.first_of(self.state.connections.waiters_of(id));
        if let Some(next) = next {
            self.state.waiters.count_on(next, Dial::Granted(id), self.now);
            self.effects.wake.extend(self.state.waiters.take_waker(next));
        }
        next.is_some()
    }

    /// Ends a failed dial for a waiter that counted on it. A waiter for which the dial began gets the error as its
    /// outcome, and is woken; one that adopted the dial returns to its old position in the queue.
    pub(super) fn fail_waiter(
        &mut self,
        waiter: WaiterId,
        dial: ConnectionId,
        error: Option<Arc<E>>,
    ) {
        if self.state.waiters.dial(waiter) == Dial::Own(dial) {
            self.state.waiters.serve(waiter, Err(error), self.now);
            self.effects.wake.extend(self.state.waiters.take_waker(waiter));
        } else {
            self.state.waiters.lose_dial(waiter, self.now, self.state.settings.queue_timeout);
        }
    }

    /// Wakes those of these waiters that have lost their dial and are queued again, so that they observe `queueTimeout`
    /// from now on.
    pub(super) fn tell_queued(&mut self, waiters: &[WaiterId]) {
        for waiter in waiters {
            if self.state.waiters.is_queued(*waiter) {
                self.effects.wake.extend(self.state.waiters.take_waker(*waiter));
            }
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
