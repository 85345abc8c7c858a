//! The idle connections in order: newest first for a checkout on its own thread, oldest first for a purge.

use std::{collections::VecDeque, time::Instant};

use super::state::ConnectionId;

/// Where a connection stands in the list, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// When it became idle.
    pub since: Instant,
    /// Ascending over the whole pool: a clock that stands still does not blur the order.
    turn: u64,
}

/// Idle connections, each in the list of the thread that drives it, in ascending turns.
#[derive(Debug)]
pub struct IdleList {
    threads: Vec<VecDeque<(u64, ConnectionId)>>,
    next_turn: u64,
}

impl IdleList {
    pub fn new(threads: usize) -> Self {
        Self { threads: vec![VecDeque::new(); threads.max(1)], next_turn: 0 }
    }

    /// Adds the newest.
    pub fn push(&mut self, thread: usize, id: ConnectionId, now: Instant) -> Position {
        let turn = self.next_turn;
        self.next_turn += 1;
        self.threads[thread].push_back((turn, id));
        Position { since: now, turn }
    }

    pub fn remove(&mut self, thread: usize, position: Position) {
        let list = &mut self.threads[thread];
        if list.back().is_some_and(|(turn, _)| *turn == position.turn) {
            list.pop_back();
        } else if let Ok(index) = list.binary_search_by_key(&position.turn, |(turn, _)| *turn) {
            list.remove(index);
        }
    }

    /// The newest of this thread, else the newest of all others.
    pub fn newest(&self, thread: usize) -> Option<ConnectionId> {
        let own = self.threads[thread].back();
        let newest = own.or_else(|| self.threads.iter().filter_map(VecDeque::back).max());
        newest.map(|(_, id)| *id)
    }

    /// The oldest of all.
    pub fn oldest(&self) -> Option<ConnectionId> {
        self.threads.iter().filter_map(VecDeque::front).min().map(|(_, id)| *id)
    }

    pub fn iter(&self) -> impl Iterator<Item = ConnectionId> + '_ {
        self.threads.iter().flatten().map(|(_, id)| *id)
    }
}
