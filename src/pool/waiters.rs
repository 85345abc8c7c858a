//! A pool's waiters, by urgency, then in order of arrival. It keeps the book and decides nothing about connections.
//!
//! The less urgent wait for as long as more urgent ones come, though no longer than `queueTimeout`: who asks for
//! priorities wants just that.
//!
//! A waiter is queued (it stands at the cap without a dial), or counts on a dial, or has its outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use super::{
    Reuse,
    connections::Leased,
    ids::{ConnectionId, IdMap, WaiterId},
    pace::Pace,
    sharing::Ask,
};

/// The dial that a waiter counts on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dial {
    /// It is queued: `maxQueue` and `queueTimeout` concern it.
    None,
    /// A place is reserved, the waiter has not collected it.
    Granted(ConnectionId),
    /// Under way, its own.
    Own(ConnectionId),
    /// Under way, begun for a waiter that left or was served: inherited from that, or an orphan that it adopted.
    Inherited(ConnectionId),
}

/// Who is first in line for a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Taker {
    /// This waiter takes it.
    Connection(WaiterId),
    /// A waiter that may not take it, and that no closing connection makes room for yet: it takes its place.
    Place,
}

/// What a waiter gets in the end: a connection, or its own dial's failure (`None` when that was dropped half-way).
pub type Outcome<C, E> = Result<Leased<C>, Option<E>>;

/// Who comes to wait.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// When, if it has to queue: there was neither a free place nor an orphan dial.
    pub at_cap: Option<Instant>,
    /// What it asks for.
    pub ask: Ask,
    /// Why a connection dialled for it is a new one.
    pub reason: Reuse,
}

/// Where a waiter stands: urgency, then arrival.
type Rank = (u8, WaiterId);

/// Waiters in order, counted by urgency: whoever comes is not to count those before it.
#[derive(Default)]
struct Queue {
    ranks: BTreeSet<Rank>,
    /// How many there are of each urgency; the last counts all that are less urgent still.
    by_urgency: [usize; URGENCIES],
}

/// RFC 9218 has eight.
const URGENCIES: usize = 8;

impl Queue {
    fn insert(&mut self, rank: Rank) {
        if self.ranks.insert(rank) {
            self.by_urgency[Self::index(rank.0)] += 1;
        }
    }

    fn remove(&mut self, rank: Rank) -> bool {
        let removed = self.ranks.remove(&rank);
        if removed {
            self.by_urgency[Self::index(rank.0)] -= 1;
        }
        removed
    }

    /// Counts those that are at least as urgent.
    fn before(&self, urgency: u8) -> usize {
        self.by_urgency[..=Self::index(urgency)].iter().sum()
    }

    fn index(urgency: u8) -> usize {
        usize::from(urgency).min(URGENCIES - 1)
    }
}

/// One waiter.
struct Waiting<C, E, W> {
    arrival: Arrival,
    dial: Dial,
    /// How long it stood at the cap without a dial, once that is over.
    queued_for: Option<Duration>,
    /// It lost its dial, is queued again, and has not been told.
    sent_back: bool,
    outcome: Option<Outcome<C, E>>,
    /// Set while it has nothing to collect.
    waker: Option<W>,
}

/// What a waiter leaves behind.
pub struct Departed<C, E> {
    pub dial: Dial,
    pub outcome: Option<Outcome<C, E>>,
    pub queued_for: Option<Duration>,
}

/// See the module.
pub struct Waiters<C, E, W> {
    waiting: IdMap<Waiting<C, E, W>>,
    /// Those without an outcome, and what they ask for.
    unserved: BTreeMap<Rank, Ask>,
    /// Those without an outcome and without a dial.
    queue: Queue,
    pace: Pace,
    next_id: WaiterId,
}

impl<C, E, W> Waiters<C, E, W> {
    pub fn new() -> Self {
        Self {
            waiting: IdMap::default(),
            unserved: BTreeMap::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            next_id: 1,
        }
    }

    /// Nobody is left, not even with an outcome to collect.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whoever is left has an outcome: the warm path asks no further.
    pub fn none_unserved(&self) -> bool {
        self.unserved.is_empty()
    }

    pub fn queued(&self) -> usize {
        self.queue.ranks.len()
    }

    pub fn is_queued(&self, waiter: WaiterId) -> bool {
        self.queue.ranks.contains(&self.rank(waiter))
    }

    /// First in line of those without a dial.
    pub fn first_queued(&self) -> Option<WaiterId> {
        self.queue.ranks.first().map(|(_, waiter)| *waiter)
    }

    /// Whether one of this urgency that queues now would wait for longer than this.
    pub fn is_too_slow(&self, urgency: u8, now: Instant, patience: Duration) -> bool {
        self.pace.is_too_slow(self.queue.before(urgency), now, patience)
    }

    fn rank(&self, waiter: WaiterId) -> Rank {
        let waiting = self.waiting.get(&waiter);
        (waiting.map_or(0, |waiting| waiting.arrival.ask.urgency), waiter)
    }

    /// Who is first in line for a connection, while so many places are being freed.
    pub fn taker(&self, may_take: impl Fn(&Ask) -> bool, places_coming: usize) -> Option<Taker> {
        let mut passed = 0;
        for (&(_, waiter), ask) in &self.unserved {
            if may_take(ask) {
                return Some(Taker::Connection(waiter));
            }
            passed += usize::from(self.is_queued(waiter));
            if passed > places_coming {
                return Some(Taker::Place);
            }
        }
        None
    }

    /// How a waiter came.
    pub fn arrival(&self, waiter: WaiterId) -> Option<&Arrival> {
        self.waiting.get(&waiter).map(|waiting| &waiting.arrival)
    }

    pub fn dial(&self, waiter: WaiterId) -> Dial {
        self.waiting.get(&waiter).map_or(Dial::None, |waiting| waiting.dial)
    }

    /// Adds the youngest to the queue; so long is its patience.
    pub fn join(&mut self, arrival: Arrival, patience: Duration) -> WaiterId {
        let id = self.next_id;
        self.next_id += 1;
        if let Some(now) = arrival.at_cap
            && self.queue.ranks.is_empty()
        {
            self.pace.begins(now, patience);
        }
        let rank = (arrival.ask.urgency, id);
        self.unserved.insert(rank, arrival.ask);
        self.queue.insert(rank);
        let (dial, queued_for, sent_back, outcome, waker) = (Dial::None, None, false, None, None);
        let waiting = Waiting { arrival, dial, queued_for, sent_back, outcome, waker };
        self.waiting.insert(id, waiting);
        id
    }

    /// A waiter counts on a dial from now on. It is not woken: an heir has nothing to collect yet.
    pub fn count_on(&mut self, waiter: WaiterId, dial: Dial, now: Instant) {
        self.leave_queue(waiter, now);
        if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.dial = dial;
            waiting.sent_back = false;
        }
    }

    /// A waiter collected its place, and dials.
    pub fn begin_dial(&mut self, waiter: WaiterId, dial: ConnectionId) {
        if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.dial = Dial::Own(dial);
        }
    }

    /// A waiter's dial is over without an outcome for it: it is queued again, in its old position.
    pub fn lose_dial(&mut self, waiter: WaiterId, now: Instant, patience: Duration) {
        let rank = self.rank(waiter);
        if self.unserved.contains_key(&rank)
            && let Some(waiting) = self.waiting.get_mut(&waiter)
        {
            waiting.dial = Dial::None;
            waiting.sent_back = true;
            if self.queue.ranks.is_empty() {
                self.pace.begins(now, patience);
            }
            self.queue.insert(rank);
        }
    }

    /// Whether it is queued again and has not been told; it is told by this.
    pub fn is_sent_back(&mut self, waiter: WaiterId) -> bool {
        let waiting = self.waiting.get_mut(&waiter);
        waiting.is_some_and(|waiting| std::mem::take(&mut waiting.sent_back))
    }

    /// Gives a waiter its outcome; returns the dial that it counted on until now.
    pub fn serve(&mut self, waiter: WaiterId, outcome: Outcome<C, E>, now: Instant) -> Dial {
        self.leave_queue(waiter, now);
        self.unserved.remove(&self.rank(waiter));
        let waiting = self.waiting.get_mut(&waiter).expect("only who waits is served");
        waiting.outcome = Some(outcome);
        std::mem::replace(&mut waiting.dial, Dial::None)
    }

    /// Remembers whom to wake; false if there is no such waiter.
    pub fn set_waker(&mut self, waiter: WaiterId, waker: W) -> bool {
        let waiting = self.waiting.get_mut(&waiter);
        waiting.map(|waiting| waiting.waker = Some(waker)).is_some()
    }

    pub fn take_waker(&mut self, waiter: WaiterId) -> Option<W> {
        self.waiting.get_mut(&waiter)?.waker.take()
    }

    /// Whether it has its outcome.
    pub fn is_served(&self, waiter: WaiterId) -> bool {
        self.waiting.get(&waiter).is_some_and(|waiting| waiting.outcome.is_some())
    }

    /// It goes away, whether it has its outcome or not.
    pub fn give_up(&mut self, waiter: WaiterId, now: Instant) -> Option<Departed<C, E>> {
        if self.queue.remove(self.rank(waiter)) && self.queue.ranks.is_empty() {
            self.pace.given_up(now);
        }
        self.remove(waiter)
    }

    /// It collects its outcome.
    pub fn remove(&mut self, waiter: WaiterId) -> Option<Departed<C, E>> {
        let rank = self.rank(waiter);
        self.unserved.remove(&rank);
        let Waiting { dial, outcome, queued_for, .. } = self.waiting.remove(&waiter)?;
        Some(Departed { dial, outcome, queued_for })
    }

    fn leave_queue(&mut self, waiter: WaiterId, now: Instant) {
        if self.queue.remove(self.rank(waiter))
            && let Some(waiting) = self.waiting.get_mut(&waiter)
            && let Some(since) = waiting.arrival.at_cap
        {
            waiting.queued_for.get_or_insert(now.saturating_duration_since(since));
            self.pace.moves(now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_29_who_comes_is_told_how_many_are_before_it_without_a_look_at_each() {
        let (mut queue, mut ranks) = (Queue::default(), Vec::new());
        let mut random = fastrand::Rng::with_seed(29);
        for waiter in 0..2_000 {
            let rank = (random.choice([0, 3, 3, 7, 255]).unwrap(), waiter);
            queue.insert(rank);
            queue.insert(rank);
            ranks.push(rank);
            if random.bool() {
                let left = ranks.swap_remove(random.usize(..ranks.len()));
                assert!(queue.remove(left) && !queue.remove(left));
            }
            for urgency in [0, 3, 6] {
                let before = ranks.iter().filter(|(other, _)| *other <= urgency).count();
                assert_eq!(queue.before(urgency), before);
            }
            assert_eq!(queue.before(255), ranks.len());
        }
    }
}
