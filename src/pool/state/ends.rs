//! The reasons for which connections must close, and the time at which the pool has to look at them again.

use std::{num::NonZeroU64, time::Instant};

use super::{
    Census, ConnectionId, EndReason, IdleLimits, LeaseFacts, Operation, Phase, Sharing, State,
    UseHistory,
};

impl<C, E, W> Operation<'_, C, E, W> {
    /// Returns the reason for which a connection must close instead of being leased again; `None` if it may be leased.
    pub(super) fn reason_to_retire(&self, id: ConnectionId) -> Option<EndReason> {
        let facts = self.state.connections.lease_facts(id)?;
        let surplus = || self.state.census().staying() > self.state.settings.max_connections;
        if facts.over.is_some() {
            facts.over
        } else if facts.generation < self.state.generation {
            Some(self.state.outdated)
        } else if self.state.has_used_up_requests(&facts) {
            Some(EndReason::Requests)
        } else if let Some(reason) = self.state.reason_if_ownerless(facts.history) {
            Some(reason)
        } else if facts.retires.is_some_and(|at| at <= self.now) {
            Some(EndReason::Aged)
        } else {
            surplus().then_some(EndReason::Reconfigured)
        }
    }

    /// Closes an active connection whose handle has come back from its dial or lease.
    pub(super) fn retire(&mut self, id: ConnectionId, handle: C, reason: EndReason) {
        self.effects.close.push(handle);
        self.state.closes(id, reason);
    }

    pub(super) fn close_idle(&mut self, id: ConnectionId, reason: EndReason) {
        self.effects.close.extend(self.state.connections.take_idle(id));
        self.state.closes(id, reason);
    }

    /// Closes the oldest idle connection; false if none is idle.
    pub(super) fn close_oldest_idle(&mut self, reason: EndReason) -> bool {
        let oldest = self.state.connections.oldest_idle();
        if let Some(oldest) = oldest {
            self.close_idle(oldest, reason);
        }
        oldest.is_some()
    }

    pub(super) fn close_expired(&mut self) {
        for id in self.state.connections.idle_oldest_first() {
            if let Some(reason) = self.expired(id) {
                self.close_ended(id, reason);
            }
        }
    }

    pub(super) fn purge(&mut self) {
        let Census { active, idle, .. } = self.state.census();
        let above_floor = idle.saturating_sub(self.state.settings.min_idle);
        for _ in 0..self.state.purge.period_ended(active, idle).min(above_floor) {
            self.close_oldest_idle(EndReason::Purged);
        }
    }

    /// Returns the reason for which an idle connection must close now; `None` if it may stay.
    pub(super) fn expired(&self, id: ConnectionId) -> Option<EndReason> {
        self.state.expiry(id).and_then(|(at, reason)| (at <= self.now).then_some(reason))
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

    pub(super) fn closes(&mut self, id: ConnectionId, reason: EndReason) {
        self.last_end = Some(reason);
        self.connections.enter(id, Phase::Closing(reason));
    }

    /// Returns the next time at which [`Operation::tick`] has work to do.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let expiries = self.connections.idle().filter_map(|id| self.expiry(id));
        expiries.map(|(at, _)| at).chain(self.next_purge()).min()
    }

    pub(super) fn next_purge(&self) -> Option<Instant> {
        let delay = Some(self.settings.purge_delay).filter(|delay| !delay.is_zero())?;
        self.purge_period?.checked_add(delay)
    }

    /// Returns when an idle connection must close, and why; `None` if no limit applies to it.
    pub(super) fn expiry(&self, id: ConnectionId) -> Option<(Instant, EndReason)> {
        let IdleLimits { since, announced, retires, doubted } = self.connections.idle_limits(id)?;
        let timeout = Some(self.settings.idle_timeout).filter(|timeout| !timeout.is_zero());
        let timeout = timeout
            .into_iter()
            .chain(self.lessons.limit(announced, self.connections.uses(id) > 0))
            .min();
        let idle = timeout.and_then(|timeout| since.checked_add(timeout));
        let idle = idle.map(|at| (at, EndReason::Idle));
        let aged = retires.map(|at| (at, EndReason::Aged));
        let stale = doubted.map(|at| (at, EndReason::Stale));
        idle.into_iter().chain(aged).chain(stale).min_by_key(|(at, _)| *at)
    }
}
