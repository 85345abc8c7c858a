//! The warm floor: `minIdle` connections that are dialled for nobody, and kept.

use std::time::{Duration, Instant};

use super::{ConnectionId, Effects, EndReason, State};
use crate::pool::refill::{AT_ONCE, SHORT_LIFE};

/// What whoever dials for the warm floor is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Dial, in this place; then ask again.
    Dial(ConnectionId),
    /// Ask again then.
    After(Instant),
    /// Ask again when told so by [`State::tells_of_lack`].
    Nothing,
}

/// What lives for so long was not refused: a server that does not like our certificate ends a connection of TLS 1.3 one round
/// trip after its handshake.
pub const PROOF: Duration = Duration::from_millis(250);

impl<C, E, W> State<C, E, W> {
    /// Takes a place for a dial that keeps the floor. Waiters go first: while one has no dial, no place is free.
    pub fn want(&mut self, now: Instant, thread: usize, jitter: f64) -> Wanted {
        self.told_of_lack = self.lacks();
        if !self.told_of_lack {
            return Wanted::Nothing;
        }
        if let Some(end) = self.refill.paused_until(now) {
            return Wanted::After(end);
        }
        self.refill.set_jitter(jitter);
        let id = self.connections.reserve(now, None);
        self.connections.dial_begins(id, thread);
        Wanted::Dial(id)
    }

    /// True once when a dial has become due: whoever dials for the floor has to ask.
    pub fn tells_of_lack(&mut self) -> bool {
        let news = !self.told_of_lack && self.lacks();
        self.told_of_lack |= news;
        news
    }

    /// Whether as many connections as the floor wants were there at once, ever.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// Whether as many are there now that the upstream has let live.
    pub fn is_proven(&self, now: Instant) -> bool {
        let lasts =
            |id: &ConnectionId| !self.is_unused(*id) || self.connections.age(*id, now) >= PROOF;
        let proven = self.connections.idle().filter(lasts).count() + self.census().active;
        proven >= self.floor()
    }

    /// Looks whether they are now; those in use are as verified as the idle ones.
    pub(super) fn notice_warmth(&mut self) {
        let census = self.census();
        self.warm |= census.idle + census.active >= self.floor();
    }

    /// As many as are wanted, of those that there can be.
    fn floor(&self) -> usize {
        self.settings.min_idle.min(self.settings.max_connections)
    }

    /// Closes an idle connection that came to its end. If it was of no use to anybody, the next one may wait.
    pub(super) fn close_ended(
        &mut self,
        id: ConnectionId,
        reason: EndReason,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        if self.was_in_vain(id, now) {
            self.refill.trouble(now);
        }
        self.learn_from_expiry(id, reason, now);
        self.close_idle(id, reason, effects);
    }

    /// Whether nobody has leased it yet.
    pub fn is_unused(&self, id: ConnectionId) -> bool {
        self.connections.uses(id) == 0
    }

    /// Whether a connection is as good as none: it was used by nobody, and not for long. A server that refuses our
    /// certificate under TLS 1.3 ends it like this.
    pub(super) fn was_in_vain(&self, id: ConnectionId, now: Instant) -> bool {
        self.is_unused(id) && self.connections.age(id, now) < SHORT_LIFE
    }

    /// Dials that are nobody's will be idle.
    fn lacks(&self) -> bool {
        let floor = self.settings.min_idle;
        if floor == 0 || self.draining || !self.place_free() {
            return false;
        }
        let orphans = self.connections.orphan_count();
        orphans < AT_ONCE && self.census().idle + orphans < floor
    }
}
