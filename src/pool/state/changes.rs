//! What changes under a pool that lives on: a new generation of identity and trust, and new numbers.

use std::{net::IpAddr, time::Instant};

use super::{Census, Effects, EndReason, Settings, Standing, State, Taker};

/// What a new generation found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Advanced {
    /// Idle connections of older generations, which it closed.
    pub idle_closed: usize,
    /// Leased connections of older generations, which will close when they are checked in.
    pub in_use: usize,
}

impl<C, E, W> State<C, E, W> {
    /// Connections of older generations close from now on, for this reason. A generation that is not new changes nothing.
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
        let outdated = |state: &Self, s: Standing| s.generation < state.generation;
        let idle_closed = self.close_idle_that(outdated, self.outdated, effects);
        self.find_dials(now, effects);
        let in_use = self.connections.active_before(self.generation);
        Advanced { idle_closed, in_use }
    }

    /// The generation that connections must have, at least, to be leased.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Other numbers, from now on. Closes the idle connections that no longer fit; those in use close at check-in.
    pub fn reconfigure(&mut self, settings: Settings, now: Instant, effects: &mut Effects<C, W>) {
        if settings.sharing != self.settings.sharing {
            // Who left while nothing belonged to anybody is not known.
            self.connections.disown_all();
        }
        self.settings = settings;
        self.connections.limit_age(self.settings.max_age);
        self.close_expired(now, effects);
        self.close_idle_that(|state, s| state.is_worn(&s), EndReason::Requests, effects);
        let nobodys = |state: &Self, s: Standing| state.reason_if_nobodys(s.past).is_some();
        self.close_idle_that(nobodys, EndReason::Policy, effects);
        while self.census().staying() > self.settings.max_connections
            && self.close_oldest_idle(EndReason::Reconfigured, effects)
        {}
        self.offer_idle(now, effects);
        while self.census().idle > self.most_idle()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        // A lower cap takes away the places that retries were waiting for.
        while self.waiters.queued() > self.places_coming()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        self.notice_warmth();
        self.find_dials(now, effects);
        self.armed = self.next_deadline();
        effects.rearm = true;
    }

    /// Closes all that is idle now; says how many those are.
    pub fn flush(&mut self, effects: &mut Effects<C, W>) -> usize {
        let before = self.census().idle;
        while self.close_oldest_idle(EndReason::Drained, effects) {}
        before - self.census().idle
    }

    /// Sockets are short: closes the older half of what is idle, and never the newest. While connections are closing
    /// nothing more is given up: they free their sockets soon.
    pub fn relieve(&mut self, effects: &mut Effects<C, W>) {
        let Census { idle, closing, .. } = self.census();
        let half = if closing == 0 { idle / 2 } else { 0 };
        for _ in 0..half {
            self.close_oldest_idle(EndReason::Purged, effects);
        }
    }

    /// Closes what is idle to addresses that are lost.
    pub fn close_idle_to(&mut self, lost: impl Fn(IpAddr) -> bool, effects: &mut Effects<C, W>) {
        for id in self.connections.idle_oldest_first() {
            if self.connections.peer(id).is_some_and(|peer| lost(peer.ip())) {
                self.close_idle(id, EndReason::Moved, effects);
            }
        }
    }

    fn close_idle_that(
        &mut self,
        has_to: impl Fn(&Self, Standing) -> bool,
        reason: EndReason,
        effects: &mut Effects<C, W>,
    ) -> usize {
        let before = self.census().idle;
        for id in self.connections.idle_oldest_first() {
            if self.connections.standing(id).is_some_and(|standing| has_to(self, standing)) {
                self.close_idle(id, reason, effects);
            }
        }
        before - self.census().idle
    }

    /// Another reuse mode may let somebody who waits take what is idle.
    fn offer_idle(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        for id in self.connections.idle_oldest_first() {
            if self.connections.stay(id).is_some_and(|stay| stay.doubted.is_none())
                && let Some(Taker::Connection(waiter)) = self.taker(id)
                && let Some(handle) = self.connections.take_idle(id)
            {
                self.serve(waiter, id, handle, now, effects);
            }
        }
    }
}
