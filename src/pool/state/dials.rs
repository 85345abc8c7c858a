//! Who dials: free places and orphan dials go to the first in line without one.

use std::time::Instant;

use super::{ConnectionId, Dial, Effects, State, WaiterId};

impl<C, E, W> State<C, E, W> {
    pub(super) fn place_free(&self) -> bool {
        self.census().total() < self.settings.max_connections
    }

    /// The places that are free, or will be once all that is closing has closed.
    pub(super) fn places_coming(&self) -> usize {
        self.settings.max_connections.saturating_sub(self.census().staying())
    }

    /// The oldest waiters without a dial adopt the oldest orphan ones; if there are none, they get free places.
    pub(super) fn find_dials(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        while let Some(orphan) = self.connections.oldest_orphan()
            && let Some(waiter) = self.waiters.first_queued()
        {
            self.inherit(orphan, waiter, now);
        }
        self.grant_dials(now, effects);
    }

    /// Reserves free places for the oldest waiters without a dial.
    pub(super) fn grant_dials(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        while self.place_free()
            && let Some(waiter) = self.waiters.first_queued()
        {
            let id = self.connections.reserve(now, Some(waiter));
            self.waiters.count_on(waiter, Dial::Granted(id), now);
            effects.wake.extend(self.waiters.take_waker(waiter));
        }
    }

    /// Takes a place for one more socket of a dial that tries several addresses at once, if one is free.
    pub fn spare(&mut self, now: Instant) -> Option<ConnectionId> {
        self.place_free().then(|| self.connections.reserve_spare(now))
    }

    /// A dial lost its waiter: one that has not begun gives its place back, another goes on for the next.
    pub(super) fn release_dial(&mut self, dial: Dial, now: Instant) {
        match dial {
            Dial::None => {}
            Dial::Granted(id) => self.connections.forget(id),
            Dial::Own(id) | Dial::Inherited(id) => self.bequeath(id, now),
        }
    }

    /// The oldest waiter without a dial counts on this one from now on; if there is none, it is an orphan.
    pub(super) fn bequeath(&mut self, dial: ConnectionId, now: Instant) {
        match self.waiters.first_queued() {
            Some(heir) => self.inherit(dial, heir, now),
            None => self.connections.bequeath(dial, None),
        }
    }

    pub(super) fn inherit(&mut self, dial: ConnectionId, heir: WaiterId, now: Instant) {
        self.connections.bequeath(dial, Some(heir));
        self.waiters.count_on(heir, Dial::Inherited(dial), now);
    }

    /// Tells the waiter that began the dial; an heir goes back to the queue, first in line for the place.
    pub(super) fn fail_waiter(
        &mut self,
        owner: WaiterId,
        dial: ConnectionId,
        error: Option<E>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        if self.waiters.dial(owner) == Dial::Own(dial) {
            self.waiters.serve(owner, Err(error), now);
            effects.wake.extend(self.waiters.take_waker(owner));
        } else {
            self.waiters.lose_dial(owner, now, self.settings.queue_timeout);
        }
    }

    /// A waiter that has no dial any more sleeps as if it had one: it has to know that `queueTimeout` concerns it.
    pub(super) fn tell_if_queued(&mut self, waiter: Option<WaiterId>, effects: &mut Effects<C, W>) {
        if let Some(waiter) = waiter.filter(|waiter| self.waiters.is_queued(*waiter)) {
            effects.wake.extend(self.waiters.take_waker(waiter));
        }
    }
}
