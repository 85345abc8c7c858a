//! What exchanges and ends teach about the upstream's idle limit, and how it comes into force.

use std::time::{Duration, Instant};

use super::{
    Ask, ConnectionId, Effects, EndReason, KeepAlive, Learned, Lessons, Side, State, Stay,
    reason_of,
};

impl<C, E, W> State<C, E, W> {
    /// How long connections may be idle here by what was learned; the configured limit is another.
    pub fn learned(&self) -> Option<Learned> {
        self.lessons.learned()
    }

    /// Whether the upstream was seen to close idle connections at any time.
    pub fn closes_at_any_time(&self) -> bool {
        self.lessons.has_habit()
    }

    /// A used connection would do for this request, but may end under it, and then it could not be sent again.
    pub(super) fn is_risky_for(&self, ask: &Ask) -> bool {
        !ask.repeatable && !ask.fresh && self.lessons.has_habit()
    }

    /// An exchange went well: what its response announced, and that the connection had been idle before unharmed.
    pub(super) fn learn(
        &mut self,
        id: ConnectionId,
        hint: Option<KeepAlive>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let changed = self.lessons.time_passes(now);
        if let Some(idle) = self.connections.take_idle_before(id) {
            self.lessons.survived(idle, now);
        }
        if let Some(KeepAlive { timeout, max }) = hint {
            let before = self.lessons.limit(None, false);
            let limit = timeout.map(|timeout| self.lessons.announced(timeout, now));
            // No time at all: it takes no more, not even from who waits already.
            let over = timeout.filter(Duration::is_zero).map(|_| 0);
            self.connections.announce(id, limit, over.or(max));
            self.rearm_if(self.lessons.limit(None, false) != before, effects);
        }
        self.rearm_if(changed, effects);
    }

    /// How long a leased connection was idle before is no lesson.
    pub fn teaches_nothing(&mut self, id: ConnectionId) {
        let _ = self.connections.take_idle_before(id);
    }

    /// A connection was found dead when it was used: it had been closed while it was idle.
    pub(super) fn learn_from_stale(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        if let Some(idle) = self.connections.take_idle_before(id) {
            self.learn_from_close(idle, now, effects);
        }
    }

    /// HTTP on an idle connection is over, ended by this side or the other; says why the pool lost it. One that was doubted
    /// teaches nothing: the upstream had no part in its end.
    pub(super) fn ended_idle(
        &mut self,
        id: ConnectionId,
        by: Side,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) -> EndReason {
        let stay = self.connections.stay(id);
        if stay.is_some_and(|stay| stay.doubted.is_some()) {
            self.close_ended(id, EndReason::Stale, now, effects);
            return EndReason::Stale;
        }
        let stay = stay.filter(|_| by == Side::Peer && !self.was_in_vain(id, now));
        // First, so that its own deadline is none of those that a lesson makes anew.
        self.close_ended(id, reason_of(by), now, effects);
        if let Some(Stay { since, .. }) = stay {
            self.learn_from_close(now.saturating_duration_since(since), now, effects);
        }
        reason_of(by)
    }

    /// The pool itself closes what has been idle for too long: so far nothing was wrong with it.
    pub(super) fn learn_from_expiry(&mut self, id: ConnectionId, reason: EndReason, now: Instant) {
        if matches!(reason, EndReason::Idle | EndReason::Aged)
            && let Some(Stay { since, .. }) = self.connections.stay(id)
        {
            self.lessons.survived(now.saturating_duration_since(since), now);
        }
    }

    /// The upstream closed a connection that was idle for so long.
    pub(in crate::pool) fn learn_from_close(
        &mut self,
        idle: Duration,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let before = self.lessons.limit(None, false);
        self.lessons.closed(idle, now);
        self.rearm_if(self.lessons.limit(None, false) != before, effects);
    }

    /// Another upstream stands behind the name now: what was learned was learned of the other one.
    pub(super) fn forget_lessons(&mut self, effects: &mut Effects<C, W>) {
        let before = self.lessons.limit(None, false);
        self.lessons = Lessons::default();
        self.rearm_if(before.is_some(), effects);
    }

    /// Another limit makes other deadlines.
    fn rearm_if(&mut self, changed: bool, effects: &mut Effects<C, W>) {
        if changed {
            self.armed = self.next_deadline();
            effects.rearm = true;
        }
    }
}
