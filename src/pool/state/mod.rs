//! The rules of one upstream's pool, as a pure state machine: `now` is an argument, and nothing here waits, reads a
//! clock or drops a connection. What the caller has to do outside of the lock is returned as [`Effects`]. An
//! [`Operation`] joins the three: state, time and effects.
//!
//! [`Connections`] and [`Waiters`] hold the data; the rules that join the two are here. A connection takes a place
//! under the cap (`maxConnections`) from the reservation of its dial until its socket is closed. A waiter counts on at
//! most one dial, and is queued while it has neither a dial nor an outcome. A dial has room for as many waiters as its
//! connection is expected to allow streams: for one in HTTP/1.1. A dial that no waiter counts on is an orphan: those that
//! it began for have left or were served, or it began for the warm floor.
//!
//! Invariants. Each operation restores them before it returns; `Life::check` and `Life::follow_up` in
//! `tests/property.rs` check them after each random step, by these numbers (4 by comparison with the model in
//! `tests/model.rs`):
//!
//! 1. At most `maxConnections` places are taken, or, after the cap was lowered, no more than before the operation.
//! 2. While a place is free, no waiter is queued.
//! 3. While a dial has room for one more waiter, no waiter is queued.
//! 4. Of the waiters of one urgency, those with a dial came before those that are queued, except that a waiter whose
//!    dial brought nothing is queued again in its old position, while later ones keep their dials.
//! 5. No waiter that accepts a used connection may take one that has room: the reuse mode, or a doubt, forbids each.
//! 6. While a connection is idle, at most as many waiters are queued as places are free or closing. While a connection
//!    with open streams has room, at most as many as places are free or closing and connections retire.
//! 7. At most `maxIdle` connections are idle (none if `purgeDelay` is 0), or `minIdle` if that is more.
//! 8. No connection that is idle or has room has an older generation than the pool, and none has a socket that is being
//!    closed.
//! 9. The pool holds a handle of each connection until its last lease has ended and it is closing or lost. Each lease,
//!    and each waiter's outcome, has a clone.
//! 10. The end of each connection is reported once, when both its socket and its leases are gone.
//! 11. A waiter with something to collect has been woken.
//! 12. The time that the caller sleeps towards is not later than the next time at which [`Operation::tick`] has work to
//!     do.
//! 13. While the warm floor lacks a connection, the task that dials for the floor is awake, or sleeps at most until the
//!     pause after failed dials ends.
//! 14. A connection that retires, or is lost, has open streams.

mod changes;
mod dials;
mod doubts;
mod ends;
mod leases;
mod lessons;
mod warm;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

pub use changes::Advanced;
pub use doubts::PROOF_TIME;
pub use warm::{PROVEN_AGE, WarmStep};

use super::{
    Ask, ClientId, ConnectionView, End, EndReason, Rejection, Reuse, Settings, Sharing, Verdict,
    connections::{Connections, IdleLimits, LeaseFacts, Phase, StayLimits},
    learned::{KeepAlive, Learned, Lessons},
    purge::Purge,
    refill::Refill,
    sharing::UseHistory,
    waiters::{Arrival, Departed, Dial, Taker, Waiters},
};
pub use super::{
    connections::{Census, Dialled, Ended, Leased},
    ids::{ConnectionId, WaiterId},
};
use crate::telemetry::ends::Side;

/// The follow-up work that an operation leaves to its caller, who does it once the lock is released.
#[derive(Debug)]
pub struct Effects<C, W> {
    /// The wakers of waiters that have something to collect.
    pub wake: Vec<W>,
    /// The pool's handles to drop. A connection closes with the drop of its last handle, and each lease has a clone.
    pub close: Vec<C>,
    /// The connections whose socket and leases are all gone, to be counted and logged.
    pub ended: Vec<Ended>,
    /// True if [`Operation::tick`] is due earlier than its last call returned.
    pub rearm: bool,
}

impl<C, W> Default for Effects<C, W> {
    fn default() -> Self {
        Self { wake: Vec::new(), close: Vec::new(), ended: Vec::new(), rearm: false }
    }
}

/// An operation on the state at one time, made by [`State::at`]. Its methods are the operations that may leave follow-up
/// work; an operation that leaves none is a method of [`State`].
pub struct Operation<'a, C, E, W> {
    state: &'a mut State<C, E, W>,
    now: Instant,
    effects: &'a mut Effects<C, W>,
}

/// The result of a checkout that was not refused.
#[derive(Debug)]
pub enum CheckoutOutcome<C> {
    /// A connection that had room, now leased to the caller.
    Leased(Leased<C>),
    /// The caller's place among the waiters: no connection has room for it, and it asks [`State::collect`] for its
    /// outcome.
    Waits(WaiterId),
}

/// The news that [`State::collect`] has for a waiter.
#[derive(Debug)]
pub enum Collected<C, E> {
    /// No news: the waiter's waker is kept and woken when there are some.
    Nothing,
    /// The order to dial, in the place of this connection; the waiter stays in the pool.
    Dial(ConnectionId),
    /// The loss of the waiter's dial, which brought it nothing: it is queued again, and `queueTimeout` applies to it.
    Queued,
    /// A connection, and how long the waiter was queued for it; `None` if it never was. The waiter has left.
    Leased(Leased<C>, Option<Duration>),
    /// The failure of the waiter's own dial, which it may have in common with other waiters; `None` if the dial was
    /// dropped before its end. The waiter has left.
    Failed(Option<Arc<E>>),
}

/// The pool of one upstream, without its lock. `C` is a connection's handle, `E` a failed dial's error, `W` a waiter's
/// waker.
pub struct State<C, E, W> {
    settings: Settings,
    connections: Connections<C>,
    waiters: Waiters<C, E, W>,
    purge: Purge,
    /// The time at which the running purge period began; `None` if no connection has become idle or got room since the
    /// last period ended.
    purge_period: Option<Instant>,
    /// The number of the newest generation. Connections of older ones are not leased any more.
    generation: u64,
    /// The reason for which connections of older generations close.
    outdated: EndReason,
    /// The time that the caller sleeps towards. May be earlier than the next deadline, but is never later.
    armed: Option<Instant>,
    /// The reason for which the pool last lost a connection; `None` before the first loss.
    last_end: Option<EndReason>,
    /// The observations of how long the upstream lets connections be idle.
    lessons: Lessons,
    /// The pause after failed dials for the warm floor.
    refill: Refill,
    /// True if the task that dials for the warm floor knows that the floor lacks a connection.
    shortage_reported: bool,
    /// True once the warm floor was reached for the first time.
    warm: bool,
    /// True during a drain: no connection is kept idle.
    draining: bool,
}

impl<C, E, W> State<C, E, W> {
    /// Makes an empty pool for the worker threads 0 up to, not including, `threads`.
    /// A connection is expected to allow `streams` streams at a time, at least 1.
    pub fn new(settings: Settings, streams: u32, threads: usize) -> Self {
        Self {
            warm: settings.min_idle == 0,
            lessons: Lessons::default(),
            refill: Refill::default(),
            shortage_reported: false,
            settings,
            connections: Connections::new(streams, threads),
            waiters: Waiters::new(),
            purge: Purge::new(streams),
            purge_period: None,
            generation: 0,
            outdated: EndReason::Rotated,
            armed: None,
            last_end: None,
            draining: false,
        }
    }

    /// Begins an operation at this time, whose follow-up work is added to `effects`.
    pub fn at<'a>(
        &'a mut self,
        now: Instant,
        effects: &'a mut Effects<C, W>,
    ) -> Operation<'a, C, E, W> {
        Operation { state: self, now, effects }
    }
}

impl<C: Clone, E, W> Operation<'_, C, E, W> {
    /// Leases the connection on which the client has authenticated itself, if there is one; else the newest connection
    /// with room that the request may take, of the caller's thread before others. If there is none, the request becomes
    /// a waiter, unless the queue is full or too slow for it.
    pub fn check_out(&mut self, ask: Ask) -> Result<CheckoutOutcome<C>, Rejection> {
        if let Some(leased) = self.lease_claimed(&ask) {
            return Ok(CheckoutOutcome::Leased(leased));
        }
        let risky = self.state.is_risky_for(&ask);
        let ask = Ask { fresh: ask.fresh || risky, ..ask };
        if !ask.fresh
            && let Some(leased) = self.lease_newest(&ask)
        {
            return Ok(CheckoutOutcome::Leased(leased));
        }
        let place_free = self.state.place_free();
        let queues = !place_free && self.state.connections.oldest_dial_with_room().is_none();
        if queues && self.state.waiters.queued() >= self.state.settings.max_queue {
            return Err(Rejection::QueueFull);
        }
        let timeout = self.state.settings.queue_timeout;
        if queues && self.state.waiters.is_too_slow(ask.urgency, self.now, timeout) {
            return Err(Rejection::Shed);
        }
        let reason = if risky { Reuse::Risky } else { self.state.reason_for_new(&ask, place_free) };
        let at_cap = queues.then_some(self.now);
        let waiter = self.state.waiters.join(Arrival { at_cap, ask, reason }, timeout);
        self.find_dials();
        Ok(CheckoutOutcome::Waits(waiter))
    }

    /// Removes a waiter that no longer wants a connection. Its dial, or its uncollected connection, goes to the next
    /// waiter.
    pub fn abandon(&mut self, waiter: WaiterId) {
        let Some(Departed { dial, outcome, .. }) = self.state.waiters.give_up(waiter, self.now)
        else {
            return;
        };
        self.release_dial(waiter, dial);
        if let Some(Ok(leased)) = outcome {
            self.take_back(&leased);
        }
        self.find_dials();
    }

    /// Takes in the connection of a dial that succeeded: it goes to the first waiters or becomes idle. If it allows fewer
    /// streams than waiters counted on it, the others are queued again, in their old positions. It closes if it is of an
    /// older generation, or if the cap was lowered meanwhile.
    pub fn established(&mut self, id: ConnectionId, handle: C, dialled: Dialled) {
        let Some(counted) = self.end_dial(id) else {
            return self.effects.close.push(handle);
        };
        let max_age = self.state.settings.max_age;
        self.state.connections.established(id, handle, dialled, max_age, self.now);
        for waiter in &counted {
            // Even where the connection goes to other waiters, this waiter's dial is over.
            self.state.waiters.lose_dial(*waiter, self.now, self.state.settings.queue_timeout);
        }
        self.returned(id);
        // Before idle connections may have to close for waiters that the dial brought nothing.
        self.state.notice_warmth();
        self.find_dials();
        self.tell_queued(&counted);
    }

    /// Ends a dial that failed, or was dropped (`error` is then `None`): its place is free, and the waiters for which
    /// the dial began get the error if they still wait. Dials for the warm floor pause.
    pub fn dial_failed(&mut self, id: ConnectionId, error: Option<E>) {
        let Some(counted) = self.end_dial(id) else { return };
        self.state.connections.forget(id);
        self.fail_dial(id, &counted, error);
    }

    /// Ends a failed dial whose socket is still open: its waiters get the error now, but the place is only free once
    /// the socket is closed ([`Operation::place_given_back`]). Dials for the warm floor pause.
    pub fn dial_failed_open(&mut self, id: ConnectionId, error: E) {
        let Some(counted) = self.end_dial(id) else { return };
        self.state.connections.enter(id, Phase::Closing(EndReason::Unfit));
        self.fail_dial(id, &counted, Some(error));
    }

    /// Frees the place of a closed socket that never became a connection: that of a failed dial, or a spare one. The
    /// place goes to a queued waiter.
    pub fn place_given_back(&mut self, id: ConnectionId) {
        self.state.connections.forget(id);
        self.find_dials();
    }

    /// Returns the waiters that count on a dial which is over, and which count on it no more; `None` if there is no
    /// such dial.
    fn end_dial(&mut self, id: ConnectionId) -> Option<Vec<WaiterId>> {
        let dials = matches!(self.state.connections.phase(id), Some(Phase::Connecting(_)));
        dials.then(|| self.state.connections.take_waiters(id))
    }

    /// Ends a failed dial for the waiters that counted on it, and begins a pause of dials for the warm floor. The first
    /// queued waiters get the free places and the room in other dials; those of the failed dial that are queued again
    /// are woken.
    fn fail_dial(&mut self, id: ConnectionId, counted: &[WaiterId], error: Option<E>) {
        self.state.refill.failed(self.now);
        let error = error.map(Arc::new);
        for waiter in counted {
            self.fail_waiter(*waiter, id, error.clone());
        }
        // The freed place goes to the first queued waiter, which is the one that adopted this dial if that has just
        // failed it. Otherwise the waiter would adopt one orphan dial after the other and fail with each.
        self.grant_dials();
        self.find_dials();
        self.tell_queued(counted);
    }

    /// Ends a lease, and decides by its verdict what becomes of the connection. One that is fit goes to the first
    /// waiter or becomes idle; one that is not takes no more streams, and closes once the open ones have ended. The
    /// pool learns from the exchange how long the upstream lets connections be idle. The caller drops the lease's clone
    /// of the handle. The place stays taken until the socket is closed.
    pub fn end_lease(&mut self, id: ConnectionId, verdict: Verdict) {
        match verdict {
            Verdict::Fit(hint) => self.learn(id, hint),
            Verdict::Unfit(EndReason::Stale) => self.learn_from_stale(id),
            Verdict::StreamFailed | Verdict::Unfit(_) => {}
        }
        self.end_stream(id, verdict.unfit());
    }

    /// Notes that HTTP on a connection is over and that its socket is being closed: the connection must not be leased
    /// again, but keeps its place until [`Operation::socket_ended`].
    pub fn socket_closing(&mut self, id: ConnectionId, by: Side) {
        match self.state.connections.phase(id) {
            Some(Phase::Open(streams)) if streams.is_idle() => {
                self.ended_idle(id, by);
            }
            // The exchange notices the end itself. If it was already complete, the check-in must not keep the
            // connection.
            Some(Phase::Open(streams) | Phase::Retiring(streams, _)) => {
                self.state.connections.enter(id, Phase::Retiring(streams, reason_of(by)));
            }
            _ => {}
        }
    }

    /// Notes that the kernel has given a connection up, as the network no longer carries it: an idle one has gone stale,
    /// and teaches nothing about the upstream's idle limit.
    pub fn path_forgotten(&mut self, id: ConnectionId) {
        match self.state.connections.phase(id) {
            Some(Phase::Open(streams)) if streams.is_idle() => {
                self.close_ended(id, EndReason::Stale);
            }
            _ => self.socket_closing(id, Side::Peer),
        }
    }

    /// Puts another limit of streams in force on a connection.
    #[cfg(test)]
    pub fn allow(&mut self, id: ConnectionId, limit: u32) {
        self.state.connections.allow(id, limit, self.now);
        match self.reason_to_retire(id) {
            Some(reason) => self.retire(id, reason),
            None if self.give_room(id).is_some() => self.retire(id, EndReason::Purged),
            None => self.watch(id),
        }
        self.find_dials();
    }

    /// Frees the place of a connection whose socket is closed; the place goes to a queued waiter. The end is reported
    /// now, or with the last lease if there are any.
    pub fn socket_ended(&mut self, id: ConnectionId, end: End) {
        match self.state.connections.phase(id) {
            Some(Phase::Open(streams)) if streams.is_idle() => {
                let reason = self.ended_idle(id, end.by);
                self.report_end(id, reason, end);
            }
            Some(Phase::Open(streams) | Phase::Retiring(streams, _)) => {
                // The last lease ends with the final reason; until then the pool only knows which side ended the
                // socket.
                self.state.last_end = Some(reason_of(end.by));
                self.state.connections.enter(id, Phase::Lost(streams, end, self.now));
            }
            Some(Phase::Closing(reason)) => self.report_end(id, reason, end),
            _ => {}
        }
        self.find_dials();
    }

    fn report_end(&mut self, id: ConnectionId, reason: EndReason, end: End) {
        self.effects.ended.push(self.state.connections.remove_ended(id, reason, end, self.now));
    }

    /// Ends the connections that are idle or have room and have reached a limit, and purges if the purge period is
    /// over. Returns the time at which this must be called again; `None` if there is none yet, and [`Effects::rearm`]
    /// tells once there is.
    pub fn tick(&mut self) -> Option<Instant> {
        self.close_expired();
        if self.state.next_purge().is_some_and(|at| at <= self.now) {
            self.purge();
            self.state.purge_period = self.state.connections.any_listed().then_some(self.now);
        }
        self.state.armed = self.state.next_deadline();
        self.state.armed
    }

    /// Closes the idle connections that belonged to a client that is gone; those in use close when they are checked in.
    pub fn client_left(&mut self, client: ClientId) {
        for id in self.state.connections.remove_owner(client) {
            if let Some(reason) = self.state.reason_if_ownerless(self.state.connections.history(id))
            {
                self.retire(id, reason);
            }
        }
    }

    /// Begins the drain: closes all idle connections now, and from now on those that come back while no waiter wants
    /// them. Connections that have room beside open streams take no more of them.
    pub fn drain(&mut self) {
        self.state.draining = true;
        self.close_idle(usize::MAX, EndReason::Drained);
        for id in self.state.connections.listed_oldest_first() {
            self.retire(id, EndReason::Drained);
        }
    }
}

impl<C, E, W> State<C, E, W> {
    /// Returns the news for a waiter and keeps its waker. With [`Collected::Leased`] and [`Collected::Failed`] the
    /// waiter has left the pool.
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

    /// Removes a waiter that has its outcome, and returns that.
    fn collect_outcome(&mut self, waiter: WaiterId) -> Collected<C, E> {
        let departed = self.waiters.remove(waiter);
        match departed.and_then(|departed| Some((departed.outcome?, departed.queued_for))) {
            Some((Ok(leased), queued_for)) => Collected::Leased(leased, queued_for),
            Some((Err(error), _)) => Collected::Failed(error),
            None => Collected::Failed(None),
        }
    }

    /// Removes a waiter whose `queueTimeout` has passed, unless it has got a dial or an outcome meanwhile; returns true if
    /// it was removed. The caller knows the time limit.
    pub fn time_out(&mut self, waiter: WaiterId, now: Instant) -> bool {
        let queued = self.waiters.is_queued(waiter);
        if queued {
            self.waiters.give_up(waiter, now);
        }
        queued
    }

    /// True if a waiter is queued: at the cap, without a dial.
    pub fn is_queued(&self, waiter: WaiterId) -> bool {
        self.waiters.is_queued(waiter)
    }

    /// Ends a drain, so that connections are kept idle again; returns true if there was a drain.
    pub fn resume(&mut self) -> bool {
        std::mem::take(&mut self.draining)
    }

    /// True from the drain's beginning until it is taken back.
    pub fn is_draining(&self) -> bool {
        self.draining
    }

    /// True if the pool is draining and nothing is left in it.
    pub fn is_drained(&self) -> bool {
        self.draining && self.is_empty()
    }

    /// Returns the number of connections in each phase.
    pub fn census(&self) -> Census {
        self.connections.census()
    }

    /// Returns the number of queued waiters: at the cap, without a dial.
    pub fn queued(&self) -> usize {
        self.waiters.queued()
    }

    /// True if no place under the cap is taken and no request waits.
    pub fn is_empty(&self) -> bool {
        self.census().total() == 0 && self.waiters.is_empty()
    }

    /// Returns a description of each connection for people, in no order.
    pub fn views(&self, now: Instant) -> Vec<ConnectionView> {
        self.connections.views(now)
    }

    /// Returns the dials that one more waiter may count on twice: as the set remembers them, and as found by looking at
    /// all connections.
    #[cfg(test)]
    pub fn dials_with_room(&self) -> [Vec<ConnectionId>; 2] {
        self.connections.dials_with_room()
    }
}

/// Returns the reason for the loss of a connection that ended before the pool closed it.
fn reason_of(by: Side) -> EndReason {
    match by {
        Side::Peer => EndReason::PeerClosed,
        // The connection's own task gave up: the bytes that it read were not HTTP, or not TLS.
        Side::Us => EndReason::Unfit,
    }
}
