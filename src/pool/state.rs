//! The pool's state: pure. `now` is an argument, nothing here waits, reads a clock or drops a connection.
//!
//! A connection is in one of five phases:
//! `Connecting` → `Active` ⇄ `Idle` → `Closing` → gone, or `Active` → `Lost` (its socket ended under the lease) → gone.
//! The first four take a place under the cap; a lost one took its place back already.
//!
//! Waiters stand in one FIFO. While somebody waits for any connection, none is idle; while a place is free, every
//! waiter has a dial. Each operation restores both before it returns.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    End, EndReason, Rejection, Reuse, Settings,
    idle::{IdleList, Position},
    purge::Purge,
};

/// Names a connection within its pool; never used twice.
pub type ConnectionId = u64;

/// Names a waiter within its pool; ascending, so the order of ids is the order of arrival.
pub type WaiterId = u64;

/// What to do once the lock is released.
#[derive(Debug)]
pub struct Effects<C, W> {
    /// Waiters that have something to collect.
    pub wake: Vec<W>,
    /// Handles to drop: dropping one closes its connection.
    pub close: Vec<C>,
    /// Connections that are now gone for good.
    pub ended: Vec<Ended>,
    /// [`State::next_deadline`] came nearer.
    pub rearm: bool,
}

impl<C, W> Default for Effects<C, W> {
    fn default() -> Self {
        Self { wake: Vec::new(), close: Vec::new(), ended: Vec::new(), rearm: false }
    }
}

/// A connection's obituary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// Which one.
    pub id: ConnectionId,
    /// Requests that it carried.
    pub uses: u64,
    /// From the established connection to the end of its socket.
    pub age: Duration,
    /// Why the pool lost it.
    pub reason: EndReason,
    /// How its socket ended.
    pub end: End,
}

/// A connection as it is leased.
#[derive(Debug)]
pub struct Leased<C> {
    /// Which one.
    pub id: ConnectionId,
    /// The handle.
    pub handle: C,
    /// Uses, this one included.
    pub uses: u64,
    /// Since it was established.
    pub age: Duration,
    /// Why it is, or is not, a reused one.
    pub reuse: Reuse,
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
    /// A connection, after so long at the cap if it ever stood there.
    Leased(Leased<C>, Option<Duration>),
    /// Its own dial failed; `None` when it was dropped half-way.
    Failed(Option<E>),
}

/// One connection.
struct Record<C> {
    phase: Phase<C>,
    /// The thread that dialled it and drives it.
    thread: usize,
    /// When it was established; when the dial began, before.
    opened: Instant,
    /// When it is too old; set once established.
    retires: Option<Instant>,
    uses: u64,
    peer: Option<SocketAddr>,
    /// Why the last checkout did, or did not, reuse.
    last_reuse: Option<Reuse>,
    /// How its socket ended, while a lease still has to say why.
    lost: Option<(End, Instant)>,
}

enum Phase<C> {
    /// Being dialled, for this waiter if it still waits.
    Connecting(Option<WaiterId>),
    Active,
    Idle(C, Position),
    Closing(EndReason),
    /// Its socket is gone, its lease is not.
    Lost,
}

/// Connections by phase.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// Being dialled.
    pub connecting: usize,
    /// Leased.
    pub active: usize,
    /// Ready for a checkout.
    pub idle: usize,
    /// Being closed politely.
    pub closing: usize,
}

impl Census {
    /// All that take a place under the cap.
    #[must_use]
    pub fn total(&self) -> usize {
        self.connecting + self.active + self.idle + self.closing
    }
}

/// One waiter.
struct Waiting<C, E, W> {
    /// When it came, if no place was free then.
    at_cap: Option<Instant>,
    /// It takes no used connection (a retry).
    fresh: bool,
    /// Why a connection dialled for it is a new one.
    reason: Reuse,
    dial: Dial,
    /// How long it stood at the cap without a dial, once that is over.
    queued_for: Option<Duration>,
    outcome: Option<Result<Leased<C>, Option<E>>>,
    waker: Option<W>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Dial {
    /// It stands at the cap: `maxQueue` and `queueTimeout` concern it.
    None,
    /// A place is reserved, the waiter has not collected it.
    Granted(ConnectionId),
    /// Under way, its own.
    Own(ConnectionId),
    /// Under way, begun for a waiter that left or was served.
    Inherited(ConnectionId),
}

/// See the module.
pub struct State<C, E, W> {
    settings: Settings,
    connections: HashMap<ConnectionId, Record<C>>,
    census: Census,
    idle: IdleList,
    waiters: BTreeMap<WaiterId, Waiting<C, E, W>>,
    /// Waiters whose dial is [`Dial::None`] and that have no outcome.
    queued: usize,
    purge: Purge,
    next_purge: Option<Instant>,
    /// What the outside sleeps towards; it may be earlier than needed, never later.
    armed: Option<Instant>,
    last_end: Option<EndReason>,
    next_connection: ConnectionId,
    next_waiter: WaiterId,
    /// The end has begun: what comes back closes.
    draining: bool,
}

impl<C, E, W> State<C, E, W> {
    /// An empty pool for this many threads.
    pub fn new(settings: Settings, threads: usize) -> Self {
        Self {
            settings,
            connections: HashMap::new(),
            census: Census::default(),
            idle: IdleList::new(threads),
            waiters: BTreeMap::new(),
            queued: 0,
            purge: Purge::default(),
            next_purge: None,
            armed: None,
            last_end: None,
            next_connection: 1,
            next_waiter: 1,
            draining: false,
        }
    }

    /// Takes the newest idle connection of this thread, else of another, else waits; `fresh` takes no used one.
    pub fn check_out(
        &mut self,
        now: Instant,
        thread: usize,
        fresh: bool,
        effects: &mut Effects<C, W>,
    ) -> Result<Found<C>, Rejection> {
        if !fresh && let Some(id) = self.idle.newest(thread) {
            return Ok(Found::Leased(self.lease_idle(id, now)));
        }
        let place_free = self.census.total() < self.settings.max_connections;
        if !place_free && self.queued >= self.settings.max_queue {
            return Err(Rejection::QueueFull);
        }
        let reason = self.reason_for_new(fresh, place_free);
        let waiter = self.enqueue((!place_free).then_some(now), fresh, reason);
        if !place_free && let Some(oldest) = self.idle.oldest() {
            // Only a fresh waiter gets here: idle connections hold the places that it needs.
            self.close_idle(oldest, EndReason::Purged, effects);
        }
        self.grant_dials(now, thread, effects);
        Ok(Found::Waits(waiter))
    }

    /// What has happened to a waiter; with [`Collected::Leased`] and [`Collected::Failed`] it leaves.
    pub fn collect(&mut self, waiter: WaiterId, thread: usize, waker: W) -> Collected<C, E> {
        let Some(waiting) = self.waiters.get_mut(&waiter) else { return Collected::Failed(None) };
        if waiting.outcome.is_some() {
            return self.collect_outcome(waiter);
        }
        waiting.waker = Some(waker);
        let Dial::Granted(id) = waiting.dial else { return Collected::Nothing };
        waiting.dial = Dial::Own(id);
        if let Some(record) = self.connections.get_mut(&id) {
            record.thread = thread;
        }
        Collected::Dial(id)
    }

    /// A waiter goes away: what it was given goes to the next.
    pub fn abandon(&mut self, waiter: WaiterId, now: Instant, effects: &mut Effects<C, W>) {
        let Some(waiting) = self.remove_waiter(waiter) else { return };
        match waiting.dial {
            Dial::None => {}
            Dial::Granted(id) => self.forget_place(id),
            Dial::Own(id) | Dial::Inherited(id) => self.bequeath(id, now),
        }
        if let Some(Ok(leased)) = waiting.outcome {
            self.take_back(leased, now, effects);
        }
        self.grant_dials(now, 0, effects);
    }

    /// Whether a waiter stands at the cap, without a dial; if so and its time is over, it leaves.
    pub fn time_out(&mut self, waiter: WaiterId) -> bool {
        let queued = self.waiters.get(&waiter).is_some_and(Waiting::is_queued);
        if queued {
            self.remove_waiter(waiter);
        }
        queued
    }

    /// Whether a waiter stands at the cap, without a dial.
    pub fn is_queued(&self, waiter: WaiterId) -> bool {
        self.waiters.get(&waiter).is_some_and(Waiting::is_queued)
    }

    /// A dial succeeded. `jitter` is in 0.0..1.0 and shortens the age limit by up to a tenth.
    pub fn established(
        &mut self,
        id: ConnectionId,
        handle: C,
        peer: SocketAddr,
        now: Instant,
        jitter: f64,
        effects: &mut Effects<C, W>,
    ) {
        let retires = self.retirement(now, jitter);
        let Some(record) = self.connections.get_mut(&id) else { return effects.close.push(handle) };
        let owner = match record.phase {
            Phase::Connecting(owner) => owner,
            _ => None,
        };
        (record.opened, record.retires, record.peer) = (now, retires, Some(peer));
        record.phase = Phase::Active;
        self.census.connecting -= 1;
        self.census.active += 1;
        if let Some(owner) = owner {
            self.dial_is_over(owner);
        }
        self.offer(id, handle, now, effects);
    }

    /// A dial failed, or was dropped: it fails the waiter that began it, if that still waits.
    pub fn dial_failed(
        &mut self,
        id: ConnectionId,
        error: Option<E>,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let Some(record) = self.connections.remove(&id) else { return };
        let Phase::Connecting(owner) = record.phase else { return };
        self.census.connecting -= 1;
        if let Some(owner) = owner {
            self.fail_waiter(owner, id, error, effects);
        }
        self.grant_dials(now, 0, effects);
    }

    /// An exchange left its connection fit for another one.
    pub fn check_in(
        &mut self,
        id: ConnectionId,
        handle: C,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let Some(record) = self.connections.get(&id) else { return effects.close.push(handle) };
        if matches!(record.phase, Phase::Lost) {
            effects.close.push(handle);
            return self.bury(id, EndReason::PeerClosed, effects);
        }
        match self.reason_to_retire(record, now) {
            Some(reason) => self.retire(id, handle, reason, effects),
            None => self.offer(id, handle, now, effects),
        }
    }

    /// An exchange left its connection unfit, or found it so; its place stays taken until the socket is gone.
    /// The caller drops the handle.
    pub fn discard(&mut self, id: ConnectionId, reason: EndReason, effects: &mut Effects<C, W>) {
        let Some(record) = self.connections.get_mut(&id) else { return };
        match record.phase {
            Phase::Active => self.close_active(id, reason),
            Phase::Lost => {
                self.last_end = Some(reason);
                self.bury(id, reason, effects);
            }
            Phase::Connecting(_) | Phase::Idle(..) | Phase::Closing(_) => {}
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
        let Some(record) = self.connections.get_mut(&id) else { return };
        record.lost = Some((end, now));
        match record.phase {
            Phase::Active => {
                record.phase = Phase::Lost;
                self.census.active -= 1;
                self.last_end = Some(EndReason::PeerClosed);
            }
            Phase::Idle(..) => {
                self.close_idle(id, EndReason::PeerClosed, effects);
                self.census.closing -= 1;
                self.bury(id, EndReason::PeerClosed, effects);
            }
            Phase::Closing(reason) => {
                self.census.closing -= 1;
                self.bury(id, reason, effects);
            }
            Phase::Connecting(_) | Phase::Lost => {}
        }
        self.grant_dials(now, 0, effects);
    }

    /// Purges, and closes what has been idle for too long or is too old.
    pub fn tick(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        self.close_expired(now, effects);
        if self.next_purge.is_some_and(|at| at <= now) {
            let excess = self.purge.period_ended(self.census.active, self.census.idle);
            for _ in 0..excess {
                if let Some(oldest) = self.idle.oldest() {
                    self.close_idle(oldest, EndReason::Purged, effects);
                }
            }
            self.next_purge = if self.census.idle > 0 {
                now.checked_add(self.settings.purge_delay)
            } else {
                None
            };
        }
        self.armed = self.next_deadline();
    }

    /// When [`State::tick`] has something to do next.
    pub fn next_deadline(&self) -> Option<Instant> {
        let idle = self.idle.iter().filter_map(|id| self.expiry(self.connections.get(&id)?));
        idle.map(|(at, _)| at).chain(self.next_purge).min()
    }

    /// The end has begun: closes all that is idle, and from now on whatever comes back.
    pub fn drain(&mut self, effects: &mut Effects<C, W>) {
        self.draining = true;
        while let Some(oldest) = self.idle.oldest() {
            self.close_idle(oldest, EndReason::Drained, effects);
        }
    }

    /// Connections by phase.
    pub fn census(&self) -> Census {
        self.census
    }

    /// Waiters at the cap, without a dial.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Nothing exists and nobody waits.
    pub fn is_empty(&self) -> bool {
        self.census.total() == 0 && self.waiters.is_empty()
    }

    /// Each connection, for a person: oldest first.
    pub fn views(&self, now: Instant) -> Vec<super::ConnectionView> {
        let living = self.connections.iter().filter(|(_, r)| !matches!(r.phase, Phase::Lost));
        let mut views: Vec<_> = living.map(|(id, record)| record.view(*id, now)).collect();
        views.sort_unstable_by_key(|view| view.id);
        views
    }

    // ---- waiters

    fn enqueue(&mut self, at_cap: Option<Instant>, fresh: bool, reason: Reuse) -> WaiterId {
        let id = self.next_waiter;
        self.next_waiter += 1;
        self.queued += 1;
        let waiting = Waiting {
            at_cap,
            fresh,
            reason,
            dial: Dial::None,
            queued_for: None,
            outcome: None,
            waker: None,
        };
        self.waiters.insert(id, waiting);
        id
    }

    fn remove_waiter(&mut self, waiter: WaiterId) -> Option<Waiting<C, E, W>> {
        let waiting = self.waiters.remove(&waiter)?;
        if waiting.is_queued() {
            self.queued -= 1;
        }
        Some(waiting)
    }

    fn collect_outcome(&mut self, waiter: WaiterId) -> Collected<C, E> {
        let Some(waiting) = self.remove_waiter(waiter) else { return Collected::Nothing };
        match waiting.outcome {
            Some(Ok(leased)) => Collected::Leased(leased, waiting.queued_for),
            Some(Err(error)) => Collected::Failed(error),
            None => Collected::Nothing,
        }
    }

    /// Reserves free places for the oldest waiters without a dial.
    fn grant_dials(&mut self, now: Instant, thread: usize, effects: &mut Effects<C, W>) {
        while self.queued > 0 && self.census.total() < self.settings.max_connections {
            let Some(waiter) = self.oldest_queued() else { return };
            let id = self.reserve_place(now, thread, waiter);
            self.leave_queue(waiter, Dial::Granted(id), now);
            if let Some(waiting) = self.waiters.get_mut(&waiter) {
                effects.wake.extend(waiting.waker.take());
            }
        }
    }

    fn oldest_queued(&self) -> Option<WaiterId> {
        self.waiters.iter().find(|(_, waiting)| waiting.is_queued()).map(|(id, _)| *id)
    }

    /// Wakes nobody: an heir has nothing to collect yet, and must keep its waker until it has.
    fn leave_queue(&mut self, waiter: WaiterId, dial: Dial, now: Instant) {
        let Some(waiting) = self.waiters.get_mut(&waiter) else { return };
        self.queued -= 1;
        waiting.dial = dial;
        if waiting.queued_for.is_none() {
            waiting.queued_for = waiting.at_cap.map(|since| now.saturating_duration_since(since));
        }
    }

    /// A dial lost the waiter that began it: the oldest waiter without one counts on it from now on.
    fn bequeath(&mut self, dial: ConnectionId, now: Instant) {
        let heir = self.oldest_queued();
        if let Some(Record { phase: Phase::Connecting(owner), .. }) =
            self.connections.get_mut(&dial)
        {
            *owner = heir;
            if let Some(heir) = heir {
                self.leave_queue(heir, Dial::Inherited(dial), now);
            }
        }
    }

    /// A waiter's dial gave a connection: wherever that goes, the waiter itself is without one now.
    fn dial_is_over(&mut self, owner: WaiterId) {
        if let Some(waiting) = self.waiters.get_mut(&owner)
            && waiting.outcome.is_none()
        {
            waiting.dial = Dial::None;
            self.queued += 1;
        }
    }

    fn fail_waiter(
        &mut self,
        owner: WaiterId,
        dial: ConnectionId,
        error: Option<E>,
        effects: &mut Effects<C, W>,
    ) {
        let Some(waiting) = self.waiters.get_mut(&owner) else { return };
        if waiting.outcome.is_some() {
            return;
        }
        if waiting.dial == Dial::Own(dial) {
            waiting.outcome = Some(Err(error));
        } else {
            waiting.dial = Dial::None;
            self.queued += 1;
        }
        effects.wake.extend(waiting.waker.take());
    }

    // ---- connections

    fn reserve_place(&mut self, now: Instant, thread: usize, owner: WaiterId) -> ConnectionId {
        let id = self.next_connection;
        self.next_connection += 1;
        self.census.connecting += 1;
        let record = Record {
            phase: Phase::Connecting(Some(owner)),
            thread,
            opened: now,
            retires: None,
            uses: 0,
            peer: None,
            last_reuse: None,
            lost: None,
        };
        self.connections.insert(id, record);
        id
    }

    /// Gives back a place where no dial has begun.
    fn forget_place(&mut self, id: ConnectionId) {
        if self.connections.remove(&id).is_some() {
            self.census.connecting -= 1;
        }
    }

    fn retirement(&self, now: Instant, jitter: f64) -> Option<Instant> {
        let age = self.settings.max_age;
        let age = age - age.mul_f64(jitter.clamp(0.0, 1.0) / 10.0);
        if age.is_zero() { None } else { now.checked_add(age) }
    }

    fn lease_idle(&mut self, id: ConnectionId, now: Instant) -> Leased<C> {
        let handle = self.take_idle(id);
        self.census.active += 1;
        self.lease(id, handle, Reuse::Reused, now)
    }

    /// Leases a connection that is already counted as active.
    fn lease(&mut self, id: ConnectionId, handle: C, reuse: Reuse, now: Instant) -> Leased<C> {
        self.purge.checked_out(self.census.active);
        let record = self.connections.get_mut(&id).expect("a leased connection has a record");
        record.phase = Phase::Active;
        record.uses += 1;
        record.last_reuse = Some(reuse);
        let age = now.saturating_duration_since(record.opened);
        Leased { id, handle, uses: record.uses, age, reuse }
    }

    /// Takes an idle connection out of the list; the caller counts and sets its next phase.
    fn take_idle(&mut self, id: ConnectionId) -> C {
        let record = self.connections.get_mut(&id).expect("an idle connection has a record");
        match std::mem::replace(&mut record.phase, Phase::Active) {
            Phase::Idle(handle, position) => {
                self.idle.remove(record.thread, position);
                self.census.idle -= 1;
                handle
            }
            _ => unreachable!("the idle list holds idle connections alone"),
        }
    }

    /// Gives an active connection to the oldest waiter that takes it, else keeps it idle where the settings allow.
    fn offer(&mut self, id: ConnectionId, handle: C, now: Instant, effects: &mut Effects<C, W>) {
        let unused = self.connections.get(&id).is_some_and(|record| record.uses == 0);
        let taker = self.waiters.iter().find(|(_, w)| w.outcome.is_none() && (unused || !w.fresh));
        match taker.map(|(waiter, _)| *waiter) {
            Some(waiter) => self.give(id, handle, waiter, unused, now, effects),
            None => self.keep(id, handle, now, effects),
        }
        self.grant_dials(now, 0, effects);
    }

    fn give(
        &mut self,
        id: ConnectionId,
        handle: C,
        waiter: WaiterId,
        unused: bool,
        now: Instant,
        effects: &mut Effects<C, W>,
    ) {
        let waiting = self.waiters.get_mut(&waiter).expect("the waiter was just found");
        let dial = waiting.dial;
        if dial == Dial::None {
            self.leave_queue(waiter, Dial::None, now);
        }
        let reason = self.waiters[&waiter].reason;
        let leased = self.lease(id, handle, if unused { reason } else { Reuse::Reused }, now);
        let waiting = self.waiters.get_mut(&waiter).expect("the waiter was just found");
        waiting.outcome = Some(Ok(leased));
        waiting.dial = Dial::None;
        effects.wake.extend(waiting.waker.take());
        match dial {
            Dial::None => {}
            Dial::Granted(place) => self.forget_place(place),
            Dial::Own(dial) | Dial::Inherited(dial) => self.bequeath(dial, now),
        }
    }

    fn keep(&mut self, id: ConnectionId, handle: C, now: Instant, effects: &mut Effects<C, W>) {
        if self.draining {
            return self.retire(id, handle, EndReason::Drained, effects);
        }
        // Whoever is still queued takes fresh connections alone, and needs this one's place.
        let place_wanted = self.queued > 0;
        let kept_idle = !self.settings.purge_delay.is_zero() && self.settings.max_idle != Some(0);
        if place_wanted || !kept_idle {
            return self.retire(id, handle, EndReason::Purged, effects);
        }
        if self.settings.max_idle.is_some_and(|most| self.census.idle >= most)
            && let Some(oldest) = self.idle.oldest()
        {
            self.close_idle(oldest, EndReason::Purged, effects);
        }
        let record = self.connections.get_mut(&id).expect("a kept connection has a record");
        let position = self.idle.push(record.thread, id, now);
        record.phase = Phase::Idle(handle, position);
        self.census.active -= 1;
        self.census.idle += 1;
        self.next_purge = self.next_purge.or_else(|| now.checked_add(self.settings.purge_delay));
        self.arm(id, effects);
    }

    /// Notes when a newly idle connection wants attention.
    fn arm(&mut self, id: ConnectionId, effects: &mut Effects<C, W>) {
        let expiry = self.connections.get(&id).and_then(|record| self.expiry(record));
        let nearest = expiry.map(|(at, _)| at).into_iter().chain(self.next_purge).min();
        if let Some(at) = nearest
            && self.armed.is_none_or(|armed| at < armed)
        {
            self.armed = Some(at);
            effects.rearm = true;
        }
    }

    /// Takes back an unused lease that a waiter never collected.
    fn take_back(&mut self, leased: Leased<C>, now: Instant, effects: &mut Effects<C, W>) {
        let Some(record) = self.connections.get_mut(&leased.id) else {
            return effects.close.push(leased.handle);
        };
        record.uses -= 1;
        if matches!(record.phase, Phase::Lost) {
            effects.close.push(leased.handle);
            return self.bury(leased.id, EndReason::PeerClosed, effects);
        }
        self.offer(leased.id, leased.handle, now, effects);
    }

    fn reason_to_retire(&self, record: &Record<C>, now: Instant) -> Option<EndReason> {
        if self.draining {
            return Some(EndReason::Drained);
        }
        if self.settings.max_requests.is_some_and(|most| record.uses >= most.get()) {
            return Some(EndReason::Requests);
        }
        record.retires.is_some_and(|at| at <= now).then_some(EndReason::Aged)
    }

    /// Closes an active connection whose handle came back.
    fn retire(
        &mut self,
        id: ConnectionId,
        handle: C,
        reason: EndReason,
        effects: &mut Effects<C, W>,
    ) {
        effects.close.push(handle);
        self.close_active(id, reason);
    }

    fn close_active(&mut self, id: ConnectionId, reason: EndReason) {
        self.census.active -= 1;
        self.closes(id, reason);
    }

    fn close_idle(&mut self, id: ConnectionId, reason: EndReason, effects: &mut Effects<C, W>) {
        let handle = self.take_idle(id);
        effects.close.push(handle);
        self.closes(id, reason);
    }

    fn closes(&mut self, id: ConnectionId, reason: EndReason) {
        self.census.closing += 1;
        self.last_end = Some(reason);
        if let Some(record) = self.connections.get_mut(&id) {
            record.phase = Phase::Closing(reason);
        }
    }

    /// A connection's socket and lease are both gone.
    fn bury(&mut self, id: ConnectionId, reason: EndReason, effects: &mut Effects<C, W>) {
        let Some(record) = self.connections.remove(&id) else { return };
        let Some((end, at)) = record.lost else { return };
        let age = at.saturating_duration_since(record.opened);
        effects.ended.push(Ended { id, uses: record.uses, age, reason, end });
    }

    fn close_expired(&mut self, now: Instant, effects: &mut Effects<C, W>) {
        let expired: Vec<_> = self
            .idle
            .iter()
            .filter_map(|id| {
                let (at, reason) = self.expiry(self.connections.get(&id)?)?;
                (at <= now).then_some((id, reason))
            })
            .collect();
        for (id, reason) in expired {
            self.close_idle(id, reason, effects);
        }
    }

    /// When an idle connection must go, and why.
    fn expiry(&self, record: &Record<C>) -> Option<(Instant, EndReason)> {
        let Phase::Idle(_, position) = &record.phase else { return None };
        let timeout = self.settings.idle_timeout;
        let idle = if timeout.is_zero() { None } else { position.since.checked_add(timeout) };
        let idle = idle.map(|at| (at, EndReason::Idle));
        let aged = record.retires.map(|at| (at, EndReason::Aged));
        idle.into_iter().chain(aged).min_by_key(|(at, _)| *at)
    }

    fn reason_for_new(&self, fresh: bool, place_free: bool) -> Reuse {
        if fresh {
            Reuse::Policy
        } else if !place_free {
            Reuse::Cap
        } else if self.census.active + self.census.connecting > 0 {
            Reuse::Busy
        } else {
            self.last_end.map_or(Reuse::First, EndReason::as_reuse)
        }
    }
}

impl<C, E, W> Waiting<C, E, W> {
    fn is_queued(&self) -> bool {
        self.dial == Dial::None && self.outcome.is_none()
    }
}

impl<C> Record<C> {
    fn view(&self, id: ConnectionId, now: Instant) -> super::ConnectionView {
        super::ConnectionView {
            id,
            phase: match self.phase {
                Phase::Connecting(_) => super::ConnectionPhase::Connecting,
                Phase::Active | Phase::Lost => super::ConnectionPhase::Active,
                Phase::Idle(..) => super::ConnectionPhase::Idle,
                Phase::Closing(_) => super::ConnectionPhase::Closing,
            },
            age: now.saturating_duration_since(self.opened),
            uses: self.uses,
            peer: self.peer,
            last_reuse: self.last_reuse,
        }
    }
}
