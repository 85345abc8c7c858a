//! The records of a pool's connections: each in one phase, counted, the idle ones in order. Decides nothing.
//!
//! `Connecting` → `Active` ⇄ `Idle` → `Closing` → gone, or `Active` → `Lost` (the socket ended under the lease) → gone.
//! Connections in the first four phases take a place under the cap; a lost connection has already given its place back.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    ConnectionPhase, ConnectionView, End, EndReason, Reuse,
    idle::{IdleList, List, Position},
    ids::{ClientId, ConnectionId, IdMap, WaiterId},
    sharing::UseHistory,
};

/// The report of a connection's end, for the counters and the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The connection's number within its pool.
    pub id: ConnectionId,
    /// The number of requests that the connection carried.
    pub uses: u64,
    /// The time from the establishment of the connection to the end of its socket.
    pub age: Duration,
    /// The reason for which the pool lost the connection.
    pub reason: EndReason,
    /// The end of its socket: by which side, and how.
    pub end: End,
}

/// The facts that decide whether a connection may be leased again.
#[derive(Debug, Clone, Copy)]
pub(super) struct LeaseFacts {
    /// The reason for which HTTP on the connection is over; `None` while it is not.
    pub over: Option<EndReason>,
    /// The generation of certificates that the handshake used.
    pub generation: u64,
    /// The connection's uses and owner, which the reuse mode judges by.
    pub history: UseHistory,
    /// The time at which the connection is too old (`maxAge`, less jitter); `None`: no limit.
    pub retires: Option<Instant>,
    /// The number of uses after which the upstream takes no more requests, as it announced; `None`: no announcement.
    pub last_use: Option<u64>,
}

/// The facts that limit how long a connection may stay idle.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleLimits {
    /// The time at which the connection became idle.
    pub since: Instant,
    /// The longest idle time by the upstream's own announcement on this connection, less the margin.
    pub announced: Option<Duration>,
    /// The time at which the connection is too old; `None`: no limit.
    pub retires: Option<Instant>,
    /// The time until which the connection has to be proven alive; `None` if it is not doubted.
    pub doubted: Option<Instant>,
}

/// The facts about a dial that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Dialled {
    /// The generation of certificates that the handshake used.
    pub generation: u64,
    /// The address at the other end.
    pub peer: SocketAddr,
    /// A random number in 0.0..1.0 that shortens the age limit by up to a tenth.
    pub jitter: f64,
}

/// A connection as it is handed out for one exchange.
#[derive(Debug)]
pub struct Leased<C> {
    /// The connection's number within its pool.
    pub id: ConnectionId,
    /// The connection's handle.
    pub handle: C,
    /// The number of uses of the connection, this one included.
    pub uses: u64,
    /// The time since the connection was established.
    pub age: Duration,
    /// The reason for which this lease is, or is not, a reuse.
    pub reuse: Reuse,
}

/// The number of connections in each phase that takes a place under the cap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Census {
    /// The dials that are reserved or under way, spare sockets included.
    pub connecting: usize,
    /// The leased connections.
    pub active: usize,
    /// The idle connections.
    pub idle: usize,
    /// The connections that are being closed politely.
    pub closing: usize,
}

impl Census {
    /// Returns the number of places under the cap that are taken.
    #[must_use]
    pub fn total(&self) -> usize {
        self.staying() + self.closing
    }

    /// Returns the number of places that are taken and not about to be given back: all but those of closing
    /// connections.
    pub(super) fn staying(&self) -> usize {
        self.connecting + self.active + self.idle
    }

    /// Returns the count of a phase; `None` for lost connections, which take no place.
    fn of(&mut self, phase: Phase) -> Option<&mut usize> {
        match phase {
            Phase::Connecting(_) | Phase::Spare => Some(&mut self.connecting),
            Phase::Active => Some(&mut self.active),
            Phase::Idle(_) => Some(&mut self.idle),
            Phase::Closing(_) => Some(&mut self.closing),
            Phase::Lost(..) => None,
        }
    }
}

/// The phase of a connection's life.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// A dial that is reserved or under way, for this waiter; an orphan dial if for `None`.
    Connecting(Option<WaiterId>),
    /// A further socket of a dial that tries several addresses at once; no waiter counts on it.
    Spare,
    /// A connection that is leased, or on its way from one lease to the next.
    Active,
    /// A connection whose handle is in the idle list, at this position.
    Idle(Position),
    /// A connection whose handle is given up, for this reason, and whose socket is not closed yet.
    Closing(EndReason),
    /// A connection whose socket ended like this, at this time, while its lease lasts: the lease will say why.
    Lost(End, Instant),
}

/// The record of one connection.
struct Record {
    phase: Phase,
    /// The number of the worker thread that dialled and drives the connection.
    thread: usize,
    /// The time at which the connection was established; before that, the time at which its dial was reserved.
    opened: Instant,
    /// The time at which the connection is too old; `None` before it is established, or without a limit.
    retires: Option<Instant>,
    /// The connection's random share of the age limit's jitter, in 0.0..=1.0.
    jitter: f64,
    /// The generation of certificates that the handshake used; 0 before.
    generation: u64,
    uses: u64,
    /// The client that the connection belongs to, under [`Sharing::Never`](super::Sharing::Never) or by a claim.
    owner: Option<ClientId>,
    /// True if a client has claimed the connection, because it authenticated itself on it. Stays true when the client
    /// is gone.
    private: bool,
    /// The time until which an idle connection has to be proven alive; `None` if it is not doubted.
    doubted: Option<Instant>,
    peer: Option<SocketAddr>,
    /// The time that the connection was idle before its running lease; `None` if it was not, or once that was used.
    idle_before: Option<Duration>,
    /// The longest idle time by the upstream's own announcement on this connection, less the margin.
    announced: Option<Duration>,
    /// The number of uses after which the upstream takes no more requests, as it announced on this connection.
    last_use: Option<u64>,
    /// The reason for which the last lease was, or was not, a reuse.
    last_reuse: Option<Reuse>,
    /// The reason for which HTTP on the connection is over. The connection is then being closed, and not leased again.
    over: Option<EndReason>,
}

/// The counts by phase and the set of orphan dials. Each change of a record's phase updates both: [`Record::enter`],
/// and the addition and removal of records.
#[derive(Default)]
struct Roll {
    /// The number of records in each phase.
    census: Census,
    /// The dials in `Phase::Connecting(None)`. Ids ascend, so the first is the oldest.
    orphans: BTreeSet<ConnectionId>,
}

impl Roll {
    fn add(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(count) = self.census.of(phase) {
            *count += 1;
        }
        if matches!(phase, Phase::Connecting(None)) {
            self.orphans.insert(id);
        }
    }

    fn remove(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(count) = self.census.of(phase) {
            *count -= 1;
        }
        if matches!(phase, Phase::Connecting(None)) {
            self.orphans.remove(&id);
        }
    }
}

/// The records of a pool's connections, by id. `C` is a connection's handle.
pub(super) struct Connections<C> {
    records: IdMap<Record>,
    roll: Roll,
    /// The connections in [`Phase::Idle`], with their handles.
    idle: IdleList<C>,
    /// The connections that each client has claimed; rarely more than one.
    claimed: IdMap<Vec<ConnectionId>>,
    next_id: ConnectionId,
}

impl<C> Connections<C> {
    pub(super) fn new(threads: usize) -> Self {
        Self {
            records: IdMap::default(),
            roll: Roll::default(),
            idle: IdleList::new(threads),
            claimed: IdMap::default(),
            next_id: 1,
        }
    }

    pub(super) fn census(&self) -> Census {
        self.roll.census
    }

    pub(super) fn phase(&self, id: ConnectionId) -> Option<Phase> {
        self.records.get(&id).map(|record| record.phase)
    }

    pub(super) fn uses(&self, id: ConnectionId) -> u64 {
        self.records.get(&id).map_or(0, |record| record.uses)
    }

    /// Returns the limits of an idle connection's stay; `None` if the connection is not idle.
    pub(super) fn idle_limits(&self, id: ConnectionId) -> Option<IdleLimits> {
        let record = self.records.get(&id)?;
        let Phase::Idle(Position { since, .. }) = record.phase else { return None };
        let Record { announced, retires, doubted, .. } = *record;
        Some(IdleLimits { since, announced, retires, doubted })
    }

    /// Returns how long a leased connection was idle before its lease, and forgets that; `None` if it was not idle.
    pub(super) fn take_idle_before(&mut self, id: ConnectionId) -> Option<Duration> {
        self.records.get_mut(&id)?.idle_before.take()
    }

    /// Notes the upstream's announcement on a connection: the longest idle time (less the margin), and how many more
    /// requests it takes. `None` leaves an earlier announcement in force.
    pub(super) fn announce(&mut self, id: ConnectionId, idle: Option<Duration>, more: Option<u64>) {
        if let Some(record) = self.records.get_mut(&id) {
            record.announced = idle.or(record.announced);
            let last_use = more.map(|more| record.uses.saturating_add(more));
            record.last_use = last_use.or(record.last_use);
        }
    }

    /// Returns the facts that decide whether a connection may be leased again. A single look-up, because each check-in
    /// needs it.
    pub(super) fn lease_facts(&self, id: ConnectionId) -> Option<LeaseFacts> {
        let record = self.records.get(&id)?;
        let history = record.history();
        let Record { over, generation, retires, last_use, .. } = *record;
        Some(LeaseFacts { over, generation, history, retires, last_use })
    }

    /// Returns the address at the other end; `None` before the connection is established.
    pub(super) fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.records.get(&id)?.peer
    }

    /// Returns the number of leased connections that are of older generations than this.
    pub(super) fn active_before(&self, generation: u64) -> usize {
        let older = |r: &&Record| matches!(r.phase, Phase::Active) && r.generation < generation;
        self.records.values().filter(older).count()
    }

    /// Returns the oldest dial that no waiter counts on.
    pub(super) fn oldest_orphan(&self) -> Option<ConnectionId> {
        self.roll.orphans.first().copied()
    }

    /// Returns the orphan dials twice: as the set remembers them, and as a look at every record finds them.
    #[cfg(test)]
    pub(super) fn orphans(&self) -> [Vec<ConnectionId>; 2] {
        let orphan = |(_, record): &(_, &Record)| matches!(record.phase, Phase::Connecting(None));
        let mut found: Vec<_> = self.records.iter().filter(orphan).map(|(id, _)| *id).collect();
        found.sort_unstable();
        [self.roll.orphans.iter().copied().collect(), found]
    }

    /// Returns the newest shared idle connection that `allowed` accepts: of this thread, else of any other.
    pub(super) fn newest_idle(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        self.idle.newest(thread, allowed)
    }

    /// Returns the connection's uses and owner; those of an unused connection if there is no such connection.
    pub(super) fn history(&self, id: ConnectionId) -> UseHistory {
        let unused = UseHistory { uses: 0, owner: None, private: false };
        self.records.get(&id).map_or(unused, Record::history)
    }

    /// Returns the number of idle connections that are private: claimed by a client, and not doubted.
    pub(super) fn private_idle(&self) -> usize {
        self.idle.private()
    }

    /// Returns the number of idle connections that are doubted.
    pub(super) fn doubted_idle(&self) -> usize {
        self.idle.doubted()
    }

    /// Doubts each idle connection to this address that became idle before `since`, and returns them by ascending id.
    /// Each has to be proven alive before `until`.
    pub(super) fn doubt(
        &mut self,
        peer: SocketAddr,
        since: Instant,
        until: Instant,
    ) -> Vec<ConnectionId> {
        let mut doubted = Vec::new();
        for (id, record) in &mut self.records {
            if let Phase::Idle(position) = record.phase
                && record.peer == Some(peer)
                && position.since < since
                && record.doubted.is_none()
            {
                record.doubted = Some(until);
                record.phase = Phase::Idle(self.idle.shift(*id, position, List::Doubted));
                doubted.push(*id);
            }
        }
        doubted.sort_unstable();
        doubted
    }

    /// Ends the doubt about an idle connection; false if there was none.
    pub(super) fn trust(&mut self, id: ConnectionId) -> bool {
        let Some(record) = self.records.get_mut(&id) else { return false };
        let Phase::Idle(position) = record.phase else { return false };
        if record.doubted.take().is_some() {
            record.phase = Phase::Idle(self.idle.shift(id, position, record.list()));
            return true;
        }
        false
    }

    /// Makes a leased connection private to this client, which has authenticated itself on it.
    pub(super) fn claim(&mut self, id: ConnectionId, client: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            (record.owner, record.private) = (Some(client), true);
            let its = self.claimed.entry(client).or_default();
            if !its.contains(&id) {
                its.push(id);
            }
        }
    }

    /// Returns the newest idle connection among those that this client has claimed; none that is doubted.
    pub(super) fn claimed_idle(&self, client: ClientId) -> Option<ConnectionId> {
        let idle = self.claimed.get(&client)?.iter().filter_map(|id| match self.phase(*id)? {
            Phase::Idle(Position { turn, list: List::Private, .. }) => Some((turn, *id)),
            _ => None,
        });
        idle.max().map(|(_, id)| id)
    }

    /// Makes this client the connection's owner, without a claim: for [`Sharing::Never`](super::Sharing::Never).
    pub(super) fn belongs_to(&mut self, id: ConnectionId, owner: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.owner = Some(owner);
        }
    }

    /// Removes this client as the owner of all its connections; returns those of them that are idle.
    pub(super) fn remove_owner(&mut self, owner: ClientId) -> Vec<ConnectionId> {
        self.claimed.remove(&owner);
        let its = self.records.iter_mut().filter(|(_, record)| record.owner == Some(owner));
        let ownerless = its.filter_map(|(id, record)| {
            record.owner = None;
            matches!(record.phase, Phase::Idle(_)).then_some(*id)
        });
        ownerless.collect()
    }

    /// Removes the owners of all connections that are not private.
    pub(super) fn remove_owners(&mut self) {
        let shared = self.records.values_mut().filter(|record| !record.private);
        shared.for_each(|record| record.owner = None);
    }

    /// Returns the connection that has been idle for the longest time, private and doubted ones included.
    pub(super) fn oldest_idle(&self) -> Option<ConnectionId> {
        self.idle.oldest()
    }

    /// Returns all idle connections, in no order.
    pub(super) fn idle(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.idle.iter()
    }

    pub(super) fn idle_oldest_first(&self) -> Vec<ConnectionId> {
        self.idle.oldest_first()
    }

    /// Returns the number of dials that no waiter counts on.
    pub(super) fn orphan_count(&self) -> usize {
        self.roll.orphans.len()
    }

    /// Returns the time since the connection was established; before that, since its dial was reserved.
    pub(super) fn age(&self, id: ConnectionId, now: Instant) -> Duration {
        let opened = self.records.get(&id).map_or(now, |record| record.opened);
        now.saturating_duration_since(opened)
    }

    /// Takes a place under the cap for a dial, for this waiter or as an orphan.
    pub(super) fn reserve(&mut self, now: Instant, owner: Option<WaiterId>) -> ConnectionId {
        self.add(now, Phase::Connecting(owner))
    }

    /// Takes a place under the cap for one more socket of a dial.
    pub(super) fn reserve_spare(&mut self, now: Instant) -> ConnectionId {
        self.add(now, Phase::Spare)
    }

    fn add(&mut self, now: Instant, phase: Phase) -> ConnectionId {
        let id = self.next_id;
        self.next_id += 1;
        self.roll.add(id, phase);
        let record = Record {
            phase,
            thread: 0,
            opened: now,
            retires: None,
            jitter: 0.0,
            generation: 0,
            uses: 0,
            owner: None,
            private: false,
            doubted: None,
            peer: None,
            idle_before: None,
            announced: None,
            last_use: None,
            last_reuse: None,
            over: None,
        };
        self.records.insert(id, record);
        id
    }

    /// Notes the thread that dials, and will drive the connection.
    pub(super) fn dial_begins(&mut self, id: ConnectionId, thread: usize) {
        if let Some(record) = self.records.get_mut(&id) {
            record.thread = thread;
        }
    }

    /// Makes another waiter, or none, the one that counts on this dial.
    pub(super) fn pass_dial(&mut self, dial: ConnectionId, next_waiter: Option<WaiterId>) {
        if matches!(self.phase(dial), Some(Phase::Connecting(_))) {
            self.enter(dial, Phase::Connecting(next_waiter));
        }
    }

    /// Makes an active connection of a dial that succeeded; its age counts from now.
    pub(super) fn established(
        &mut self,
        id: ConnectionId,
        dialled: Dialled,
        max_age: Duration,
        now: Instant,
    ) {
        let Dialled { generation, peer, jitter } = dialled;
        self.enter(id, Phase::Active);
        if let Some(record) = self.records.get_mut(&id) {
            (record.opened, record.peer, record.generation) = (now, Some(peer), generation);
            record.jitter = jitter.clamp(0.0, 1.0);
            record.limit_age(max_age);
        }
    }

    /// Puts another age limit in force for all connections.
    pub(super) fn limit_age(&mut self, max_age: Duration) {
        self.records.values_mut().for_each(|record| record.limit_age(max_age));
    }

    /// Counts one more use of an active connection, and returns what the lease holds of it.
    pub(super) fn lease(
        &mut self,
        id: ConnectionId,
        handle: C,
        reuse: Reuse,
        now: Instant,
    ) -> Leased<C> {
        let record = self.records.get_mut(&id).expect("a leased connection has a record");
        record.uses += 1;
        record.last_reuse = Some(reuse);
        let age = now.saturating_duration_since(record.opened);
        Leased { id, handle, uses: record.uses, age, reuse }
    }

    /// Counts one more use of a leased connection, for another request of its client. Returns its uses and age; `None`
    /// if its socket has ended, or HTTP on it is over.
    pub(super) fn lease_again(
        &mut self,
        id: ConnectionId,
        now: Instant,
    ) -> Option<(u64, Duration)> {
        let record = self.records.get_mut(&id)?;
        if !matches!(record.phase, Phase::Active) || record.over.is_some() {
            return None;
        }
        record.uses += 1;
        record.last_reuse = Some(Reuse::Reused);
        Some((record.uses, now.saturating_duration_since(record.opened)))
    }

    /// Takes back the use of a lease that no request took up. A connection without any use has no owner.
    pub(super) fn unlease(&mut self, id: ConnectionId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.uses = record.uses.saturating_sub(1);
            record.owner = record.owner.filter(|_| record.uses > 0);
        }
    }

    /// Puts an active connection into the idle list, as the newest.
    pub(super) fn keep(&mut self, id: ConnectionId, handle: C, now: Instant) {
        let record = self.records.get_mut(&id).expect("a kept connection has a record");
        record.doubted = None;
        let position = self.idle.push(record.list(), id, handle, now);
        record.enter(id, Phase::Idle(position), &mut self.roll);
    }

    /// Takes an idle connection out of the list for a lease, and notes how long it was idle. Returns its handle; `None`
    /// if the connection is not idle.
    pub(super) fn lease_idle(&mut self, id: ConnectionId, now: Instant) -> Option<C> {
        let record = self.records.get_mut(&id)?;
        let Phase::Idle(position) = record.phase else { return None };
        record.idle_before = Some(now.saturating_duration_since(position.since));
        record.enter(id, Phase::Active, &mut self.roll);
        self.idle.remove(position)
    }

    /// Takes an idle connection out of the list, so that it is active, and returns its handle; `None` if it is not
    /// idle.
    pub(super) fn take_idle(&mut self, id: ConnectionId) -> Option<C> {
        let record = self.records.get_mut(&id)?;
        let Phase::Idle(position) = record.phase else { return None };
        record.enter(id, Phase::Active, &mut self.roll);
        self.idle.remove(position)
    }

    /// Notes the reason for which HTTP on a leased connection is over.
    pub(super) fn set_over(&mut self, id: ConnectionId, reason: EndReason) {
        if let Some(record) = self.records.get_mut(&id) {
            record.over = Some(reason);
        }
    }

    /// Notes that a leased connection's socket has ended, and frees its place.
    pub(super) fn lose(&mut self, id: ConnectionId, end: End, at: Instant) {
        self.enter(id, Phase::Lost(end, at));
    }

    /// Changes a connection's phase, and the counts with it.
    pub(super) fn enter(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(record) = self.records.get_mut(&id) {
            record.enter(id, phase, &mut self.roll);
        }
    }

    /// Removes the record of a connection or of a dial.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(record) = self.records.remove(&id) {
            self.roll.remove(id, record.phase);
            if record.private
                && let Some(owner) = record.owner
                && let Some(its) = self.claimed.get_mut(&owner)
            {
                its.retain(|claimed| *claimed != id);
                if its.is_empty() {
                    self.claimed.remove(&owner);
                }
            }
        }
    }

    /// Removes a connection whose socket and lease are both gone, and returns the report of its end.
    pub(super) fn remove_ended(
        &mut self,
        id: ConnectionId,
        reason: EndReason,
        end: End,
        at: Instant,
    ) -> Ended {
        let (uses, opened) = self.records.get(&id).map_or((0, at), |r| (r.uses, r.opened));
        self.forget(id);
        Ended { id, uses, age: at.saturating_duration_since(opened), reason, end }
    }

    /// Returns a description of each connection that takes a place, for people, in no order.
    pub(super) fn views(&self, now: Instant) -> Vec<ConnectionView> {
        self.records.iter().filter_map(|(id, r)| r.view(*id, now)).collect()
    }
}

impl Record {
    /// Changes the phase, and the counts with it.
    fn enter(&mut self, id: ConnectionId, phase: Phase, roll: &mut Roll) {
        roll.remove(id, self.phase);
        roll.add(id, phase);
        self.phase = phase;
    }

    /// Returns the idle list for this connection as long as it is not doubted.
    fn list(&self) -> List {
        if self.private { List::Private } else { List::Shared(self.thread) }
    }

    fn history(&self) -> UseHistory {
        UseHistory { uses: self.uses, owner: self.owner, private: self.private }
    }

    /// Computes the time at which the connection is too old. A limit of zero is none. The jitter shortens the limit by
    /// up to a tenth.
    fn limit_age(&mut self, max_age: Duration) {
        let age = max_age.saturating_sub(max_age.mul_f64(self.jitter / 10.0));
        let limited = !age.is_zero() && self.peer.is_some();
        self.retires = if limited { self.opened.checked_add(age) } else { None };
    }

    /// Returns a description for people; `None` if the connection is lost.
    fn view(&self, id: ConnectionId, now: Instant) -> Option<ConnectionView> {
        let phase = match self.phase {
            Phase::Connecting(_) | Phase::Spare => ConnectionPhase::Connecting,
            Phase::Active => ConnectionPhase::Active,
            Phase::Idle(_) => ConnectionPhase::Idle,
            Phase::Closing(_) => ConnectionPhase::Closing,
            Phase::Lost(..) => return None,
        };
        Some(ConnectionView {
            id,
            phase,
            age: now.saturating_duration_since(self.opened),
            uses: self.uses,
            peer: self.peer,
            generation: self.generation,
            thread: self.thread,
            last_reuse: self.last_reuse,
        })
    }
}
