//! The connections that have room for another exchange, or are idle, in order: the newest of a thread comes first for a
//! checkout, the oldest of all for a purge.
//!
//! A connection gets the next turn whenever it is listed: when it is established, and when an exchange on it has ended.
//! The lowest turn is the oldest. The connections of each thread have a list, and three lists hold those of all threads
//! that not every request may take: the private ones, the doubted ones, and the full ones (idle, but their upstream
//! allows no exchange on them at the moment). A connection keeps its turn when it moves from one list to another.

use std::{collections::VecDeque, time::Instant};

use super::ids::ConnectionId;

/// The position of a connection among those with room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RoomPosition {
    /// The time at which the connection came to this position: of an idle connection the time at which it became idle.
    pub since: Instant,
    /// The connection's number in the order of coming to a position, over the whole pool. Two connections may have the
    /// same time.
    pub turn: u64,
    /// The list that holds the connection.
    pub list: ListName,
}

/// The name of a list of connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ListName {
    /// The connections that this thread drives, for all requests that the reuse mode lets take them.
    Shared(usize),
    /// The connections that only their owners may take, of all threads. A search for a shared connection skips this
    /// list.
    Private,
    /// The connections that no request may take until they are proven to be alive.
    Doubted,
    /// The idle connections on which the upstream allows no exchange at the moment.
    Full,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    turn: u64,
    id: ConnectionId,
}

type Entries = VecDeque<Entry>;

/// The connections with room. Each is in one list, and each list is sorted by turn.
#[derive(Debug)]
pub(super) struct RoomList {
    threads: Vec<Entries>,
    private: Entries,
    doubted: Entries,
    full: Entries,
    next_turn: u64,
}

impl RoomList {
    pub(super) fn new(threads: usize) -> Self {
        let threads = (0..threads.max(1)).map(|_| VecDeque::new()).collect();
        let (private, doubted, full) = (VecDeque::new(), VecDeque::new(), VecDeque::new());
        Self { threads, private, doubted, full, next_turn: 0 }
    }

    /// Adds a connection as the newest of a list, with the next turn; returns its position.
    pub(super) fn push(&mut self, list: ListName, id: ConnectionId, now: Instant) -> RoomPosition {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.entries(list).push_back(Entry { turn, id });
        RoomPosition { since: now, turn, list }
    }

    /// Removes a connection; without effect if there is none at this position. The newest is found at once.
    pub(super) fn remove(&mut self, position: RoomPosition) {
        let list = self.entries(position.list);
        if list.back().is_some_and(|entry| entry.turn == position.turn) {
            list.pop_back();
        } else if let Ok(index) = list.binary_search_by_key(&position.turn, |entry| entry.turn) {
            list.remove(index);
        }
    }

    /// Moves a connection to another list, where it keeps its turn in the order; returns its new position.
    pub(super) fn shift(
        &mut self,
        id: ConnectionId,
        position: RoomPosition,
        list: ListName,
    ) -> RoomPosition {
        self.remove(position);
        let (turn, entries) = (position.turn, self.entries(list));
        let index = entries.partition_point(|entry| entry.turn < turn);
        entries.insert(index, Entry { turn, id });
        RoomPosition { list, ..position }
    }

    /// True if there is a connection that a request without a claim may take, as far as the reuse mode allows.
    pub(super) fn has_shared(&self) -> bool {
        self.threads.iter().any(|list| !list.is_empty())
    }

    /// True if there is a connection in the private list.
    pub(super) fn has_private(&self) -> bool {
        !self.private.is_empty()
    }

    /// Returns the number of connections in the doubted list.
    pub(super) fn doubted(&self) -> usize {
        self.doubted.len()
    }

    /// Returns the newest allowed connection of this thread, else the newest allowed one of all others; `None` if there
    /// is none. Private, doubted and full ones are passed over.
    pub(super) fn newest(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        let newest = |list: &Entries| {
            let entry = list.iter().rev().find(|entry| allowed(entry.id))?;
            Some((entry.turn, entry.id))
        };
        let others = || self.threads.iter().filter_map(newest).max();
        newest(&self.threads[thread]).or_else(others).map(|(_, id)| id)
    }

    /// Returns the connection with the lowest turn, of all lists, that `wanted` accepts; `None` if there is none.
    pub(super) fn oldest(&self, wanted: impl Fn(ConnectionId) -> bool) -> Option<ConnectionId> {
        let oldest = |list: &'_ Entries| list.iter().find(|entry| wanted(entry.id)).copied();
        let oldest = self.lists().filter_map(oldest).min_by_key(|entry| entry.turn);
        oldest.map(|entry| entry.id)
    }

    /// Returns the connections of all lists (every thread's, private, doubted, full) in the order of their turns, the
    /// lowest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        let mut lists: Vec<_> = self.lists().map(|list| list.iter().peekable()).collect();
        std::iter::from_fn(move || {
            let heads = lists.iter_mut().enumerate().filter_map(|(index, list)| {
                let turn = list.peek()?.turn;
                Some((turn, index))
            });
            let (_, index) = heads.min()?;
            lists[index].next().map(|entry| entry.id)
        })
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.lists().flatten().map(|entry| entry.id)
    }

    fn lists(&self) -> impl Iterator<Item = &Entries> {
        self.threads.iter().chain([&self.private, &self.doubted, &self.full])
    }

    /// Returns the list of this name.
    fn entries(&mut self, list: ListName) -> &mut Entries {
        match list {
            ListName::Shared(thread) => &mut self.threads[thread],
            ListName::Private => &mut self.private,
            ListName::Doubted => &mut self.doubted,
            ListName::Full => &mut self.full,
        }
    }
}
