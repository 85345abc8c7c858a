//! The warm floor: `minIdle` connections that are dialled without a request, and kept idle.

use std::time::{Duration, Instant};

use super::{ConnectionId, EndReason, Operation, State};
use crate::pool::refill::{MAX_CONCURRENT_DIALS, SHORT_LIFE};

/// The next step of the task that dials for the warm floor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WarmStep {
    /// The order to dial in the place of this connection, and then to ask again.
    Dial(ConnectionId),
    /// The time at which to ask again: dials have failed, and the pause lasts until then.
    After(Instant),
    /// The order to wait until [`State::reports_shortage`] returns true: no dial is due.
    Nothing,
}

/// The age at which an unused connection counts as accepted by the server. A server that refuses our certificate under
/// TLS 1.3 ends the connection one round trip after the handshake.
pub const PROVEN_AGE: Duration = Duration::from_millis(250);

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Ends a listed connection that has reached a limit or was ended: an idle one closes now, another once its streams
    /// have ended. If it was short-lived and unused, dials for the floor pause. A connection that its own limits end
    /// teaches that its idle period did no harm.
    pub(super) fn close_ended(&mut self, id: ConnectionId, reason: EndReason) {
        if self.was_short_lived(id) {
            self.state.refill.failed(self.now);
        }
        self.learn_from_expiry(id, reason);
        self.retire(id, reason);
    }

    /// True if a connection ended unused and soon after its dial ([`SHORT_LIFE`]), so that the dial was as good as
    /// failed. A server that refuses our certificate under TLS 1.3 ends connections like this.
    pub(super) fn was_short_lived(&self, id: ConnectionId) -> bool {
        self.state.is_unused(id) && self.state.connections.age(id, self.now) < SHORT_LIFE
    }
}

impl<C, E, W> State<C, E, W> {
    /// Reserves a place for a dial for the warm floor, if the floor lacks a connection and no pause is on; `jitter` is
    /// that of the next pause. Waiters have precedence: while one of them has no dial, no place is free.
    pub fn want(&mut self, now: Instant, thread: usize, jitter: f64) -> WarmStep {
        self.shortage_reported = self.lacks();
        if !self.shortage_reported {
            return WarmStep::Nothing;
        }
        if let Some(end) = self.refill.paused_until(now) {
            return WarmStep::After(end);
        }
        self.refill.set_jitter(jitter);
        let id = self.connections.reserve(now);
        self.connections.dial_begins(id, thread);
        WarmStep::Dial(id)
    }

    /// True once for each time that a dial for the floor has become due: the task that dials then has to call
    /// [`State::want`].
    pub fn reports_shortage(&mut self) -> bool {
        let news = !self.shortage_reported && self.lacks();
        self.shortage_reported |= news;
        news
    }

    /// True if there once were as many connections at the same time as the floor wants.
    pub fn is_warm(&self) -> bool {
        self.warm
    }

    /// True if as many connections as the floor wants are in use now, have been used, or are older than [`PROVEN_AGE`].
    pub fn is_proven(&self, now: Instant) -> bool {
        let lasts = |id: &ConnectionId| {
            !self.is_unused(*id) || self.connections.age(*id, now) >= PROVEN_AGE
        };
        let proven = self.connections.idle().filter(lasts).count() + self.census().active;
        proven >= self.floor()
    }

    /// Notes whether the floor is reached now. Connections in use count: their certificates are verified like the
    /// others'.
    pub(super) fn notice_warmth(&mut self) {
        let census = self.census();
        self.warm |= census.idle + census.active >= self.floor();
    }

    /// Returns the number of connections that the floor wants, at most as many as the cap allows.
    fn floor(&self) -> usize {
        self.settings.min_idle.min(self.settings.max_connections)
    }

    /// True if no request has used the connection yet.
    pub fn is_unused(&self, id: ConnectionId) -> bool {
        self.connections.uses(id) == 0
    }

    /// True if one more dial for the floor is due. Orphan dials count as idle connections, because they will become
    /// such.
    fn lacks(&self) -> bool {
        let floor = self.settings.min_idle;
        if floor == 0 || self.draining || !self.place_free() {
            return false;
        }
        let orphans = self.connections.orphan_count();
        orphans < MAX_CONCURRENT_DIALS && self.census().idle + orphans < floor
    }
}
