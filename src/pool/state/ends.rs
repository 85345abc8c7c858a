//! The reasons for which connections must close, and the time at which the pool has to look at them again.

use std::{num::NonZeroU64, time::Instant};

use super::{
    Census, ConnectionId, End, EndReason, LeaseFacts, Operation, Phase, Sharing, State, StayLimits,
    UseHistory,
};

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Returns the reason for which a connection must close instead of being leased again; `None` if it may be leased.
    pub(super) fn reason_to_retire(&self, id: ConnectionId) -> Option<EndReason> {
        let facts = self.state.connections.lease_facts(id)?;
        if facts.generation < self.state.generation {
            Some(self.state.outdated)
        } else if self.state.has_used_up_requests(&facts) {
            Some(EndReason::Requests)
        } else if let Some(reason) = self.state.reason_if_ownerless(facts.history) {
            Some(reason)
        } else if facts.retires.is_some_and(|at| at <= self.now) {
            Some(EndReason::Aged)
        } else {
            self.state.is_surplus(&facts).then_some(EndReason::Reconfigured)
        }
    }

    /// Ends an open connection: an idle one closes now; another one takes no more streams, and closes once the open ones
    /// have ended.
    pub(super) fn retire(&mut self, id: ConnectionId, reason: EndReason) {
        match self.state.connections.phase(id) {
            Some(Phase::Open(streams)) if !streams.is_idle() => {
                self.state.connections.enter(id, Phase::Retiring(streams, reason));
            }
            _ => self.close(id, reason),
        }
    }

    /// Closes a connection without open streams, and notes the reason for the next checkout. Its place stays taken
    /// until its socket is closed.
    pub(super) fn close(&mut self, id: ConnectionId, reason: EndReason) {
        self.effects.close.extend(self.state.connections.close(id, reason));
        self.state.last_end = Some(reason);
    }

    /// Ends a connection whose socket had ended before its last lease: drops its handle, reports its end, and notes the
    /// reason for the next checkout.
    pub(super) fn ended_under_lease(
        &mut self,
        id: ConnectionId,
        reason: EndReason,
        end: End,
        at: Instant,
    ) {
        self.effects.close.extend(self.state.connections.take_handle(id));
        self.effects.ended.push(self.state.connections.remove_ended(id, reason, end, at));
        self.state.last_end = Some(reason);
    }

    /// Closes the oldest idle connection; false if none is idle.
    pub(super) fn close_oldest_idle(&mut self, reason: EndReason) -> bool {
        let oldest = self.state.connections.oldest_idle();
        if let Some(oldest) = oldest {
            self.close(oldest, reason);
        }
        oldest.is_some()
    }

    /// Closes so many of the idle connections, oldest first, or all if there are fewer. Looks at each connection once, as
    /// there may be many, and requests wait for the lock.
    pub(super) fn close_idle(&mut self, most: usize, reason: EndReason) {
        for id in self.state.connections.idle_oldest_first(most) {
            self.close(id, reason);
        }
    }

    /// Ends the listed connections that have reached a limit: of age, of idle time, or of the time to be proven alive.
    pub(super) fn close_expired(&mut self) {
        for id in self.state.connections.listed_oldest_first() {
            if let Some(reason) = self.expired(id) {
                self.close_ended(id, reason);
            }
        }
    }

    /// Ends a period of the purge rule, and closes as many idle connections as the rule says, oldest first, but none of
    /// the warm floor. Of connections with open streams, retires those with the fewest as long as there are more than
    /// needed.
    pub(super) fn purge(&mut self) {
        let Census { active, idle, .. } = self.state.census();
        let (streams, retiring) =
            (self.state.connections.streams(), self.state.connections.retiring());
        let above_floor = idle.saturating_sub(self.state.settings.min_idle);
        // What retires takes no request any more, so that it neither meets a need nor is in excess.
        let staying = active - retiring;
        let surplus = self.state.purge.surplus(staying);
        let excess = self.state.purge.period_ended(streams, staying, idle).min(above_floor);
        self.close_idle(excess, EndReason::Purged);
        for _ in 0..surplus {
            if let Some(id) = self.state.connections.least_busy() {
                self.retire(id, EndReason::Purged);
            }
        }
    }

    /// Returns the reason for which a listed connection must end now; `None` if it may stay.
    pub(super) fn expired(&self, id: ConnectionId) -> Option<EndReason> {
        self.state.connections.limits(id).and_then(|limits| self.reached(&limits))
    }

    /// Returns the reason for which a connection with these limits must end now; `None` if it may stay.
    pub(super) fn reached(&self, limits: &StayLimits) -> Option<EndReason> {
        let nearest = self.state.nearest(limits);
        nearest.and_then(|(at, reason)| (at <= self.now).then_some(reason))
    }
}

impl<C, E, W> State<C, E, W> {
    /// True if a connection has carried as many requests as the settings, or the upstream's announcement, allow.
    pub(super) fn has_used_up_requests(&self, facts: &LeaseFacts) -> bool {
        let most = self.settings.max_requests.map(NonZeroU64::get);
        let most = most.into_iter().chain(facts.last_use).min();
        most.is_some_and(|most| facts.history.uses >= most)
    }

    /// Returns the reason for which a used connection must close because its owner is gone; `None` if the owner is
    /// there, or if the connection needs no owner.
    pub(super) fn reason_if_ownerless(&self, history: UseHistory) -> Option<EndReason> {
        if history.uses == 0 || history.owner.is_some() {
            None
        } else if history.private {
            Some(EndReason::Authenticated)
        } else {
            (self.settings.sharing == Sharing::Never).then_some(EndReason::Policy)
        }
    }

    /// Returns the next time at which [`Operation::tick`] has work to do; `None` if there is none.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let expiries = self.connections.listed().filter_map(|id| self.expiry(id));
        expiries.map(|(at, _)| at).chain(self.next_purge()).min()
    }

    pub(super) fn next_purge(&self) -> Option<Instant> {
        let delay = Some(self.settings.purge_delay).filter(|delay| !delay.is_zero())?;
        self.purge_period?.checked_add(delay)
    }

    /// Returns when a listed connection must end, and why; `None` if no limit applies to it.
    pub(super) fn expiry(&self, id: ConnectionId) -> Option<(Instant, EndReason)> {
        self.nearest(&self.connections.limits(id)?)
    }

    /// Returns the nearest of a connection's limits, and the reason that it gives; `None` if no limit applies.
    fn nearest(&self, limits: &StayLimits) -> Option<(Instant, EndReason)> {
        let idle = limits.idle.and_then(|limits| {
            let timeout = Some(self.settings.idle_timeout).filter(|timeout| !timeout.is_zero());
            let learned = self.lessons.limit(limits.announced, limits.used);
            let timeout = timeout.into_iter().chain(learned).min()?;
            limits.since.checked_add(timeout)
        });
        let idle = idle.map(|at| (at, EndReason::Idle));
        let aged = limits.retires.map(|at| (at, EndReason::Aged));
        let stale = limits.idle.and_then(|limits| limits.doubted).map(|at| (at, EndReason::Stale));
        idle.into_iter().chain(aged).chain(stale).min_by_key(|(at, _)| *at)
    }

    /// True if there are more connections than the cap allows, so that this one has to end. Beside open streams those
    /// that retire already suffice.
    fn is_surplus(&self, facts: &LeaseFacts) -> bool {
        let retiring = if facts.streams.is_idle() { 0 } else { self.connections.retiring() };
        self.census().staying() > self.settings.max_connections + retiring
    }
}
