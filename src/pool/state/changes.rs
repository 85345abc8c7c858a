//! Changes of a living pool: a new generation of certificates, new settings, and the closing of idle connections on
//! demand.

use std::{net::IpAddr, time::Instant};

use super::{Census, Effects, EndReason, LeaseFacts, Settings, State, Taker};

/// The connections that a new generation has found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advanced {
    /// The number of idle connections of older generations, which have been closed.
    pub idle_closed: usize,
    /// The number of leased connections of older generations, which close when they are checked in.
    pub in_use: usize,
}

impl<C, E, W> State<C, E, W> {
    /// Puts a new generation in force: idle connections of older ones close now with this reason, those in use at
    /// check-in. A generation that is not newer than the pool's changes nothing.
    pub fn advance(
        &mut self,
        generation: u64,
        reason: EndReason,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) -> Advanced {
        if generation > self.generation {
            (self.generation, self.outdated) = (generation, reason);
            if reason == EndReason::Reconfigured {
                self.forget_lessons(effects);
            }
        }
        let outdated = |state: &Self, facts: LeaseFacts| facts.generation < state.generation;
        let idle_closed = self.close_idle_that(outdated, self.outdated, effects);
        self.find_dials(now, effects);
        let in_use = self.connections.active_before(self.generation);
        Advanced { idle_closed, in_use }
    }

    /// Returns the generation that a connection must have, at least, to be leased.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts new settings in force. Closes the idle connections that no longer fit; those in use close at check-in.
    pub fn reconfigure(&mut self, settings: Settings, now: Instant, effects: &mut Effects<C, W>) {
        if settings.sharing != self.settings.sharing {
            // Only the mode `never` records owners, so an owner of a shared connection may have left unnoticed.
            self.connections.remove_owners();
        }
        self.settings = settings;
        self.connections.limit_age(self.settings.max_age);
        self.close_expired(now, effects);
        self.close_idle_that(
            |state, facts| state.has_used_up_requests(&facts),
            EndReason::Requests,
            effects,
        );
        let ownerless =
            |state: &Self, facts: LeaseFacts| state.reason_if_ownerless(facts.history).is_some();
        self.close_idle_that(ownerless, EndReason::Policy, effects);
        while self.census().staying() > self.settings.max_connections
            && self.close_oldest_idle(EndReason::Reconfigured, effects)
        {}
        self.offer_idle(now, effects);
        while self.census().idle > self.most_idle()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        // A lower cap takes away the places that waiters which may take no idle connection were waiting for.
        while self.waiters.queued() > self.places_coming()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        self.notice_warmth();
        self.find_dials(now, effects);
        self.armed = self.next_deadline();
        effects.rearm = true;
    }

    /// Closes all idle connections; returns their number.
    pub fn flush(&mut self, effects: &mut Effects<C, W>) -> usize {
        let before = self.census().idle;
        while self.close_oldest_idle(EndReason::Drained, effects) {}
        before - self.census().idle
    }

    /// Closes the older half of the idle connections, and never the newest one, because the process is short of
    /// sockets. Closes nothing while other connections are closing: those free their sockets soon.
    pub fn close_older_half(&mut self, effects: &mut Effects<C, W>) {
        let Census { idle, closing, .. } = self.census();
        let half = if closing == 0 { idle / 2 } else { 0 };
        for _ in 0..half {
            self.close_oldest_idle(EndReason::Purged, effects);
        }
    }

    /// Closes the idle connections to the addresses for which `lost` is true.
    pub fn close_idle_to(&mut self, lost: impl Fn(IpAddr) -> bool, effects: &mut Effects<C, W>) {
        for id in self.connections.idle_oldest_first() {
            if self.connections.peer(id).is_some_and(|peer| lost(peer.ip())) {
                self.close_idle(id, EndReason::Moved, effects);
            }
        }
    }

    fn close_idle_that(
        &mut self,
        has_to: impl Fn(&Self, LeaseFacts) -> bool,
        reason: EndReason,
        effects: &mut Effects<C, W>,
    ) -> usize {
        let before = self.census().idle;
        for id in self.connections.idle_oldest_first() {
            if self.connections.lease_facts(id).is_some_and(|facts| has_to(self, facts)) {
                self.close_idle(id, reason, effects);
            }
        }
        before - self.census().idle
    }

    /// Gives idle connections to waiters that may take them under the new reuse mode.
    fn offer_idle(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        for id in self.connections.idle_oldest_first() {
            if self.connections.idle_limits(id).is_some_and(|limits| limits.doubted.is_none())
                && let Some(Taker::Connection(waiter)) = self.taker(id)
                && let Some(handle) = self.connections.take_idle(id)
            {
                self.serve(waiter, id, handle, now, effects);
            }
        }
    }
}
