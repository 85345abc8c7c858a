//! The records of a pool's connections: each in one phase, counted, those with room in order. Decides nothing.
//!
//! `Connecting` → `Open` → `Closing` → gone. An open connection that is to end but has open streams becomes `Retiring`
//! until those have ended. If the socket ends under its leases, the connection is `Lost` until they have ended, too.
//! Connections in the first four phases take a place under the cap; a lost connection has already given its place back.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    ConnectionPhase, ConnectionView, End, EndReason, Reuse,
    ids::{ClientId, ConnectionId, IdMap, WaiterId},
    room::{ListName, RoomList, RoomPosition},
    sharing::UseHistory,
    streams::Streams,
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
    /// The streams that are open on the connection, and how many may be.
    pub streams: Streams,
    /// True if no request may take the connection until it is proven alive.
    pub doubted: bool,
    /// The generation that the connection was made under.
    pub generation: u64,
    /// The connection's uses and owner, which the reuse mode judges by.
    pub history: UseHistory,
    /// The time at which the connection is too old (`maxAge`, less jitter); `None`: no limit.
    pub retires: Option<Instant>,
    /// The number of uses after which the upstream takes no more requests, as it announced; `None`: no announcement.
    pub last_use: Option<u64>,
}

/// The facts that limit how long an idle connection may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct IdleLimits {
    /// The time at which the connection became idle.
    pub since: Instant,
    /// The longest idle time by the upstream's own announcement on this connection, less the margin.
    pub announced: Option<Duration>,
    /// True if the connection has carried a request.
    pub used: bool,
    /// The time until which the connection has to be proven alive; `None` if it is not doubted.
    pub doubted: Option<Instant>,
}

/// The facts that limit how long a connection may stay.
#[derive(Debug, Clone, Copy)]
pub(super) struct StayLimits {
    /// The limits of an idle connection; `None` if streams are open.
    pub idle: Option<IdleLimits>,
    /// The time at which the connection is too old; `None`: no limit.
    pub retires: Option<Instant>,
}

/// The facts about a dial that succeeded.
#[derive(Debug, Clone, Copy)]
pub struct Dialled {
    /// The generation that the connection was made under.
    pub generation: u64,
    /// The address at the other end.
    pub peer: SocketAddr,
    /// The number of streams that the connection allows at a time.
    pub streams: u32,
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
    /// The connections with open streams: the leased ones.
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
            Phase::Open(streams) if streams.is_idle() => Some(&mut self.idle),
            Phase::Open(_) | Phase::Retiring(..) => Some(&mut self.active),
            Phase::Closing(_) => Some(&mut self.closing),
            Phase::Lost(..) => None,
        }
    }
}

/// The phase of a connection's life.
#[derive(Debug, Clone, Copy)]
pub(super) enum Phase {
    /// A dial that is reserved or under way, with the streams that are promised to the waiters which count on it. A dial
    /// without a promise is an orphan.
    Connecting(Streams),
    /// A further socket of a dial that tries several addresses at once; no waiter counts on it.
    Spare,
    /// A connection that takes streams while it has room.
    Open(Streams),
    /// A connection that takes no more streams, for this reason, and closes once the open ones have ended.
    Retiring(Streams, EndReason),
    /// A connection whose handle is given up, for this reason, and whose socket is not closed yet.
    Closing(EndReason),
    /// A connection whose socket ended like this, at this time, while leases last: the last one will say why.
    Lost(Streams, End, Instant),
}

impl Phase {
    /// Returns the streams that take a place under the cap; `None` in a phase that has none of those.
    fn streams(self) -> Option<Streams> {
        match self {
            Self::Open(streams) | Self::Retiring(streams, _) => Some(streams),
            Self::Connecting(_) | Self::Spare | Self::Closing(_) | Self::Lost(..) => None,
        }
    }
}

/// The record of one connection.
struct Record<C> {
    phase: Phase,
    /// The waiters that count on the dial, in the order in which they came to it; empty once the dial is over.
    waiters: Vec<WaiterId>,
    /// The connection's handle, of which each lease has a clone; `None` before the connection is established, and once
    /// it is closing.
    handle: Option<C>,
    /// The connection's position among those with room; `None` if it has none, unless it is idle.
    position: Option<RoomPosition>,
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
}

/// The counts by phase and the set of dials with room. Each change of a record's phase updates both: [`Record::enter`],
/// and the addition and removal of records.
#[derive(Default)]
struct PhaseIndex {
    /// The number of records in each phase.
    census: Census,
    /// The number of streams that are open on connections in `Phase::Open` and `Phase::Retiring`.
    streams: usize,
    /// The number of records in `Phase::Retiring`.
    retiring: usize,
    /// The dials that one more waiter may count on. Ids ascend, so the first is the oldest.
    dials_with_room: BTreeSet<ConnectionId>,
    /// The number of dials that no waiter counts on.
    orphans: usize,
}

impl PhaseIndex {
    /// Counts a record in this phase.
    fn add(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(count) = self.census.of(phase) {
            *count += 1;
        }
        self.streams += phase.streams().map_or(0, |streams| streams.open() as usize);
        match phase {
            Phase::Connecting(promised) => {
                self.orphans += usize::from(promised.is_idle());
                if promised.has_room() {
                    self.dials_with_room.insert(id);
                }
            }
            Phase::Retiring(..) => self.retiring += 1,
            _ => {}
        }
    }

    /// Takes a record in this phase out of the counts.
    fn remove(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(count) = self.census.of(phase) {
            *count -= 1;
        }
        self.streams -= phase.streams().map_or(0, |streams| streams.open() as usize);
        match phase {
            Phase::Connecting(promised) => {
                self.orphans -= usize::from(promised.is_idle());
                if promised.has_room() {
                    self.dials_with_room.remove(&id);
                }
            }
            Phase::Retiring(..) => self.retiring -= 1,
            _ => {}
        }
    }
}

/// The records of a pool's connections, by id. `C` is a connection's handle.
pub(super) struct Connections<C> {
    records: IdMap<Record<C>>,
    phase_index: PhaseIndex,
    /// The connections in [`Phase::Open`] that have room or are idle.
    room: RoomList,
    /// The connections that each client has claimed; rarely more than one.
    claimed: IdMap<Vec<ConnectionId>>,
    /// The number of streams that a new connection is expected to allow: so many waiters may count on a dial.
    expected: u32,
    next_id: ConnectionId,
}

impl<C> Connections<C> {
    /// Creates an empty set of records. A dial is expected to bring a connection that allows `expected` streams at a
    /// time; `threads` is the number of worker threads.
    pub(super) fn new(expected: u32, threads: usize) -> Self {
        Self {
            records: IdMap::default(),
            phase_index: PhaseIndex::default(),
            room: RoomList::new(threads),
            claimed: IdMap::default(),
            expected,
            next_id: 1,
        }
    }

    pub(super) fn census(&self) -> Census {
        self.phase_index.census
    }

    /// Returns the number of streams that are open.
    pub(super) fn streams(&self) -> usize {
        self.phase_index.streams
    }

    /// Returns the number of connections that take no more streams and still have open ones.
    pub(super) fn retiring(&self) -> usize {
        self.phase_index.retiring
    }

    pub(super) fn phase(&self, id: ConnectionId) -> Option<Phase> {
        self.records.get(&id).map(|record| record.phase)
    }

    pub(super) fn uses(&self, id: ConnectionId) -> u64 {
        self.records.get(&id).map_or(0, |record| record.uses)
    }

    /// Returns the limits of an idle connection's stay; `None` if the connection is not idle.
    pub(super) fn idle_limits(&self, id: ConnectionId) -> Option<IdleLimits> {
        self.records.get(&id)?.idle_limits()
    }

    /// Returns the limits of a connection's stay; `None` if the connection is neither idle nor has room.
    pub(super) fn limits(&self, id: ConnectionId) -> Option<StayLimits> {
        let record = self.records.get(&id).filter(|record| record.position.is_some())?;
        Some(StayLimits { idle: record.idle_limits(), retires: record.retires })
    }

    /// True if a connection is idle or has room.
    pub(super) fn is_listed(&self, id: ConnectionId) -> bool {
        self.records.get(&id).is_some_and(|record| record.position.is_some())
    }

    /// True if a connection is there that is idle or has room.
    pub(super) fn any_listed(&self) -> bool {
        self.listed().next().is_some()
    }

    /// True if a connection is open and idle.
    pub(super) fn is_idle(&self, id: ConnectionId) -> bool {
        self.records.get(&id).is_some_and(Record::is_idle)
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

    /// Returns the facts that decide whether an open connection may be leased again; `None` if it is not open. A single
    /// look-up, because each check-in needs it.
    pub(super) fn lease_facts(&self, id: ConnectionId) -> Option<LeaseFacts> {
        let record = self.records.get(&id)?;
        let Phase::Open(streams) = record.phase else { return None };
        let history = record.history();
        let Record { generation, retires, last_use, .. } = *record;
        let doubted = record.doubted.is_some();
        Some(LeaseFacts { streams, doubted, generation, history, retires, last_use })
    }

    /// Returns the address at the other end; `None` before the connection is established.
    pub(super) fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.records.get(&id)?.peer
    }

    /// Returns the number of leased connections that are of older generations than this.
    pub(super) fn active_before(&self, generation: u64) -> usize {
        let in_use = |r: &Record<C>| r.phase.streams().is_some_and(|streams| !streams.is_idle());
        let older = |r: &&Record<C>| in_use(r) && r.generation < generation;
        self.records.values().filter(older).count()
    }

    /// Returns the oldest dial that one more waiter may count on; `None` if there is none.
    pub(super) fn oldest_dial_with_room(&self) -> Option<ConnectionId> {
        self.phase_index.dials_with_room.first().copied()
    }

    /// True if one more waiter may count on this dial.
    pub(super) fn has_dial_room(&self, dial: ConnectionId) -> bool {
        self.phase_index.dials_with_room.contains(&dial)
    }

    /// Returns the waiters that count on a dial, in the order in which they came to it.
    pub(super) fn waiters_of(&self, dial: ConnectionId) -> &[WaiterId] {
        self.records.get(&dial).map_or(&[], |record| &record.waiters)
    }

    /// Returns the dials that one more waiter may count on twice: as the set remembers them, and as a look at every
    /// record finds them.
    #[cfg(test)]
    pub(super) fn dials_with_room(&self) -> [Vec<ConnectionId>; 2] {
        let room = |(_, record): &(_, &Record<C>)| {
            let dials = matches!(record.phase, Phase::Connecting(_));
            dials && record.waiters.len() < self.expected as usize
        };
        let mut found: Vec<_> = self.records.iter().filter(room).map(|(id, _)| *id).collect();
        found.sort_unstable();
        [self.phase_index.dials_with_room.iter().copied().collect(), found]
    }

    /// Returns the newest shared connection with room that `allowed` accepts: of this thread, else of any other; `None`
    /// if there is none.
    pub(super) fn newest_with_room(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        self.room.newest(thread, allowed)
    }

    /// Returns the connection's uses and owner; those of an unused connection if there is no such connection.
    pub(super) fn history(&self, id: ConnectionId) -> UseHistory {
        let unused = UseHistory { uses: 0, owner: None, private: false };
        self.records.get(&id).map_or(unused, Record::history)
    }

    /// True if a connection has room that requests without a claim may take, as far as the reuse mode allows.
    pub(super) fn has_shared_room(&self) -> bool {
        self.room.has_shared()
    }

    /// True if a private connection has room: one that a client has claimed, and that is not doubted.
    pub(super) fn has_private_room(&self) -> bool {
        self.room.has_private()
    }

    /// Returns the number of idle connections that are doubted.
    pub(super) fn doubted_idle(&self) -> usize {
        self.room.doubted()
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
            if record.is_idle()
                && let Some(position) = record.position
                && record.peer == Some(peer)
                && position.since < since
                && record.doubted.is_none()
            {
                record.doubted = Some(until);
                record.shift(*id, &mut self.room);
                doubted.push(*id);
            }
        }
        doubted.sort_unstable();
        doubted
    }

    /// Ends the doubt about an idle connection; false if there was none.
    pub(super) fn trust(&mut self, id: ConnectionId) -> bool {
        let Some(record) = self.records.get_mut(&id) else { return false };
        let was_doubted = record.doubted.take().is_some();
        record.shift(id, &mut self.room);
        was_doubted
    }

    /// Makes a leased connection private to this client, which has authenticated itself on it.
    pub(super) fn claim(&mut self, id: ConnectionId, client: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            (record.owner, record.private) = (Some(client), true);
            record.shift(id, &mut self.room);
            let its = self.claimed.entry(client).or_default();
            if !its.contains(&id) {
                its.push(id);
            }
        }
    }

    /// Returns the newest connection with room among those that this client has claimed, doubted ones excepted; `None`
    /// if there is none.
    pub(super) fn claimed_with_room(&self, client: ClientId) -> Option<ConnectionId> {
        let position = |id: &ConnectionId| self.records.get(id)?.position;
        let room = self.claimed.get(&client)?.iter().filter_map(|id| match position(id)? {
            RoomPosition { turn, list: ListName::Private, .. } => Some((turn, *id)),
            _ => None,
        });
        room.max().map(|(_, id)| id)
    }

    /// Makes this client the connection's owner, without a claim: for [`Sharing::Never`](super::Sharing::Never).
    pub(super) fn belongs_to(&mut self, id: ConnectionId, owner: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.owner = Some(owner);
        }
    }

    /// Removes this client as the owner of all its connections, and forgets its claims; returns those of them that are
    /// idle or have room.
    pub(super) fn remove_owner(&mut self, owner: ClientId) -> Vec<ConnectionId> {
        self.claimed.remove(&owner);
        let its = self.records.iter_mut().filter(|(_, record)| record.owner == Some(owner));
        let ownerless = its.filter_map(|(id, record)| {
            record.owner = None;
            record.position.map(|_| *id)
        });
        ownerless.collect()
    }

    /// Removes the owners of all connections that are not private.
    pub(super) fn remove_owners(&mut self) {
        let shared = self.records.values_mut().filter(|record| !record.private);
        shared.for_each(|record| record.owner = None);
    }

    /// Returns the connection that has been idle for the longest time, private and doubted ones included; `None` if
    /// none is idle.
    pub(super) fn oldest_idle(&self) -> Option<ConnectionId> {
        self.room.oldest(|id| self.is_idle(id))
    }

    /// Returns the connection with the fewest open streams of those that have room and are not idle; `None` if there is
    /// none.
    pub(super) fn least_busy(&self) -> Option<ConnectionId> {
        let open = |id: ConnectionId| self.records.get(&id)?.phase.streams().map(Streams::open);
        let busy =
            self.room.iter().filter_map(|id| open(id).filter(|open| *open > 0).zip(Some(id)));
        busy.min().map(|(_, id)| id)
    }

    /// Returns all idle connections, in no order.
    pub(super) fn idle(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.listed().filter(|id| self.is_idle(*id))
    }

    /// Returns all connections that have room or are idle, in no order.
    pub(super) fn listed(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.room.iter()
    }

    /// Returns all connections that have room or are idle, in the order in which they were listed.
    pub(super) fn listed_oldest_first(&self) -> Vec<ConnectionId> {
        self.room.oldest_first().collect()
    }

    /// Returns at most so many idle connections, oldest first, private and doubted ones included.
    pub(super) fn idle_oldest_first(&self, most: usize) -> Vec<ConnectionId> {
        self.room.oldest_first().filter(|id| self.is_idle(*id)).take(most).collect()
    }

    /// Returns the number of dials that no waiter counts on.
    pub(super) fn orphan_count(&self) -> usize {
        self.phase_index.orphans
    }

    /// Returns the time since the connection was established; before that, since its dial was reserved.
    pub(super) fn age(&self, id: ConnectionId, now: Instant) -> Duration {
        let opened = self.records.get(&id).map_or(now, |record| record.opened);
        now.saturating_duration_since(opened)
    }

    /// Takes a place under the cap for a dial, which no waiter counts on yet.
    pub(super) fn reserve(&mut self, now: Instant) -> ConnectionId {
        self.add(now, Phase::Connecting(Streams::new(self.expected)))
    }

    /// Takes a place under the cap for one more socket of a dial.
    pub(super) fn reserve_spare(&mut self, now: Instant) -> ConnectionId {
        self.add(now, Phase::Spare)
    }

    /// Adds a record in this phase, unlisted and without a handle, and returns its new id.
    fn add(&mut self, now: Instant, phase: Phase) -> ConnectionId {
        let id = self.next_id;
        self.next_id += 1;
        self.phase_index.add(id, phase);
        let record = Record {
            phase,
            waiters: Vec::new(),
            handle: None,
            position: None,
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

    /// Promises a stream of a dial that has room to a waiter, which counts on the dial from now on.
    pub(super) fn promise(&mut self, dial: ConnectionId, waiter: WaiterId) {
        if let Some(record) = self.records.get_mut(&dial)
            && let Phase::Connecting(promised) = record.phase
            && let Some(promised) = promised.begin()
        {
            record.waiters.push(waiter);
            record.enter(dial, Phase::Connecting(promised), &mut self.phase_index, &mut self.room);
        }
    }

    /// Takes back the promise to a waiter that counts on a dial no more.
    pub(super) fn take_promise(&mut self, dial: ConnectionId, waiter: WaiterId) {
        if let Some(record) = self.records.get_mut(&dial)
            && let Phase::Connecting(promised) = record.phase
        {
            record.waiters.retain(|other| *other != waiter);
            record.enter(
                dial,
                Phase::Connecting(promised.end()),
                &mut self.phase_index,
                &mut self.room,
            );
        }
    }

    /// Returns the waiters that count on a dial that is over; the record forgets them.
    pub(super) fn take_waiters(&mut self, dial: ConnectionId) -> Vec<WaiterId> {
        self.records
            .get_mut(&dial)
            .map(|record| std::mem::take(&mut record.waiters))
            .unwrap_or_default()
    }

    /// Makes an open connection of a dial that succeeded; its age counts from now.
    pub(super) fn established(
        &mut self,
        id: ConnectionId,
        handle: C,
        dialled: Dialled,
        max_age: Duration,
        now: Instant,
    ) {
        let Dialled { generation, peer, streams, jitter } = dialled;
        if let Some(record) = self.records.get_mut(&id) {
            record.enter(
                id,
                Phase::Open(Streams::new(streams)),
                &mut self.phase_index,
                &mut self.room,
            );
            (record.opened, record.peer, record.generation) = (now, Some(peer), generation);
            record.handle = Some(handle);
            record.jitter = jitter.clamp(0.0, 1.0);
            record.limit_age(max_age);
        }
    }

    /// Puts another age limit in force for all connections.
    pub(super) fn limit_age(&mut self, max_age: Duration) {
        self.records.values_mut().for_each(|record| record.limit_age(max_age));
    }

    /// Begins a stream on a connection with room, which was idle for `idle` before; counts one more use, and notes
    /// `reuse` for people. Returns the lease, and true if there is still room; `None`, without a change, if there is no
    /// room.
    pub(super) fn lease(
        &mut self,
        id: ConnectionId,
        reuse: Reuse,
        idle: Option<Duration>,
        now: Instant,
    ) -> Option<(Leased<C>, bool)>
    where
        C: Clone,
    {
        let record = self.records.get_mut(&id)?;
        let Phase::Open(streams) = record.phase else { return None };
        let (streams, handle) = (streams.begin()?, record.handle.clone()?);
        record.idle_before = idle.or(record.idle_before);
        record.enter(id, Phase::Open(streams), &mut self.phase_index, &mut self.room);
        record.uses += 1;
        record.last_reuse = Some(reuse);
        let age = now.saturating_duration_since(record.opened);
        Some((Leased { id, handle, uses: record.uses, age, reuse }, streams.has_room()))
    }

    /// Ends a stream of a connection, and returns the phase that the connection is in then; `None` if there is no such
    /// connection. An idle one is not listed until it is kept.
    pub(super) fn end_stream(&mut self, id: ConnectionId) -> Option<Phase> {
        let record = self.records.get_mut(&id)?;
        let phase = match record.phase {
            Phase::Open(streams) => Phase::Open(streams.end()),
            Phase::Retiring(streams, reason) => Phase::Retiring(streams.end(), reason),
            Phase::Lost(streams, end, at) => Phase::Lost(streams.end(), end, at),
            other => other,
        };
        record.enter(id, phase, &mut self.phase_index, &mut self.room);
        if record.is_idle() {
            record.unlist(&mut self.room);
        }
        Some(phase)
    }

    /// Puts another limit of streams in force on a connection.
    #[cfg(test)]
    pub(super) fn allow(&mut self, id: ConnectionId, limit: u32, now: Instant) {
        let Some(record) = self.records.get_mut(&id) else { return };
        let phase = match record.phase {
            Phase::Open(streams) => Phase::Open(streams.allow(limit)),
            Phase::Retiring(streams, reason) => Phase::Retiring(streams.allow(limit), reason),
            other => other,
        };
        record.enter(id, phase, &mut self.phase_index, &mut self.room);
        if record.position.is_none() {
            record.list(id, now, &mut self.room);
        }
    }

    /// Counts one more use of a leased connection, for another request of its client. Returns its uses and age; `None`,
    /// without a change, if its socket has ended, or HTTP on it is over.
    pub(super) fn lease_again(
        &mut self,
        id: ConnectionId,
        now: Instant,
    ) -> Option<(u64, Duration)> {
        let record = self.records.get_mut(&id)?;
        if !matches!(record.phase, Phase::Open(streams) if !streams.is_idle()) {
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

    /// Lists a connection that is idle or has room, as the newest; ends a doubt about it.
    pub(super) fn keep(&mut self, id: ConnectionId, now: Instant) {
        if let Some(record) = self.records.get_mut(&id) {
            record.doubted = None;
            record.unlist(&mut self.room);
            record.list(id, now, &mut self.room);
        }
    }

    /// Gives up a connection for this reason: it is unlisted, and takes its place until its socket is closed. Returns
    /// the handle to drop; `None` if the connection has none.
    pub(super) fn close(&mut self, id: ConnectionId, reason: EndReason) -> Option<C> {
        let record = self.records.get_mut(&id)?;
        record.enter(id, Phase::Closing(reason), &mut self.phase_index, &mut self.room);
        record.handle.take()
    }

    /// Takes the handle of a lost connection whose leases have ended, to drop it; `None` if it was taken before.
    pub(super) fn take_handle(&mut self, id: ConnectionId) -> Option<C> {
        self.records.get_mut(&id)?.handle.take()
    }

    /// Changes a connection's phase, and the counts with it.
    pub(super) fn enter(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(record) = self.records.get_mut(&id) {
            record.enter(id, phase, &mut self.phase_index, &mut self.room);
        }
    }

    /// Removes the record of a dial, or of a connection whose handle was taken; with it a client's claim on the
    /// connection.
    pub(super) fn forget(&mut self, id: ConnectionId) {
        if let Some(record) = self.records.remove(&id) {
            self.phase_index.remove(id, record.phase);
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

impl<C> Record<C> {
    /// Changes the phase, and with it the counts and the list that the connection is in.
    fn enter(
        &mut self,
        id: ConnectionId,
        phase: Phase,
        phase_index: &mut PhaseIndex,
        room: &mut RoomList,
    ) {
        phase_index.remove(id, self.phase);
        phase_index.add(id, phase);
        self.phase = phase;
        self.shift(id, room);
    }

    /// Moves a listed connection to the list that it belongs to now, or removes it from its list if it has no room.
    fn shift(&mut self, id: ConnectionId, room: &mut RoomList) {
        let Some(position) = self.position else { return };
        match self.list_now() {
            None => self.unlist(room),
            Some(list) if list == position.list => {}
            Some(list) => self.position = Some(room.shift(id, position, list)),
        }
    }

    fn unlist(&mut self, room: &mut RoomList) {
        if let Some(position) = self.position.take() {
            room.remove(position);
        }
    }

    /// Lists a connection that is idle or has room, as the newest.
    fn list(&mut self, id: ConnectionId, now: Instant, room: &mut RoomList) {
        self.position = self.list_now().map(|list| room.push(list, id, now));
    }

    /// Returns the list for this connection; `None` if it is neither idle nor has room.
    fn list_now(&self) -> Option<ListName> {
        let Phase::Open(streams) = self.phase else { return None };
        match (streams.has_room(), streams.is_idle()) {
            (false, false) => None,
            _ if self.doubted.is_some() => Some(ListName::Doubted),
            (false, true) => Some(ListName::Full),
            (true, _) if self.private => Some(ListName::Private),
            (true, _) => Some(ListName::Shared(self.thread)),
        }
    }

    fn is_idle(&self) -> bool {
        matches!(self.phase, Phase::Open(streams) if streams.is_idle())
    }

    fn idle_limits(&self) -> Option<IdleLimits> {
        let RoomPosition { since, .. } = self.position.filter(|_| self.is_idle())?;
        let (announced, doubted) = (self.announced, self.doubted);
        Some(IdleLimits { since, announced, used: self.uses > 0, doubted })
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
            Phase::Open(streams) if streams.is_idle() => ConnectionPhase::Idle,
            Phase::Open(_) | Phase::Retiring(..) => ConnectionPhase::Active,
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
