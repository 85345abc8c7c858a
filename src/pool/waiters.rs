//! A pool's waiters, by urgency, then in order of arrival. Keeps their records, and decides nothing about connections.
//!
//! Less urgent waiters wait for as long as more urgent ones come, but no longer than `queueTimeout`: priorities mean
//! that.
//!
//! A waiter is queued (at the cap, without a dial), or counts on a dial, or has its outcome.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
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
pub(super) enum Dial {
    /// No dial: the waiter is queued, or has its outcome. `maxQueue` and `queueTimeout` apply while it is queued.
    None,
    /// A reserved place, whose dial begins when the waiter collects it.
    Granted(ConnectionId),
    /// A dial whose failure is this waiter's own: the waiter began it, or came to it while a waiter counted on it for which
    /// it began.
    Own(ConnectionId),
    /// A dial under way that began for other waiters, which have left or were served, or for the warm floor.
    Adopted(ConnectionId),
}

impl Dial {
    /// Returns the connection that the dial is to make; `None` without a dial.
    pub(super) fn id(self) -> Option<ConnectionId> {
        match self {
            Self::None => None,
            Self::Granted(id) | Self::Own(id) | Self::Adopted(id) => Some(id),
        }
    }
}

/// The right to a connection that has become free.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taker {
    /// The connection is for this waiter.
    Connection(WaiterId),
    /// The first waiters may not take the connection, and not enough places are coming for them: the connection is to
    /// close, so that one of them can dial in its place.
    Place,
}

/// A waiter's final result: a connection, or the failure of its own dial (`None` if the dial was dropped before its
/// end).
pub(super) type Outcome<C, E> = Result<Leased<C>, Option<Arc<E>>>;

/// A request that joins the waiters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// The time of arrival, if the request has to queue because there is neither a free place nor a dial with room.
    pub at_cap: Option<Instant>,
    /// The demands of the request.
    pub ask: Ask,
    /// The reason to report if the request gets a new connection.
    pub reason: Reuse,
}

/// A waiter's position in the queue: urgency, then arrival.
type Rank = (u8, WaiterId);

/// The queued waiters in order, counted by urgency, so that an arrival learns how many are ahead without counting them.
#[derive(Default)]
struct Queue {
    ranks: BTreeSet<Rank>,
    /// The number of waiters of each urgency; the last one counts all that are less urgent still.
    by_urgency: [usize; URGENCIES],
}

/// The number of urgencies that RFC 9218 has.
const URGENCIES: usize = 8;

impl Queue {
    fn insert(&mut self, rank: Rank) {
        if self.ranks.insert(rank) {
            self.by_urgency[Self::index(rank.0)] += 1;
        }
    }

    /// Removes a waiter from the queue; false if it is not queued.
    fn remove(&mut self, rank: Rank) -> bool {
        let removed = self.ranks.remove(&rank);
        if removed {
            self.by_urgency[Self::index(rank.0)] -= 1;
        }
        removed
    }

    /// Returns the number of queued waiters that are at least as urgent.
    fn before(&self, urgency: u8) -> usize {
        self.by_urgency[..=Self::index(urgency)].iter().sum()
    }

    fn index(urgency: u8) -> usize {
        usize::from(urgency).min(URGENCIES - 1)
    }
}

/// The record of one waiter.
struct Waiting<C, E, W> {
    arrival: Arrival,
    dial: Dial,
    /// The time since when the waiter is queued; `None` if it is not, or if it did not have to queue when it came.
    queued_since: Option<Instant>,
    /// The time that the waiter was queued, over all its stays that have ended; `None` if there was none.
    queued_for: Option<Duration>,
    /// True if the waiter lost its dial, is queued again, and has not been told of that yet.
    sent_back: bool,
    outcome: Option<Outcome<C, E>>,
    /// The waker to call when there is something to collect; taken when it is called.
    waker: Option<W>,
}

/// The remains of a waiter that has left.
pub(super) struct Departed<C, E> {
    pub dial: Dial,
    pub outcome: Option<Outcome<C, E>>,
    pub queued_for: Option<Duration>,
}

/// The records of a pool's waiters, by id. `C` is a connection's handle, `E` a failed dial's error, `W` a waker.
pub(super) struct Waiters<C, E, W> {
    waiting: IdMap<Waiting<C, E, W>>,
    /// The waiters without an outcome, in order, with their demands.
    unserved: BTreeMap<Rank, Ask>,
    /// The waiters with neither an outcome nor a dial.
    queue: Queue,
    pace: Pace,
    next_id: WaiterId,
}

impl<C, E, W> Waiters<C, E, W> {
    /// Creates an empty record of waiters.
    pub(super) fn new() -> Self {
        Self {
            waiting: IdMap::default(),
            unserved: BTreeMap::new(),
            queue: Queue::default(),
            pace: Pace::default(),
            next_id: 1,
        }
    }

    /// True if no waiter is left, not even one that has yet to collect its outcome.
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// True if every waiter has its outcome. Read by each checkout and check-in, so it is cheap.
    pub(super) fn none_unserved(&self) -> bool {
        self.unserved.is_empty()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.ranks.len()
    }

    pub(super) fn is_queued(&self, waiter: WaiterId) -> bool {
        self.queue.ranks.contains(&self.rank(waiter))
    }

    /// Returns the first waiter in the queue; `None` if the queue is empty.
    pub(super) fn first_queued(&self) -> Option<WaiterId> {
        self.queue.ranks.first().map(|(_, waiter)| *waiter)
    }

    /// True if a request of this urgency that queues now would wait for longer than `patience`.
    pub(super) fn is_too_slow(&self, urgency: u8, now: Instant, patience: Duration) -> bool {
        self.pace.is_too_slow(self.queue.before(urgency), now, patience)
    }

    /// Returns the first of these waiters: the most urgent one, of those the one that came first; `None` if there are
    /// none.
    pub(super) fn first_of(&self, waiters: &[WaiterId]) -> Option<WaiterId> {
        waiters.iter().copied().min_by_key(|waiter| self.rank(*waiter))
    }

    fn rank(&self, waiter: WaiterId) -> Rank {
        let waiting = self.waiting.get(&waiter);
        (waiting.map_or(0, |waiting| waiting.arrival.ask.urgency), waiter)
    }

    /// Returns who has the right to a connection that is free now, while `places_coming` places are free or closing.
    /// `None`: no waiter wants the connection, or its place.
    pub(super) fn taker(
        &self,
        may_take: impl Fn(&Ask) -> bool,
        places_coming: usize,
    ) -> Option<Taker> {
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

    /// Returns the request with which a waiter joined; `None` if there is no such waiter.
    pub(super) fn arrival(&self, waiter: WaiterId) -> Option<&Arrival> {
        self.waiting.get(&waiter).map(|waiting| &waiting.arrival)
    }

    pub(super) fn dial(&self, waiter: WaiterId) -> Dial {
        self.waiting.get(&waiter).map_or(Dial::None, |waiting| waiting.dial)
    }

    /// Adds a request as the last of its urgency to the queue. `patience` is `queueTimeout`.
    pub(super) fn join(&mut self, arrival: Arrival, patience: Duration) -> WaiterId {
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
        let waiting = Waiting {
            arrival,
            dial: Dial::None,
            queued_since: arrival.at_cap,
            queued_for: None,
            sent_back: false,
            outcome: None,
            waker: None,
        };
        self.waiting.insert(id, waiting);
        id
    }

    /// Makes a waiter count on a dial, and removes it from the queue. Wakes no task: a waiter that adopts a dial has
    /// nothing to collect yet.
    pub(super) fn count_on(&mut self, waiter: WaiterId, dial: Dial, now: Instant) {
        self.leave_queue(waiter, now);
        if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.dial = dial;
            waiting.sent_back = false;
        }
    }

    /// Notes that a waiter has collected its place, and dials.
    pub(super) fn begin_dial(&mut self, waiter: WaiterId, dial: ConnectionId) {
        if let Some(waiting) = self.waiting.get_mut(&waiter) {
            waiting.dial = Dial::Own(dial);
        }
    }

    /// Takes a waiter's dial from it: without an outcome it is queued again, in its old position.
    pub(super) fn lose_dial(&mut self, waiter: WaiterId, now: Instant, patience: Duration) {
        let rank = self.rank(waiter);
        if self.unserved.contains_key(&rank)
            && let Some(waiting) = self.waiting.get_mut(&waiter)
        {
            waiting.dial = Dial::None;
            waiting.sent_back = true;
            waiting.queued_since = Some(now);
            if self.queue.ranks.is_empty() {
                self.pace.begins(now, patience);
            }
            self.queue.insert(rank);
        }
    }

    /// True if a waiter is queued again and has not been told of that; true only once.
    pub(super) fn is_sent_back(&mut self, waiter: WaiterId) -> bool {
        let waiting = self.waiting.get_mut(&waiter);
        waiting.is_some_and(|waiting| std::mem::take(&mut waiting.sent_back))
    }

    /// Gives a waiter its outcome, and removes it from the queue; returns the dial that it counted on until now. Wakes
    /// no task.
    pub(super) fn serve(&mut self, waiter: WaiterId, outcome: Outcome<C, E>, now: Instant) -> Dial {
        self.leave_queue(waiter, now);
        self.unserved.remove(&self.rank(waiter));
        let waiting = self.waiting.get_mut(&waiter).expect("only who waits is served");
        waiting.outcome = Some(outcome);
        std::mem::replace(&mut waiting.dial, Dial::None)
    }

    /// Keeps the waker of a waiter; false if there is no such waiter.
    pub(super) fn set_waker(&mut self, waiter: WaiterId, waker: W) -> bool {
        let waiting = self.waiting.get_mut(&waiter);
        waiting.map(|waiting| waiting.waker = Some(waker)).is_some()
    }

    pub(super) fn take_waker(&mut self, waiter: WaiterId) -> Option<W> {
        self.waiting.get_mut(&waiter)?.waker.take()
    }

    /// True if a waiter has its outcome.
    pub(super) fn is_served(&self, waiter: WaiterId) -> bool {
        self.waiting.get(&waiter).is_some_and(|waiting| waiting.outcome.is_some())
    }

    /// Removes a waiter that wants nothing any more, with or without an outcome; returns what it leaves behind, `None`
    /// if there is no such waiter.
    pub(super) fn give_up(&mut self, waiter: WaiterId, now: Instant) -> Option<Departed<C, E>> {
        if self.queue.remove(self.rank(waiter)) && self.queue.ranks.is_empty() {
            self.pace.given_up(now);
        }
        self.remove(waiter)
    }

    /// Removes a waiter that collects its outcome; returns what it leaves behind, `None` if there is no such waiter.
    pub(super) fn remove(&mut self, waiter: WaiterId) -> Option<Departed<C, E>> {
        let rank = self.rank(waiter);
        self.unserved.remove(&rank);
        let Waiting { dial, outcome, queued_for, .. } = self.waiting.remove(&waiter)?;
        Some(Departed { dial, outcome, queued_for })
    }

    /// Removes a waiter from the queue, if it is queued, with a dial or an outcome: adds to the time that it was queued,
    /// and notes that the queue moves.
    fn leave_queue(&mut self, waiter: WaiterId, now: Instant) {
        if self.queue.remove(self.rank(waiter))
            && let Some(waiting) = self.waiting.get_mut(&waiter)
            && let Some(since) = waiting.queued_since.take()
        {
            let stay = now.saturating_duration_since(since);
            let arrived = waiting.arrival.at_cap.is_some() && waiting.queued_for.is_none();
            // A waiter whose dial brought its connection loses the dial and is served at the same time: no stay.
            if arrived || !stay.is_zero() {
                *waiting.queued_for.get_or_insert_default() += stay;
                self.pace.moves(now);
            }
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
