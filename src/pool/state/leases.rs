//! The assignment of connections: to a checkout, to the first waiter that may take one, or to the idle list.

use std::time::{Duration, Instant};

use super::{
    Arrival, Ask, Census, ClientId, ConnectionId, EndReason, Leased, Operation, Phase, Reuse,
    Sharing, State, Taker, WaiterId, reason_of,
};

impl<C, E, W> Operation<'_, C, E, W> {
    /// Leases the newest idle connection that this request may take.
    pub(super) fn lease_newest_idle(&mut self, ask: &Ask) -> Option<Leased<C>> {
        self.lease_found(|state| state.newest_idle_for(ask), ask)
    }

    /// Leases the connection on which the request's client has authenticated itself, if it is idle: on another
    /// connection the server would not know the client.
    pub(super) fn lease_claimed(&mut self, ask: &Ask) -> Option<Leased<C>> {
        let find = |state: &State<C, E, W>| state.connections.claimed_idle(ask.client);
        if ask.fresh { None } else { self.lease_found(find, ask) }
    }

    /// Leases the idle connection that `find` returns. An expired one is closed and `find` is asked again, because
    /// [`Operation::tick`] may be late.
    fn lease_found(
        &mut self,
        find: impl Fn(&State<C, E, W>) -> Option<ConnectionId>,
        ask: &Ask,
    ) -> Option<Leased<C>> {
        while let Some(id) = find(self.state) {
            if let Some(reason) = self.expired(id) {
                self.close_ended(id, reason);
            } else {
                let handle = self.state.connections.lease_idle(id, self.now)?;
                return Some(self.lease(id, handle, ask, Reuse::Reused));
            }
        }
        None
    }

    /// Leases an active connection.
    pub(super) fn lease(
        &mut self,
        id: ConnectionId,
        handle: C,
        ask: &Ask,
        reuse: Reuse,
    ) -> Leased<C> {
        if self.state.settings.sharing == Sharing::Never {
            self.state.connections.belongs_to(id, ask.client);
        }
        self.state.purge.checked_out(self.state.census().active);
        self.state.connections.lease(id, handle, reuse, self.now)
    }

    /// Takes back a lease that its waiter never collected, so that it counts as no use.
    pub(super) fn take_back(&mut self, leased: Leased<C>) {
        self.state.connections.unlease(leased.id);
        if !matches!(self.state.connections.phase(leased.id), Some(Phase::Active)) {
            return self.returned_after_end(leased.id, leased.handle);
        }
        self.returned(leased.id, leased.handle);
    }

    /// Finds the next use for an active connection whose handle has come back, or closes it.
    pub(super) fn returned(&mut self, id: ConnectionId, handle: C) {
        match self.reason_to_retire(id) {
            Some(reason) => self.retire(id, handle, reason),
            None => self.offer(id, handle),
        }
        self.find_dials();
    }

    /// Ends a connection whose socket had ended under the lease before its handle came back.
    pub(super) fn returned_after_end(&mut self, id: ConnectionId, handle: C) {
        self.effects.close.push(handle);
        if let Some(Phase::Lost(end, _)) = self.state.connections.phase(id) {
            self.discard(id, reason_of(end.by));
        }
    }

    /// Gives an active connection to the first waiter that may take it, else keeps it idle where the settings allow.
    pub(super) fn offer(&mut self, id: ConnectionId, handle: C) {
        match self.state.taker(id) {
            Some(Taker::Connection(waiter)) => self.serve(waiter, id, handle),
            Some(Taker::Place) => self.retire(id, handle, EndReason::Purged),
            None => self.keep(id, handle),
        }
    }

    pub(super) fn serve(&mut self, waiter: WaiterId, id: ConnectionId, handle: C) {
        let Arrival { ask, reason, .. } =
            *self.state.waiters.arrival(waiter).expect("who is first in line waits");
        let reuse = if self.state.connections.uses(id) == 0 { reason } else { Reuse::Reused };
        let leased = self.lease(id, handle, &ask, reuse);
        let dial = self.state.waiters.serve(waiter, Ok(leased), self.now);
        self.effects.wake.extend(self.state.waiters.take_waker(waiter));
        self.release_dial(dial);
    }

    pub(super) fn keep(&mut self, id: ConnectionId, handle: C) {
        if self.state.draining {
            return self.retire(id, handle, EndReason::Drained);
        }
        let most = if self.state.lessons.has_habit() {
            self.state.most_idle_at_risk()
        } else {
            self.state.most_idle()
        };
        if most == 0 {
            return self.retire(id, handle, EndReason::Purged);
        }
        if self.state.census().idle >= most {
            self.close_oldest_idle(EndReason::Purged);
        }
        self.state.connections.keep(id, handle, self.now);
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
    fn newest_idle_for(&self, ask: &Ask) -> Option<ConnectionId> {
        let sharing = self.settings.sharing;
        self.connections.newest_idle(ask.thread, |id| {
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

    pub(super) fn taker(&self, id: ConnectionId) -> Option<Taker> {
        if self.waiters.none_unserved() {
            return None;
        }
        let (sharing, history) = (self.settings.sharing, self.connections.history(id));
        self.waiters.taker(|ask| sharing.allows(ask, history), self.places_coming())
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
        let others = self.census().active.saturating_sub(1);
        let needed = self.purge.needed().saturating_sub(others);
        self.most_idle().min(needed).max(self.settings.min_idle)
    }

    pub(super) fn reason_for_new(&self, ask: &Ask, place_free: bool) -> Reuse {
        let Census { active, connecting, idle, .. } = self.census();
        // This request may take none of the connections that are idle now, or it would have been given one.
        let (private, doubted) = (self.connections.private_idle(), self.connections.doubted_idle());
        if self.settings.sharing.forbids_all(ask) || idle > private + doubted {
            Reuse::Policy
        } else if doubted > 0 {
            Reuse::Stale
        } else if idle > 0 {
            Reuse::Authenticated
        } else if !place_free {
            Reuse::Cap
        } else if active + connecting > 0 {
            Reuse::Busy
        } else {
            self.last_end.map_or(Reuse::First, EndReason::as_reuse)
        }
    }
}
