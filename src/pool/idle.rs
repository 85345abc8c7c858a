//! The idle connections in order: the newest of a thread comes first for a checkout, the oldest of all for a purge.

use std::{collections::VecDeque, time::Instant};

use super::ids::ConnectionId;

/// The position of a connection in the idle list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    /// The time at which the connection became idle.
    pub since: Instant,
    /// The connection's number in the order of becoming idle, over the whole pool. Two connections may have the same
    /// time.
    pub turn: u64,
    /// The list that holds the connection.
    pub list: List,
}

/// The name of a list of idle connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The connections that this thread drives, for all requests that the reuse mode lets take them.
    Shared(usize),
    /// The connections that only their owners may take, of all threads. A search for a shared connection skips this
    /// list.
    Private,
    /// The connections that no request may take until they are proven to be alive.
    Doubted,
}

#[derive(Debug)]
struct Entry<C> {
    turn: u64,
    id: ConnectionId,
    handle: C,
}

type Entries<C> = VecDeque<Entry<C>>;

/// The idle connections with their handles. Each connection is in one list, and each list is sorted by turn.
#[derive(Debug)]
pub(super) struct IdleList<C> {
    threads: Vec<Entries<C>>,
    private: Entries<C>,
    doubted: Entries<C>,
    next_turn: u64,
}

impl<C> IdleList<C> {
    pub(super) fn new(threads: usize) -> Self {
        let threads = (0..threads.max(1)).map(|_| VecDeque::new()).collect();
        Self { threads, private: VecDeque::new(), doubted: VecDeque::new(), next_turn: 0 }
    }

    /// Adds a connection as the newest of a list.
    pub(super) fn push(
        &mut self,
        list: List,
        id: ConnectionId,
        handle: C,
        now: Instant,
    ) -> Position {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.entries(list).push_back(Entry { turn, id, handle });
        Position { since: now, turn, list }
    }

    /// Removes a connection and returns its handle; `None` if there is none at this position. The newest is found at
    /// once.
    pub(super) fn remove(&mut self, position: Position) -> Option<C> {
        let list = self.entries(position.list);
        let entry = if list.back()?.turn == position.turn {
            list.pop_back()
        } else {
            let index = list.binary_search_by_key(&position.turn, |entry| entry.turn).ok()?;
            list.remove(index)
        };
        entry.map(|entry| entry.handle)
    }

    /// Moves a connection to another list, where it keeps its turn in the order.
    pub(super) fn shift(&mut self, id: ConnectionId, position: Position, list: List) -> Position {
        if let Some(handle) = self.remove(position) {
            let (turn, entries) = (position.turn, self.entries(list));
            let index = entries.partition_point(|entry| entry.turn < turn);
            entries.insert(index, Entry { turn, id, handle });
        }
        Position { list, ..position }
    }

    /// Returns the number of connections in the private list.
    pub(super) fn private(&self) -> usize {
        self.private.len()
    }

    /// Returns the number of connections in the doubted list.
    pub(super) fn doubted(&self) -> usize {
        self.doubted.len()
    }

    /// Returns the newest allowed connection of this thread, else the newest allowed one of all others; none that is
    /// private or doubted.
    pub(super) fn newest(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        let newest = |list: &Entries<C>| {
            let entry = list.iter().rev().find(|entry| allowed(entry.id))?;
            Some((entry.turn, entry.id))
        };
        let others = || self.threads.iter().filter_map(newest).max();
        newest(&self.threads[thread]).or_else(others).map(|(_, id)| id)
    }

    /// Returns the connection of all lists that became idle first.
    pub(super) fn oldest(&self) -> Option<ConnectionId> {
        let oldest = self.lists().filter_map(VecDeque::front).min_by_key(|e| e.turn);
        oldest.map(|entry| entry.id)
    }

    pub(super) fn oldest_first(&self) -> Vec<ConnectionId> {
        let mut idle: Vec<_> = self.lists().flatten().map(|e| (e.turn, e.id)).collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, id)| id).collect()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.lists().flatten().map(|entry| entry.id)
    }

    fn lists(&self) -> impl Iterator<Item = &Entries<C>> {
        self.threads.iter().chain([&self.private, &self.doubted])
    }

    fn entries(&mut self, list: List) -> &mut Entries<C> {
        match list {
            List::Shared(thread) => &mut self.threads[thread],
            List::Private => &mut self.private,
            List::Doubted => &mut self.doubted,
        }
    }
}
