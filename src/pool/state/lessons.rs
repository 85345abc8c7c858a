//! The observations from which the pool learns the upstream's idle limit, and how a new limit comes into force.

use std::time::Duration;

use super::{
    Ask, ConnectionId, EndReason, IdleLimits, KeepAlive, Learned, Lessons, Operation, Phase, Side,
    State, reason_of,
};

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Learns from an exchange that went well: the response's announcement, and that the idle period before it did no
    /// harm. A connection whose socket has ended meanwhile teaches nothing.
    pub(super) fn learn(&mut self, id: ConnectionId, hint: Option<KeepAlive>) {
        if matches!(self.state.connections.phase(id), Some(Phase::Lost(..))) {
            return;
        }
        let changed = self.state.lessons.time_passes(self.now);
        if let Some(idle) = self.state.connections.take_idle_before(id) {
            self.state.lessons.survived(idle, self.now);
        }
        if let Some(KeepAlive { timeout, max }) = hint {
            let before = self.state.lessons.limits();
            let limit = timeout.map(|timeout| self.state.lessons.announced(timeout, self.now));
            // An announced time of zero means that the upstream takes no more requests, not even from a waiter.
            let over = timeout.filter(Duration::is_zero).map(|_| 0);
            self.state.connections.announce(id, limit, over.or(max));
            self.rearm_if(self.state.lessons.limits() != before);
        }
        self.rearm_if(changed);
    }

    /// Learns from a connection that was found dead at use: the upstream had closed it while it was idle.
    pub(super) fn learn_from_stale(&mut self, id: ConnectionId) {
        if let Some(idle) = self.state.connections.take_idle_before(id) {
            self.learn_from_close(idle);
        }
    }

    /// Closes an idle connection on which one of the sides has ended HTTP, and learns from that if the peer did.
    /// Returns the reason of the loss. A doubted connection teaches nothing: its end is the network's doing, not the
    /// upstream's.
    pub(super) fn ended_idle(&mut self, id: ConnectionId, by: Side) -> EndReason {
        let limits = self.state.connections.idle_limits(id);
        if limits.is_some_and(|limits| limits.doubted.is_some()) {
            self.close_ended(id, EndReason::Stale);
            return EndReason::Stale;
        }
        let limits = limits.filter(|_| by == Side::Peer && !self.was_short_lived(id));
        // The connection closes before the lesson is learned, so that its own deadline is not computed again.
        self.close_ended(id, reason_of(by));
        if let Some(IdleLimits { since, .. }) = limits {
            self.learn_from_close(self.now.saturating_duration_since(since));
        }
        reason_of(by)
    }

    /// Learns from an idle connection that the pool closes for its own limits: until then its idle period did no harm.
    pub(super) fn learn_from_expiry(&mut self, id: ConnectionId, reason: EndReason) {
        if matches!(reason, EndReason::Idle | EndReason::Aged)
            && let Some(IdleLimits { since, .. }) = self.state.connections.idle_limits(id)
        {
            let before = self.state.lessons.limits();
            self.state.lessons.survived(self.now.saturating_duration_since(since), self.now);
            self.rearm_if(self.state.lessons.limits() != before);
        }
    }

    /// Learns that the upstream closed a connection after it had been idle for so long.
    pub(in crate::pool) fn learn_from_close(&mut self, idle: Duration) {
        let before = self.state.lessons.limits();
        self.state.lessons.closed(idle, self.now);
        self.rearm_if(self.state.lessons.limits() != before);
    }

    /// Forgets all that was learned, because the upstream's configuration has changed.
    pub(super) fn forget_lessons(&mut self) {
        let before = self.state.lessons.limits();
        self.state.lessons = Lessons::default();
        self.rearm_if(self.state.lessons.limits() != before);
    }

    /// Computes the deadlines of idle connections anew if a limit has changed.
    fn rearm_if(&mut self, changed: bool) {
        if changed {
            self.state.armed = self.state.next_deadline();
            self.effects.rearm = true;
        }
    }
}

impl<C, E, W> State<C, E, W> {
    /// Returns the idle limit that was learned from the upstream; `None` if nothing is known. `idleTimeout` is
    /// separate.
    pub fn learned(&self) -> Option<Learned> {
        self.lessons.learned()
    }

    /// True if the upstream was seen to close idle connections at any time.
    pub fn closes_at_any_time(&self) -> bool {
        self.lessons.has_habit()
    }

    /// True if a request cannot be sent again and the upstream closes idle connections at any time: a used connection
    /// could end under the request.
    pub(super) fn is_risky_for(&self, ask: &Ask) -> bool {
        !ask.repeatable && !ask.fresh && self.lessons.has_habit()
    }

    /// Forgets how long a leased connection was idle before its lease, so that its end teaches nothing.
    pub fn forget_idle_time(&mut self, id: ConnectionId) {
        let _ = self.connections.take_idle_before(id);
    }
}
