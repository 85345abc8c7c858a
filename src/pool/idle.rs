//! The idle connections in order: newest first for a checkout on its own thread, oldest first for a purge.

use std::{collections::VecDeque, time::Instant};

use super::ids::ConnectionId;

/// Where a connection stands in the list, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When it became idle.
    pub since: Instant,
    /// Ascending over the whole pool: a clock that stands still does not blur the order.
    turn: u64,
}

#[derive(Debug)]
struct Entry<C> {
    turn: u64,
    id: ConnectionId,
    handle: C,
}

/// Idle connections with their handles, each in the list of the thread that drives it, in ascending turns.
#[derive(Debug)]
pub struct IdleList<C> {
    threads: Vec<VecDeque<Entry<C>>>,
    next_turn: u64,
}

impl<C> IdleList<C> {
    pub fn new(threads: usize) -> Self {
        Self { threads: (0..threads.max(1)).map(|_| VecDeque::new()).collect(), next_turn: 0 }
    }

    /// Adds the newest.
    pub fn push(&mut self, thread: usize, id: ConnectionId, handle: C, now: Instant) -> Position {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.threads[thread].push_back(Entry { turn, id, handle });
        Position { since: now, turn }
    }

    pub fn remove(&mut self, thread: usize, position: Position) -> Option<C> {
        let list = &mut self.threads[thread];
        let entry = if list.back()?.turn == position.turn {
            list.pop_back()
        } else {
            let index = list.binary_search_by_key(&position.turn, |entry| entry.turn).ok()?;
            list.remove(index)
        };
        entry.map(|entry| entry.handle)
    }

    /// The newest of this thread that is allowed, else the newest such of all others.
    pub fn newest(
        &self,
        thread: usize,
        allowed: impl Fn(ConnectionId) -> bool,
    ) -> Option<ConnectionId> {
        let newest = |list: &VecDeque<Entry<C>>| {
            let entry = list.iter().rev().find(|entry| allowed(entry.id))?;
            Some((entry.turn, entry.id))
        };
        let others = || self.threads.iter().filter_map(newest).max();
        newest(&self.threads[thread]).or_else(others).map(|(_, id)| id)
    }

    /// The oldest of all.
    pub fn oldest(&self) -> Option<ConnectionId> {
        let oldest = self.threads.iter().filter_map(VecDeque::front).min_by_key(|e| e.turn);
        oldest.map(|entry| entry.id)
    }

    pub fn oldest_first(&self) -> Vec<ConnectionId> {
        let mut idle: Vec<_> = self.threads.iter().flatten().map(|e| (e.turn, e.id)).collect();
        idle.sort_unstable();
        idle.into_iter().map(|(_, id)| id).collect()
    }

    pub fn iter(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.threads.iter().flatten().map(|entry| entry.id)
    }
}
