//! The assignment of a connection's room: to a checkout, to the first waiters that may take it, or to requests to come.

use std::time::{Duration, Instant};

use super::{
    Arrival, Ask, ClientId, ConnectionId, EndReason, LeaseFacts, Leased, Operation, Phase, Reuse,
    Sharing, State, Taker, WaiterId, reason_of,
};

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Leases the newest connection with room that this request may take; `None` if there is none.
    pub(super) fn lease_newest(&mut self, ask: &Ask) -> Option<Leased<C>> {
        self.lease_found(|state| state.newest_for(ask), ask)
    }

    /// Leases the connection on which the request's client has authenticated itself, if it has room: on another
    /// connection the server would not know the client. `None` if there is none, or if the request must not get a used
    /// connection.
    pub(super) fn lease_claimed(&mut self, ask: &Ask) -> Option<Leased<C>> {
        let find = |state: &State<C, E, W>| state.connections.claimed_with_room(ask.client);
        if ask.fresh { None } else { self.lease_found(find, ask) }
    }

    /// Leases the connection that `find` returns; `None` once it returns none. An expired one is closed and `find` is
    /// asked again, because [`Operation::tick`] may be late. Room that is left goes to waiters.
    fn lease_found(
        &mut self,
        find: impl Fn(&State<C, E, W>) -> Option<ConnectionId>,
        ask: &Ask,
    ) -> Option<Leased<C>> {
        while let Some(id) = find(self.state) {
            let limits = self.state.connections.limits(id)?;
            if let Some(reason) = self.reached(&limits) {
                self.close_ended(id, reason);
                continue;
            }
            let idle = limits.idle.map(|idle| self.now.saturating_duration_since(idle.since));
            let (leased, room) = self.lease(id, ask, Reuse::Reused, idle)?;
            if room {
                // By one use more the connection may suit a waiter under the reuse mode.
                self.give_room(id);
                self.find_dials();
            }
            return Some(leased);
        }
        None
    }

    /// Begins a lease of a connection with room, which was idle for `idle` before; under [`Sharing::Never`] the client
    /// becomes the connection's owner. Returns true with it if there is still room; `None` if there was none.
    fn lease(
        &mut self,
        id: ConnectionId,
        ask: &Ask,
        reuse: Reuse,
        idle: Option<Duration>,
    ) -> Option<(Leased<C>, bool)> {
        let leased = self.state.connections.lease(id, reuse, idle, self.now)?;
        if self.state.settings.sharing == Sharing::Never {
            self.state.connections.belongs_to(id, ask.client);
        }
        self.state.purge.checked_out(self.state.connections.streams());
        Some(leased)
    }

    /// Takes back a lease that its waiter never collected, so that it counts as no use; the connection goes to other
    /// waiters or is kept.
    pub(super) fn take_back(&mut self, leased: &Leased<C>) {
        self.state.connections.unlease(leased.id);
        self.end_stream(leased.id, None);
    }

    /// Ends a stream of a connection, and decides what becomes of the connection. `unfit` is the reason for which no
    /// other stream may begin on it; `None` if the stream left it fit.
    pub(super) fn end_stream(&mut self, id: ConnectionId, unfit: Option<EndReason>) {
        match self.state.connections.end_stream(id) {
            Some(Phase::Open(_)) => match unfit {
                Some(reason) => self.retire(id, reason),
                None => self.returned(id),
            },
            Some(Phase::Retiring(streams, reason)) if streams.is_idle() => {
                self.close(id, unfit.unwrap_or(reason));
            }
            Some(Phase::Lost(streams, end, at)) if streams.is_idle() => {
                self.ended_under_lease(id, unfit.unwrap_or(reason_of(end.by)), end, at);
            }
            _ => {}
        }
        self.find_dials();
    }

    /// Finds the next use for an open connection that has just been established, or on which a stream has ended; or
    /// ends it.
    pub(super) fn returned(&mut self, id: ConnectionId) {
        match self.reason_to_retire(id) {
            Some(reason) => self.retire(id, reason),
            None => self.offer(id),
        }
    }

    /// Gives the room of a connection to the first waiters that may take it, and keeps it for what is left.
    fn offer(&mut self, id: ConnectionId) {
        match self.give_room(id) {
            Some(Taker::Place) => self.retire(id, EndReason::Purged),
            _ => self.keep(id),
        }
    }

    /// Gives the room of a connection to the first waiters that may take it. Returns who has a right to the rest, which
    /// can only be the place; `None` if no waiter wants it.
    pub(super) fn give_room(&mut self, id: ConnectionId) -> Option<Taker> {
        loop {
            match self.state.taker(id)? {
                Taker::Connection(waiter) => self.serve(waiter, id),
                Taker::Place => return Some(Taker::Place),
            }
        }
    }

    /// Gives a waiter a lease of this connection, which must have room, as its outcome, and wakes the waiter. The dial
    /// that it counted on goes to other waiters.
    fn serve(&mut self, waiter: WaiterId, id: ConnectionId) {
        let Arrival { ask, reason, .. } =
            *self.state.waiters.arrival(waiter).expect("who is first in line waits");
        let reuse = if self.state.connections.uses(id) == 0 { reason } else { Reuse::Reused };
        let leased = self.lease(id, &ask, reuse, None);
        let (leased, _) = leased.expect("a waiter is served from a connection with room");
        let dial = self.state.waiters.serve(waiter, Ok(leased), self.now);
        self.effects.wake.extend(self.state.waiters.take_waker(waiter));
        self.release_dial(waiter, dial);
    }

    /// Lists a connection that has room, so that requests to come find it. In a drain it retires instead; an idle one
    /// closes if the settings do not allow it to stay.
    fn keep(&mut self, id: ConnectionId) {
        if !self.state.connections.is_idle(id) {
            self.state.connections.keep(id, self.now);
            if self.state.draining && self.state.connections.is_listed(id) {
                return self.retire(id, EndReason::Drained);
            }
            return self.watch(id);
        }
        if self.state.draining {
            return self.close(id, EndReason::Drained);
        }
        let most = if self.state.lessons.has_habit() {
            self.state.most_idle_at_risk()
        } else {
            self.state.most_idle()
        };
        if most == 0 {
            return self.close(id, EndReason::Purged);
        }
        if self.state.census().idle > most {
            self.close_oldest_idle(EndReason::Purged);
        }
        self.state.connections.keep(id, self.now);
        let expiry = self.state.expiry(id);
        if let Some((at, reason)) = expiry
            && at <= self.now
        {
            // The upstream announced an idle time of zero.
            return self.close_ended(id, reason);
        }
        self.state.purge_period.get_or_insert(self.now);
        self.arm(expiry.map(|(at, _)| at));
    }

    /// Arranges that [`Operation::tick`] looks after a connection that is idle or has room.
    pub(super) fn watch(&mut self, id: ConnectionId) {
        if self.state.connections.is_listed(id) {
            self.state.purge_period.get_or_insert(self.now);
            self.arm(self.state.expiry(id).map(|(at, _)| at));
        }
    }

    /// Arranges that [`Operation::tick`] runs in time for a connection that has become idle, or was doubted.
    pub(super) fn arm(&mut self, expiry: Option<Instant>) {
        let nearest = expiry.into_iter().chain(self.state.next_purge()).min();
        if let Some(at) = nearest
            && self.state.armed.is_none_or(|armed| at < armed)
        {
            self.state.armed = Some(at);
            self.effects.rearm = true;
        }
    }
}

impl<C, E, W> State<C, E, W> {
    /// Returns the newest connection with room that the reuse mode lets this request take, of its thread before others;
    /// `None` if there is none.
    fn newest_for(&self, ask: &Ask) -> Option<ConnectionId> {
        let sharing = self.settings.sharing;
        self.connections.newest_with_room(ask.thread, |id| {
            sharing == Sharing::Always || sharing.allows(ask, self.connections.history(id))
        })
    }

    /// Gives a leased connection to the client that has authenticated itself on it: no other client may take it any
    /// more.
    pub fn claim(&mut self, id: ConnectionId, client: ClientId) {
        self.connections.claim(id, client);
    }

    /// Counts another request of the same client on a lease that goes on. Returns the connection's uses and age; `None`
    /// if the connection has ended.
    pub fn lease_again(&mut self, id: ConnectionId, now: Instant) -> Option<(u64, Duration)> {
        self.connections.lease_again(id, now)
    }

    /// Returns who has the right to the room of a connection; `None` if it has no room, or no waiter wants it.
    fn taker(&self, id: ConnectionId) -> Option<Taker> {
        if self.waiters.none_unserved() {
            return None;
        }
        let LeaseFacts { streams, doubted, history, .. } = self.connections.lease_facts(id)?;
        if doubted || !streams.has_room() {
            let blocks = streams.is_idle() && self.waiters.queued() > self.places_coming();
            return blocks.then_some(Taker::Place);
        }
        // A connection with open streams gives its place back later than those that retire already.
        let retiring = if streams.is_idle() { 0 } else { self.connections.retiring() };
        let sharing = self.settings.sharing;
        self.waiters.taker(|ask| sharing.allows(ask, history), self.places_coming() + retiring)
    }

    /// Returns the most connections that may be idle. `minIdle` wins over `maxIdle` and over a `purgeDelay` of zero.
    pub(super) fn most_idle(&self) -> usize {
        let none = self.settings.purge_delay.is_zero();
        let most = if none { 0 } else { self.settings.max_idle.unwrap_or(usize::MAX) };
        most.max(self.settings.min_idle)
    }

    /// Returns the most connections that may be idle where the upstream closes them at any time. Some requests then
    /// dial although connections are idle, and the idle ones would grow up to `maxConnections`. So the idle ones, with
    /// the one that is to be kept now, and the others in use are together at most as many as were lately in use at
    /// once.
    fn most_idle_at_risk(&self) -> usize {
        let others = self.purge.connections_for(self.connections.streams());
        let needed = self.purge.needed().saturating_sub(others);
        self.most_idle().min(needed).max(self.settings.min_idle)
    }

    /// Returns the reason to report if this request, which found no connection, gets a new one; `place_free` is true if
    /// it need not wait for a place.
    pub(super) fn reason_for_new(&self, ask: &Ask, place_free: bool) -> Reuse {
        // This request may take none of the connections that have room now, or it would have been given one.
        if self.settings.sharing.forbids_all(ask) || self.connections.has_shared_room() {
            Reuse::Policy
        } else if self.connections.doubted_idle() > 0 {
            Reuse::Stale
        } else if self.connections.has_private_room() {
            Reuse::Authenticated
        } else if !place_free {
            Reuse::Cap
        } else if self.census().staying() > 0 {
            Reuse::Busy
        } else {
            self.last_end.map_or(Reuse::First, EndReason::as_reuse)
        }
    }
}
