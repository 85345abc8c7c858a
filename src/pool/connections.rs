//! A pool's connections: each in one phase, counted, the idle ones in order. It keeps the book and decides nothing.
//!
//! `Connecting` → `Active` ⇄ `Idle` → `Closing` → gone, or `Active` → `Lost` (its socket ended under the lease) → gone.
//! The first four take a place under the cap; a lost one took its place back already.

use std::{
    collections::BTreeSet,
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    ConnectionPhase, ConnectionView, End, EndReason, Reuse,
    idle::{IdleList, List, Position},
    ids::{ClientId, ConnectionId, IdMap, WaiterId},
    sharing::Past,
};

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

/// What decides whether a connection may be leased again.
#[derive(Debug, Clone, Copy)]
pub struct Standing {
    /// HTTP on it is over, for this reason.
    pub over: Option<EndReason>,
    /// Under which it shook hands.
    pub generation: u64,
    /// Who used it, and how often.
    pub past: Past,
    /// When it is too old.
    pub retires: Option<Instant>,
    /// After so many uses the upstream takes no more.
    pub last_use: Option<u64>,
}

/// What limits an idle connection's stay.
#[derive(Debug, Clone, Copy)]
pub struct Stay {
    /// When it became idle.
    pub since: Instant,
    /// How long it may be idle by the upstream's own word, with the margin.
    pub announced: Option<Duration>,
    /// When it is too old.
    pub retires: Option<Instant>,
    /// The end of the time in which it has to be proven alive, if it is doubted.
    pub doubted: Option<Instant>,
}

/// What is known of a finished dial.
#[derive(Debug, Clone, Copy)]
pub struct Dialled {
    /// Under which generation it shook hands.
    pub generation: u64,
    /// The address behind it.
    pub peer: SocketAddr,
    /// When it was done.
    pub now: Instant,
    /// 0.0..1.0; shortens the age limit by up to a tenth.
    pub jitter: f64,
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
        self.staying() + self.closing
    }

    /// All that take a place and are not about to give it back.
    pub(super) fn staying(&self) -> usize {
        self.connecting + self.active + self.idle
    }

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

/// Where a connection is in its life.
#[derive(Debug, Clone, Copy)]
pub enum Phase {
    /// Being dialled, for this waiter; an orphan dial if for none.
    Connecting(Option<WaiterId>),
    /// A further socket of a dial that tries several addresses at once: no waiter counts on it.
    Spare,
    /// Leased, or on its way from one lease to the next.
    Active,
    /// Its handle is in the idle list.
    Idle(Position),
    /// Its handle is dropped, its socket is not closed yet.
    Closing(EndReason),
    /// Its socket ended so, and then; its lease still has to say why.
    Lost(End, Instant),
}

/// One connection.
struct Record {
    phase: Phase,
    /// The thread that dialled it and drives it.
    thread: usize,
    /// When it was established; when the dial began, before.
    opened: Instant,
    /// When it is too old; set once established.
    retires: Option<Instant>,
    /// Its own part of the age limit's jitter, 0.0..=1.0.
    jitter: f64,
    /// Under which it shook hands; 0 before.
    generation: u64,
    uses: u64,
    /// Whose it is, where connections belong to somebody.
    owner: Option<ClientId>,
    /// True if its owner authenticated itself on it.
    private: bool,
    /// The end of the time in which an idle connection has to be proven alive, if it is doubted.
    doubted: Option<Instant>,
    peer: Option<SocketAddr>,
    /// How long it was idle before the exchange that it is leased for, if it was.
    idle_before: Option<Duration>,
    /// How long it may be idle by the upstream's own word, with the margin.
    announced: Option<Duration>,
    /// After so many uses the upstream takes no more, by its own word.
    last_use: Option<u64>,
    /// Why the last checkout did, or did not, reuse.
    last_reuse: Option<Reuse>,
    /// HTTP on it is over, for this reason, and its socket is being closed: it must not be leased again.
    over: Option<EndReason>,
}

/// The records by phase, kept in step by whatever changes one: [`Record::enter`], and what adds or removes records.
#[derive(Default)]
struct Roll {
    /// How many are in each phase.
    census: Census,
    /// Exactly those in `Phase::Connecting(None)`. Ids ascend, so the first is the oldest.
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

/// See the module.
pub struct Connections<C> {
    records: IdMap<Record>,
    roll: Roll,
    /// Those in [`Phase::Idle`], with their handles.
    idle: IdleList<C>,
    /// The private connections of each client that has any; one, as a rule.
    claimed: IdMap<Vec<ConnectionId>>,
    next_id: ConnectionId,
}

impl<C> Connections<C> {
    pub fn new(threads: usize) -> Self {
        Self {
            records: IdMap::default(),
            roll: Roll::default(),
            idle: IdleList::new(threads),
            claimed: IdMap::default(),
            next_id: 1,
        }
    }

    pub fn census(&self) -> Census {
        self.roll.census
    }

    pub fn phase(&self, id: ConnectionId) -> Option<Phase> {
        self.records.get(&id).map(|record| record.phase)
    }

    pub fn uses(&self, id: ConnectionId) -> u64 {
        self.records.get(&id).map_or(0, |record| record.uses)
    }

    /// What limits an idle connection's stay; `None` if it is not idle.
    pub fn stay(&self, id: ConnectionId) -> Option<Stay> {
        let record = self.records.get(&id)?;
        let Phase::Idle(Position { since, .. }) = record.phase else { return None };
        let Record { announced, retires, doubted, .. } = *record;
        Some(Stay { since, announced, retires, doubted })
    }

    /// How long a leased connection was idle before, if it was; told once.
    pub fn take_idle_before(&mut self, id: ConnectionId) -> Option<Duration> {
        self.records.get_mut(&id)?.idle_before.take()
    }

    /// The upstream lets a connection be idle for so long, and takes so many more requests on it.
    pub fn announce(&mut self, id: ConnectionId, idle: Option<Duration>, more: Option<u64>) {
        if let Some(record) = self.records.get_mut(&id) {
            record.announced = idle.or(record.announced);
            let last_use = more.map(|more| record.uses.saturating_add(more));
            record.last_use = last_use.or(record.last_use);
        }
    }

    /// What decides whether it may be leased again: one look on the warm path.
    pub fn standing(&self, id: ConnectionId) -> Option<Standing> {
        let record = self.records.get(&id)?;
        let past = record.past();
        let Record { over, generation, retires, last_use, .. } = *record;
        Some(Standing { over, generation, past, retires, last_use })
    }

    /// The address behind it, once established.
    pub fn peer(&self, id: ConnectionId) -> Option<SocketAddr> {
        self.records.get(&id)?.peer
    }

    /// How many are leased that shook hands before this generation.
    pub fn active_before(&self, generation: u64) -> usize {
        let older = |r: &&Record| matches!(r.phase, Phase::Active) && r.generation < generation;
        self.records.values().filter(older).count()
    }

    /// The oldest dial that no waiter counts on.
    pub fn oldest_orphan(&self) -> Option<ConnectionId> {
        self.roll.orphans.first().copied()
    }

    /// The orphan dials as they are remembered, and as a look at every record finds them.
    #[cfg(test)]
    pub fn orphans(&self) -> [Vec<ConnectionId>; 2] {
        let orphan = |(_, record): &(_, &Record)| matches!(record.phase, Phase::Connecting(None));
        let mut found: Vec<_> = self.records.iter().filter(orphan).map(|(id, _)| *id).collect();
        found.sort_unstable();
        [self.roll.orphans.iter().copied().collect(), found]
    }

    /// The newest idle one that is allowed, of this thread if it has one.
    pub fn newest_idle(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        self.idle.newest(thread, allowed)
    }

    pub fn past(&self, id: ConnectionId) -> Past {
        let unused = Past { uses: 0, owner: None, private: false };
        self.records.get(&id).map_or(unused, Record::past)
    }

    /// Counts the idle ones that are private.
    pub fn private_idle(&self) -> usize {
        self.idle.private()
    }

    /// Counts the idle ones that are doubted.
    pub fn doubted_idle(&self) -> usize {
        self.idle.doubted()
    }

    /// Doubts each idle connection to this address that has carried nothing since that time, and names them.
    pub fn doubt(&mut self, peer: SocketAddr, since: Instant, until: Instant) -> Vec<ConnectionId> {
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
    pub fn trust(&mut self, id: ConnectionId) -> bool {
        let Some(record) = self.records.get_mut(&id) else { return false };
        let Phase::Idle(position) = record.phase else { return false };
        if record.doubted.take().is_some() {
            record.phase = Phase::Idle(self.idle.shift(id, position, record.list()));
            return true;
        }
        false
    }

    /// Makes a leased connection the property of this client, which authenticated itself on it.
    pub fn claim(&mut self, id: ConnectionId, client: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            (record.owner, record.private) = (Some(client), true);
            let its = self.claimed.entry(client).or_default();
            if !its.contains(&id) {
                its.push(id);
            }
        }
    }

    /// Finds the newest idle one of this client's private connections.
    pub fn claimed_idle(&self, client: ClientId) -> Option<ConnectionId> {
        let idle = self.claimed.get(&client)?.iter().filter_map(|id| match self.phase(*id)? {
            Phase::Idle(Position { turn, list: List::Private, .. }) => Some((turn, *id)),
            _ => None,
        });
        idle.max().map(|(_, id)| id)
    }

    /// The connection belongs to this client from now on.
    pub fn belongs_to(&mut self, id: ConnectionId, owner: ClientId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.owner = Some(owner);
        }
    }

    /// Nothing belongs to this client any more; returns what did and is idle.
    pub fn disown(&mut self, owner: ClientId) -> Vec<ConnectionId> {
        self.claimed.remove(&owner);
        let its = self.records.iter_mut().filter(|(_, record)| record.owner == Some(owner));
        let disowned = its.filter_map(|(id, record)| {
            record.owner = None;
            matches!(record.phase, Phase::Idle(_)).then_some(*id)
        });
        disowned.collect()
    }

    /// Nothing belongs to anybody any more, but for what is private.
    pub fn disown_all(&mut self) {
        let shared = self.records.values_mut().filter(|record| !record.private);
        shared.for_each(|record| record.owner = None);
    }

    pub fn oldest_idle(&self) -> Option<ConnectionId> {
        self.idle.oldest()
    }

    pub fn idle(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.idle.iter()
    }

    pub fn idle_oldest_first(&self) -> Vec<ConnectionId> {
        self.idle.oldest_first()
    }

    pub fn orphan_count(&self) -> usize {
        self.roll.orphans.len()
    }

    /// Since it was established; since its dial began, before.
    pub fn age(&self, id: ConnectionId, now: Instant) -> Duration {
        let opened = self.records.get(&id).map_or(now, |record| record.opened);
        now.saturating_duration_since(opened)
    }

    /// Takes a place for a dial, a waiter's or nobody's.
    pub fn reserve(&mut self, now: Instant, owner: Option<WaiterId>) -> ConnectionId {
        self.add(now, Phase::Connecting(owner))
    }

    /// Takes a place for one more socket of a dial.
    pub fn reserve_spare(&mut self, now: Instant) -> ConnectionId {
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

    /// The dial begins, on this thread.
    pub fn dial_begins(&mut self, id: ConnectionId, thread: usize) {
        if let Some(record) = self.records.get_mut(&id) {
            record.thread = thread;
        }
    }

    /// From now on another waiter, or none, counts on this dial.
    pub fn bequeath(&mut self, dial: ConnectionId, heir: Option<WaiterId>) {
        if matches!(self.phase(dial), Some(Phase::Connecting(_))) {
            self.enter(dial, Phase::Connecting(heir));
        }
    }

    /// A dial is done; its age counts from now.
    pub fn established(&mut self, id: ConnectionId, dialled: Dialled, max_age: Duration) {
        let Dialled { generation, peer, now, jitter } = dialled;
        self.enter(id, Phase::Active);
        if let Some(record) = self.records.get_mut(&id) {
            (record.opened, record.peer, record.generation) = (now, Some(peer), generation);
            record.jitter = jitter.clamp(0.0, 1.0);
            record.limit_age(max_age);
        }
    }

    /// The age limit is another from now on.
    pub fn limit_age(&mut self, max_age: Duration) {
        self.records.values_mut().for_each(|record| record.limit_age(max_age));
    }

    /// Leases an active connection.
    pub fn lease(&mut self, id: ConnectionId, handle: C, reuse: Reuse, now: Instant) -> Leased<C> {
        let record = self.records.get_mut(&id).expect("a leased connection has a record");
        record.uses += 1;
        record.last_reuse = Some(reuse);
        let age = now.saturating_duration_since(record.opened);
        Leased { id, handle, uses: record.uses, age, reuse }
    }

    /// The lease goes on with another request of its client: one use more, if the socket is still open.
    pub fn lease_again(&mut self, id: ConnectionId, now: Instant) -> Option<(u64, Duration)> {
        let record = self.records.get_mut(&id)?;
        if !matches!(record.phase, Phase::Active) || record.over.is_some() {
            return None;
        }
        record.uses += 1;
        record.last_reuse = Some(Reuse::Reused);
        Some((record.uses, now.saturating_duration_since(record.opened)))
    }

    /// A lease was never taken up: it does not count as a use.
    pub fn unlease(&mut self, id: ConnectionId) {
        if let Some(record) = self.records.get_mut(&id) {
            record.uses = record.uses.saturating_sub(1);
            record.owner = record.owner.filter(|_| record.uses > 0);
        }
    }

    /// Keeps an active connection as the newest idle one.
    pub fn keep(&mut self, id: ConnectionId, handle: C, now: Instant) {
        let record = self.records.get_mut(&id).expect("a kept connection has a record");
        record.doubted = None;
        let position = self.idle.push(record.list(), id, handle, now);
        record.enter(id, Phase::Idle(position), &mut self.roll);
    }

    /// Takes an idle connection's handle for a lease, and remembers how long it was idle.
    pub fn lease_idle(&mut self, id: ConnectionId, now: Instant) -> Option<C> {
        let record = self.records.get_mut(&id)?;
        let Phase::Idle(position) = record.phase else { return None };
        record.idle_before = Some(now.saturating_duration_since(position.since));
        record.enter(id, Phase::Active, &mut self.roll);
        self.idle.remove(position)
    }

    /// Takes an idle connection's handle; it is active then.
    pub fn take_idle(&mut self, id: ConnectionId) -> Option<C> {
        let record = self.records.get_mut(&id)?;
        let Phase::Idle(position) = record.phase else { return None };
        record.enter(id, Phase::Active, &mut self.roll);
        self.idle.remove(position)
    }

    /// HTTP on a leased connection is over.
    pub fn set_over(&mut self, id: ConnectionId, reason: EndReason) {
        if let Some(record) = self.records.get_mut(&id) {
            record.over = Some(reason);
        }
    }

    /// An active connection's socket ended so, under its lease.
    pub fn lose(&mut self, id: ConnectionId, end: End, at: Instant) {
        self.enter(id, Phase::Lost(end, at));
    }

    /// Changes a connection's phase, and the roll with it.
    pub fn enter(&mut self, id: ConnectionId, phase: Phase) {
        if let Some(record) = self.records.get_mut(&id) {
            record.enter(id, phase, &mut self.roll);
        }
    }

    /// Forgets a dial that failed or never began.
    pub fn forget(&mut self, id: ConnectionId) {
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

    /// Forgets a connection whose socket and lease are both gone, and says what is to be said of it.
    pub fn bury(&mut self, id: ConnectionId, reason: EndReason, end: End, at: Instant) -> Ended {
        let (uses, opened) = self.records.get(&id).map_or((0, at), |r| (r.uses, r.opened));
        self.forget(id);
        Ended { id, uses, age: at.saturating_duration_since(opened), reason, end }
    }

    /// Each one that has a place, for a person, in no order.
    pub fn views(&self, now: Instant) -> Vec<ConnectionView> {
        self.records.iter().filter_map(|(id, r)| r.view(*id, now)).collect()
    }
}

impl Record {
    fn enter(&mut self, id: ConnectionId, phase: Phase, roll: &mut Roll) {
        roll.remove(id, self.phase);
        roll.add(id, phase);
        self.phase = phase;
    }

    /// The list in which it is idle, unless it is doubted.
    fn list(&self) -> List {
        if self.private { List::Private } else { List::Shared(self.thread) }
    }

    fn past(&self) -> Past {
        Past { uses: self.uses, owner: self.owner, private: self.private }
    }

    /// A zero limit is none. The jitter shortens it by up to a tenth.
    fn limit_age(&mut self, max_age: Duration) {
        let age = max_age.saturating_sub(max_age.mul_f64(self.jitter / 10.0));
        let limited = !age.is_zero() && self.peer.is_some();
        self.retires = if limited { self.opened.checked_add(age) } else { None };
    }

    /// `None` when it is lost.
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
