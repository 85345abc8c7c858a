//! Changes of a living pool: a new generation of certificates, new settings, and the closing of idle connections on
//! demand.

use std::net::IpAddr;

use super::{Census, EndReason, LeaseFacts, Operation, Settings, State};

/// The connections that a new generation has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advanced {
    /// The number of idle connections of older generations, which have been closed.
    pub idle_closed: usize,
    /// The number of leased connections of older generations, which close when they are checked in.
    pub in_use: usize,
}

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Puts a new generation in force; one that is not newer than the pool's is not. Listed connections of older
    /// generations end with this reason: idle ones close now, the others once their streams have ended. Those in use
    /// that are not listed close at check-in. Each gives its place to a waiter once its socket is closed. With
    /// [`EndReason::Reconfigured`] the pool also forgets what it learned of the upstream's idle limit. Returns how many
    /// idle ones it closed, and how many connections of older generations are still in use.
    pub fn advance(&mut self, generation: u64, reason: EndReason) -> Advanced {
        if generation > self.state.generation {
            (self.state.generation, self.state.outdated) = (generation, reason);
            if reason == EndReason::Reconfigured {
                self.forget_lessons();
            }
        }
        let outdated =
            |state: &State<C, E, W>, facts: LeaseFacts| facts.generation < state.generation;
        let idle_closed = self.end_listed_that(outdated, self.state.outdated);
        self.find_dials();
        let in_use = self.state.connections.active_before(self.state.generation);
        Advanced { idle_closed, in_use }
    }

    /// Puts new settings in force. Closes the connections that no longer fit, by age, uses, owner or number: the idle
    /// ones now, those in use at check-in. Waiters get the room, and the places, that the new settings allow them. If
    /// the reuse mode changes, connections that are not private lose their owners.
    pub fn reconfigure(&mut self, settings: Settings) {
        if settings.sharing != self.state.settings.sharing {
            // Only the mode `never` records owners, so an owner of a shared connection may have left unnoticed.
            self.state.connections.remove_owners();
        }
        self.state.settings = settings;
        self.state.connections.limit_age(self.state.settings.max_age);
        self.close_expired();
        self.end_listed_that(
            |state, facts| state.has_used_up_requests(&facts),
            EndReason::Requests,
        );
        let ownerless = |state: &State<C, E, W>, facts: LeaseFacts| {
            state.reason_if_ownerless(facts.history).is_some()
        };
        self.end_listed_that(ownerless, EndReason::Policy);
        let surplus =
            self.state.census().staying().saturating_sub(self.state.settings.max_connections);
        self.close_idle(surplus, EndReason::Reconfigured);
        self.offer_room();
        let surplus = self.state.census().idle.saturating_sub(self.state.most_idle());
        self.close_idle(surplus, EndReason::Purged);
        // A lower cap takes away the places that waiters which may take no idle connection were waiting for.
        while self.state.waiters.queued() > self.state.places_coming()
            && self.close_oldest_idle(EndReason::Purged)
        {}
        self.state.notice_warmth();
        self.find_dials();
        self.state.armed = self.state.next_deadline();
        self.effects.rearm = true;
    }

    /// Closes all idle connections; returns their number.
    pub fn flush(&mut self) -> usize {
        let before = self.state.census().idle;
        self.close_idle(usize::MAX, EndReason::Drained);
        before - self.state.census().idle
    }

    /// Closes the older half of the idle connections, and never the newest one, because the process is short of
    /// sockets. Closes nothing while other connections are closing: those free their sockets soon.
    pub fn close_older_half(&mut self) {
        let Census { idle, closing, .. } = self.state.census();
        let half = if closing == 0 { idle / 2 } else { 0 };
        self.close_idle(half, EndReason::Purged);
    }

    /// Closes the idle connections to the addresses for which `lost` is true; listed ones with open streams close once
    /// these have ended.
    pub fn close_idle_to(&mut self, lost: impl Fn(IpAddr) -> bool) {
        for id in self.state.connections.listed_oldest_first() {
            if self.state.connections.peer(id).is_some_and(|peer| lost(peer.ip())) {
                self.retire(id, EndReason::Moved);
            }
        }
    }

    /// Ends each listed connection for whose facts `has_to` is true, with this reason: an idle one now, another once
    /// its streams have ended. Returns how many idle ones were closed.
    fn end_listed_that(
        &mut self,
        has_to: impl Fn(&State<C, E, W>, LeaseFacts) -> bool,
        reason: EndReason,
    ) -> usize {
        let before = self.state.census().idle;
        for id in self.state.connections.listed_oldest_first() {
            if self.state.connections.lease_facts(id).is_some_and(|facts| has_to(self.state, facts))
            {
                self.retire(id, reason);
            }
        }
        before - self.state.census().idle
    }

    /// Gives room to waiters that may take it under the new reuse mode.
    fn offer_room(&mut self) {
        for id in self.state.connections.listed_oldest_first() {
            let overtakes = self.give_room(id).is_some();
            if overtakes && !self.state.connections.is_idle(id) {
                self.retire(id, EndReason::Purged);
            }
        }
    }
}

impl<C, E, W> State<C, E, W> {
    /// Returns the generation that a connection must have, at least, to be leased.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}
