//! The return to the system of memory that many connections leave behind.
//!
//! mimalloc returns free memory only on occasion: while more is freed beside it, and at each 10,000th allocation of
//! more than 1 KiB that a thread makes. After many connections have left there is neither, and so the process would
//! stay as large as it was.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

/// The number of allocations that make mimalloc look for free memory, and some more, as it counts in hundreds. Only the
/// memory of the process shows that these are enough (`tests/behaviour/faults/memory.rs`).
const ALLOCATIONS: usize = 10_200;
/// The bytes of each allocation.
const SIZE: usize = 2 * 1024;
/// The least number of connections whose departure counts.
const CROWD: usize = 64;
/// The times after the departure at which mimalloc is made to look: it keeps what was freed lately, the longer the more
/// was freed at once.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// The number of connections of one thread, and the times at which memory of those that left is to be returned.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    /// The most connections since the last departure.
    most: usize,
    /// The times that are still to come, the latest first.
    looks: Vec<Instant>,
}

impl Crowd {
    /// Notes the number of connections at this time; once half of many have left, memory is to be returned.
    pub(crate) fn note(&mut self, now: Instant, connections: usize) {
        self.most = self.most.max(connections);
        if self.most >= CROWD && connections <= self.most / 2 {
            self.most = connections;
            self.looks = LOOKS.iter().rev().map(|after| now + *after).collect();
        }
    }

    /// Returns memory at the next time that is due, and completes; pending while none is.
    pub(crate) async fn gives_back(&mut self) {
        match self.looks.last() {
            Some(at) => sleep_until((*at).into()).await,
            None => std::future::pending().await,
        }
        self.looks.pop();
        for _ in 0..ALLOCATIONS {
            drop(black_box(Vec::<u8>::with_capacity(SIZE)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_33_free_memory_is_returned_when_half_of_a_crowd_has_left_and_again_at_each_half() {
        let (mut crowd, now) = (Crowd::default(), Instant::now());
        let mut looks = |connections| {
            crowd.looks.clear();
            crowd.note(now, connections);
            crowd.looks.len()
        };
        assert_eq!([looks(1), looks(40), looks(1)], [0, 0, 0], "too few to be a crowd");
        let all = LOOKS.len();
        assert_eq!([looks(1000), looks(501), looks(500)], [0, 0, all]);
        assert_eq!([looks(499), looks(251), looks(250), looks(0)], [0, 0, all, all]);
    }

    #[tokio::test]
    async fn fault_33_free_memory_is_returned_at_most_once_at_a_time() {
        let mut crowd = Crowd { most: 0, looks: vec![Instant::now(), Instant::now()] };
        crowd.gives_back().await;
        crowd.gives_back().await;
        assert!(crowd.looks.is_empty());
    }
}
