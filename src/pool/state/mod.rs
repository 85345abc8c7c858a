//! The pool's state: pure. `now` is an argument, nothing here waits, reads a clock or drops a connection.
//!
//! [`Connections`] and [`Waiters`] keep the books; the rules that join them are here. Each waiter counts on one dial: an
//! orphan one, else its own, if the cap allows. An orphan dial is one that began for a waiter which has left or was
//! served, and that no other counts on. Each operation restores, before it returns:
//! - while a place is free or a dial is an orphan, every waiter has a dial; those that have one are older than those
//!   that have none, but for those whose own was of no use (its generation is past, or the cap was lowered);
//! - while connections are idle, whoever waits may take none of them (retries, and by the reuse mode), and has a dial or
//!   a closing connection's place to come.

mod changes;
mod dials;
mod doubts;
mod ends;
mod leases;
mod lessons;
mod warm;

use std::time::{Duration, Instant};

pub use changes::Advanced;
pub use doubts::PROOF_TIME;
pub use warm::{PROOF, Wanted};

use super::{
    Ask, ClientId, ConnectionView, End, EndReason, Rejection, Reuse, Settings, Sharing,
    connections::{Connections, Phase, Standing, Stay},
    learned::{KeepAlive, Learned, Lessons},
    purge::Purge,
    refill::Refill,
    sharing::Past,
    waiters::{Arrival, Departed, Dial, Taker, Waiters},
};
pub use super::{
    connections::{Census, Dialled, Ended, Leased},
    ids::{ConnectionId, WaiterId},
};
use crate::telemetry::ends::Side;

/// What to do once the lock is released.
#[derive(Debug)]
pub struct Effects<C, W> {
    /// Waiters that have something to collect.
    pub wake: Vec<W>,
    /// Handles to drop: dropping one closes its connection.
    pub close: Vec<C>,
    /// Connections that are now gone for good.
    pub ended: Vec<Ended>,
    /// The next [`State::tick`] is wanted earlier than the last one said.
    pub rearm: bool,
}

impl<C, W> Default for Effects<C, W> {
    fn default() -> Self {
        Self { wake: Vec::new(), close: Vec::new(), ended: Vec::new(), rearm: false }
    }
}

/// What a checkout found.
#[derive(Debug)]
pub enum Found<C> {
    /// An idle connection.
    Leased(Leased<C>),
    /// None: the caller waits, and collects with [`State::collect`].
    Waits(WaiterId),
}

/// What a waiter can collect.
#[derive(Debug)]
pub enum Collected<C, E> {
    /// Nothing yet.
    Nothing,
    /// It is to dial, in this place.
    Dial(ConnectionId),
    /// Its dial was of no use in the end, and there is no other: it stands at the cap again.
    Queued,
    /// A connection, after so long at the cap if it ever stood there.
    Leased(Leased<C>, Option<Duration>),
    /// Its own dial failed; `None` when it was dropped half-way.
    Failed(Option<E>),
}

/// See the module.
pub struct State<C, E, W> {
    settings: Settings,
    connections: Connections<C>,
    waiters: Waiters<C, E, W>,
    purge: Purge,
    /// When the running period of the purge rule began; `None` while it has nothing to purge.
    purge_period: Option<Instant>,
    /// Connections of older generations are nobody's any more, for this reason.
    generation: u64,
    outdated: EndReason,
    /// What the outside sleeps towards; it may be earlier than needed, never later.
    armed: Option<Instant>,
    /// Why the pool last lost a connection.
    last_end: Option<EndReason>,
    /// How long the upstream lets connections be idle.
    lessons: Lessons,
    /// When the warm floor may be dialled for.
    refill: Refill,
    /// Who dials for the floor knows that it has to.
    told_of_lack: bool,
    /// The floor was reached once.
    warm: bool,
    /// The end has begun: nothing is kept idle.
    draining: bool,
}

impl<C, E, W> State<C, E, W> {
    /// An empty pool for threads 0 up to, not including, `threads`.
    pub fn new(settings: Settings, threads: usize) -> Self {
        Self {
            warm: settings.min_idle == 0,
            lessons: Lessons::default(),
            refill: Refill::default(),
            told_of_lack: false,
            settings,
            connections: Connections::new(threads),
            waiters: Waiters::new(),
            purge: Purge::default(),
            purge_period: None,
            generation: 0,
            outdated: EndReason::Rotated,
            armed: None,
            last_end: None,
            draining: false,
        }
    }

    /// Takes the newest idle connection of this thread that it may take, else of another, else waits.
    pub fn check_out(
        &mut self,
        now: Instant,
        ask: Ask,
        effects: &mut Effects<C, W>,
    ) -> Result<Found<C>, Rejection> {
        if let Some(leased) = self.lease_claimed(&ask, now, effects) {
            return Ok(Found::Leased(leased));
        }
        let risky = self.is_risky_for(&ask);
        let ask = Ask { fresh: ask.fresh || risky, ..ask };
        if !ask.fresh
            && let Some(leased) = self.lease_newest_idle(&ask, now, effects)
        {
            return Ok(Found::Leased(leased));
        }
        let place_free = self.place_free();
        let queues = !place_free && self.connections.oldest_orphan().is_none();
        if queues && self.waiters.queued() >= self.settings.max_queue {
            return Err(Rejection::QueueFull);
        }
        let patience = self.settings.queue_timeout;
        if queues && self.waiters.is_too_slow(ask.urgency, now, patience) {
            return Err(Rejection::Shed);
        }
        let reason = if risky { Reuse::Risky } else { self.reason_for_new(&ask, place_free) };
        let at_cap = queues.then_some(now);
        let waiter = self.waiters.join(Arrival { at_cap, ask, reason }, patience);
        if queues && self.waiters.queued() > self.places_coming() {
            // If any is idle, it is nothing for this waiter, and holds the place that it needs.
            self.close_oldest_idle(EndReason::Purged, effects);
        }
        self.find_dials(now, effects);
        Ok(Found::Waits(waiter))
    }

    /// What has happened to a waiter; with [`Collected::Leased`] and [`Collected::Failed`] it leaves.
    pub fn collect(&mut self, waiter: WaiterId, thread: usize, waker: W) -> Collected<C, E> {
        if self.waiters.is_served(waiter) {
            return self.collect_outcome(waiter);
        }
        if !self.waiters.set_waker(waiter, waker) {
            return Collected::Failed(None);
        }
        if self.waiters.is_sent_back(waiter) {
            return Collected::Queued;
        }
        let Dial::Granted(id) = self.waiters.dial(waiter) else { return Collected::Nothing };
        self.waiters.begin_dial(waiter, id);
        self.connections.dial_begins(id, thread);
        Collected::Dial(id)
    }

    fn collect_outcome(&mut self, waiter: WaiterId) -> Collected<C, E> {
        let departed = self.waiters.remove(waiter);
        match departed.and_then(|departed| Some((departed.outcome?, departed.queued_for))) {
            Some((Ok(leased), queued_for)) => Collected::Leased(leased, queued_for),
            Some((Err(error), _)) => Collected::Failed(error),
            None => Collected::Failed(None),
        }
    }

    /// A waiter goes away: what it was given goes to the next.
    pub fn abandon(&mut self, waiter: WaiterId, now: Instant, effects: &mut Effects<C, W>) {
        let Some(Departed { dial, outcome, .. }) = self.waiters.give_up(waiter, now) else {
            return;
        };
        self.release_dial(dial, now);
        if let Some(Ok(leased)) = outcome {
            self.take_back(leased, now, effects);
        }
        self.find_dials(now, effects);
    }

    /// If a waiter stands at the cap, without a dial, its time is over and it leaves.
    pub fn time_out(&mut self, waiter: WaiterId, now: Instant) -> bool {
        let queued = self.waiters.is_queued(waiter);
        if queued {
            self.waiters.give_up(waiter, now);
        }
        queued
    }

    /// Whether a waiter stands at the cap, without a dial.
    pub fn is_queued(&self, waiter: WaiterId) -> bool {
        self.waiters.is_queued(waiter)
    }

    /// A dial succeeded. If it was for an older generation, or the cap was lowered meanwhile, it closes.
    pub fn established(
        &mut self,
        id: ConnectionId,
        handle: C,
        dialled: Dialled,
        effects: &mut Effects<C, W>,
    ) {
        let Some(Phase::Connecting(owner)) = self.connections.phase(id) else {
            return effects.close.push(handle);
        };
        self.connections.established(id, dialled, self.settings.max_age);
        if let Some(owner) = owner {
            // Wherever the connection goes, the waiter itself is without a dial now.
            self.waiters.lose_dial(owner, dialled.now, self.settings.queue_timeout);
        }
        self.comes_back(id, handle, dialled.now, effects);
        self.notice_warmth();
        self.tell_if_queued(owner, effects);
    }

    /// A dial failed, or was dropped: it fails the waiter that began it, if that still waits.
    pub fn dial_failed(
        &mut self,
        id: ConnectionId,
        error: Option<E>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let Some(Phase::Connecting(owner)) = self.connections.phase(id) else { return };
        self.connections.forget(id);
        self.fail_dial(id, owner, error, now, effects);
    }

    /// The same where its socket is still open: the place is free once that is closed.
    pub fn dial_failed_open(
        &mut self,
        id: ConnectionId,
        error: E,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let Some(Phase::Connecting(owner)) = self.connections.phase(id) else { return };
        self.connections.enter(id, Phase::Closing(EndReason::Unfit));
        self.fail_dial(id, owner, Some(error), now, effects);
    }

    /// Gives back the place of a closed socket that no connection came of: a failed dial's, or a spare one.
    pub fn place_given_back(
        &mut self,
        id: ConnectionId,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        self.connections.forget(id);
        self.find_dials(now, effects);
    }

    fn fail_dial(
        &mut self,
        id: ConnectionId,
        owner: Option<WaiterId>,
        error: Option<E>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        self.refill.trouble(now);
        if let Some(owner) = owner {
            self.fail_waiter(owner, id, error, now, effects);
        }
        // First the place: an heir whose dial failed is to have it, not one orphan's failure after the other.
        self.grant_dials(now, effects);
        self.find_dials(now, effects);
        self.tell_if_queued(owner, effects);
    }

    /// An exchange left its connection fit for another one; its response may have announced how long.
    pub fn check_in(
        &mut self,
        id: ConnectionId,
        handle: C,
        hint: Option<KeepAlive>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        if !matches!(self.connections.phase(id), Some(Phase::Active)) {
            return self.came_back_lost(id, handle, now, effects);
        }
        self.learn(id, hint, now, effects);
        self.comes_back(id, handle, now, effects);
    }

    /// An exchange left its connection unfit, or found it so; its place stays taken until the socket is gone.
    /// The caller drops the handle.
    pub fn discard(
        &mut self,
        id: ConnectionId,
        reason: EndReason,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        if reason == EndReason::Stale {
            self.learn_from_stale(id, now, effects);
        }
        match self.connections.phase(id) {
            Some(Phase::Active) => self.closes(id, reason),
            Some(Phase::Lost(end, at)) => {
                self.last_end = Some(reason);
                effects.ended.push(self.connections.bury(id, reason, end, at));
            }
            _ => {}
        }
    }

    /// HTTP on a connection is over, and its socket is being closed: it still takes its place, and must not be leased.
    pub fn socket_closing(
        &mut self,
        id: ConnectionId,
        by: Side,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        match self.connections.phase(id) {
            Some(Phase::Idle(_)) => {
                self.ended_idle(id, by, now, effects);
            }
            // Its exchange finds out by itself, or was over before: then the check-in has to know.
            Some(Phase::Active) => self.connections.set_over(id, reason_of(by)),
            _ => {}
        }
    }

    /// A connection's socket is gone, and its place free.
    pub fn socket_ended(
        &mut self,
        id: ConnectionId,
        end: End,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        match self.connections.phase(id) {
            Some(Phase::Active) => {
                // Its lease has the last word; until then this is what is known.
                self.last_end = Some(reason_of(end.by));
                self.connections.lose(id, end, now);
            }
            Some(Phase::Idle(_)) => {
                let reason = self.ended_idle(id, end.by, now, effects);
                effects.ended.push(self.connections.bury(id, reason, end, now));
            }
            Some(Phase::Closing(reason)) => {
                effects.ended.push(self.connections.bury(id, reason, end, now));
            }
            _ => {}
        }
        self.find_dials(now, effects);
    }

    /// Purges, and closes what has been idle for too long or is too old; says when there is more to do.
    pub fn tick(&mut self, now: Instant, effects: &mut Effects<C, W>) -> Option<Instant> {
        self.close_expired(now, effects);
        if self.next_purge().is_some_and(|at| at <= now) {
            self.purge(effects);
            self.purge_period = (self.census().idle > 0).then_some(now);
        }
        self.armed = self.next_deadline();
        self.armed
    }

    /// A client connection is gone, and nobody may take what belonged to it.
    pub fn client_left(&mut self, client: ClientId, effects: &mut Effects<C, W>) {
        for id in self.connections.disown(client) {
            if let Some(reason) = self.reason_if_nobodys(self.connections.past(id)) {
                self.close_idle(id, reason, effects);
            }
        }
    }

    /// The end has begun: closes all that is idle, and from now on what comes back while nobody waits.
    pub fn drain(&mut self, effects: &mut Effects<C, W>) {
        self.draining = true;
        while self.close_oldest_idle(EndReason::Drained, effects) {}
    }

    /// Takes the end back; true if one had begun.
    pub fn resume(&mut self) -> bool {
        std::mem::take(&mut self.draining)
    }

    /// The end has begun, and nothing is left.
    pub fn is_drained(&self) -> bool {
        self.draining && self.is_empty()
    }

    /// Connections by phase.
    pub fn census(&self) -> Census {
        self.connections.census()
    }

    /// Waiters at the cap, without a dial.
    pub fn queued(&self) -> usize {
        self.waiters.queued()
    }

    /// No socket is open and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.census().total() == 0 && self.waiters.is_empty()
    }

    /// Each connection, for a person, in no order.
    pub fn views(&self, now: Instant) -> Vec<ConnectionView> {
        self.connections.views(now)
    }

    /// The dials that no waiter counts on: as remembered, and as found by looking at all.
    #[cfg(test)]
    pub fn orphans(&self) -> [Vec<ConnectionId>; 2] {
        self.connections.orphans()
    }
}

/// Why a connection is lost that this side ended before the pool asked for it.
fn reason_of(by: Side) -> EndReason {
    match by {
        Side::Peer => EndReason::PeerClosed,
        // Its own task gave it up: what it read was no HTTP, or no TLS.
        Side::Us => EndReason::Unfit,
    }
}
