//! What changes under a pool that lives on: a new generation of identity and trust, and new numbers.

use std::time::Instant;

use super::{Effects, EndReason, Settings, State};

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
        }
        let outdated: Vec<_> = self.connections.idle().filter(|id| self.is_outdated(*id)).collect();
        for id in &outdated {
            self.close_idle(*id, self.outdated, effects);
        }
        self.find_dials(now, effects);
        let in_use = self.connections.active_before(self.generation);
        Advanced { idle_closed: outdated.len(), in_use }
    }

    /// The generation that connections must have, at least, to be leased.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Whether no socket is left of any generation older than this.
    pub fn has_outlived(&self, generation: u64) -> bool {
        self.connections.oldest_generation().is_none_or(|oldest| oldest >= generation)
    }

    /// Other numbers, from now on. Closes the idle connections that no longer fit; those in use close at check-in.
    pub fn reconfigure(&mut self, settings: Settings, now: Instant, effects: &mut Effects<C, W>) {
        self.settings = settings;
        self.connections.limit_age(self.settings.max_age);
        self.close_expired(now, effects);
        self.close_worn(effects);
        while self.census().staying() > self.settings.max_connections
            && self.close_oldest_idle(EndReason::Reconfigured, effects)
        {}
        while self.census().idle > self.most_idle()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        // A lower cap takes away the places that retries were waiting for.
        while self.waiters.queued() > self.places_coming()
            && self.close_oldest_idle(EndReason::Purged, effects)
        {}
        self.find_dials(now, effects);
        self.armed = self.next_deadline();
        effects.rearm = true;
    }

    fn close_worn(&mut self, effects: &mut Effects<C, W>) {
        let worn: Vec<_> = self.connections.idle().filter(|id| self.is_worn(*id)).collect();
        for id in worn {
            self.close_idle(id, EndReason::Requests, effects);
        }
    }
}
