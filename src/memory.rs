//! Memory that a crowd of connections leaves behind, given back to the system.
//!
//! mimalloc gives free memory back when it comes to it: while more is freed beside it, and at each 10,000th allocation of more
//! than 1 KiB that a thread makes. After a crowd has left there is neither, and so the process would stay as large as it was.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

/// As many allocations as mimalloc counts before it looks, and some more: it counts in hundreds. That these are enough is seen by
/// the memory of the process alone (`tests/behaviour/faults/memory.rs`).
const ALLOCATIONS: usize = 10_200;
/// Bytes of each.
const SIZE: usize = 2 * 1024;
/// Fewer connections than these are no crowd.
const CROWD: usize = 64;
/// Times after the departure at which mimalloc has to look: it keeps what was freed lately, the longer the more was freed at
/// once.
const LOOKS: [Duration; 4] = [
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(4),
    Duration::from_secs(12),
];

/// The connections of one thread, and when memory of those that left is to be given back.
#[derive(Debug, Default)]
pub struct Crowd {
    /// The most that there were since the last departure.
    most: usize,
    /// The times that are still to come, the latest first.
    looks: Vec<Instant>,
}

impl Crowd {
    /// Notes how many connections there are now.
    pub fn note(&mut self, now: Instant, connections: usize) {
        self.most = self.most.max(connections);
        if self.most >= CROWD && connections <= self.most / 2 {
            self.most = connections;
            self.looks = LOOKS.iter().rev().map(|after| now + *after).collect();
        }
    }

    /// Gives memory back at the next time that is due; pending while there is none.
    pub async fn gives_back(&mut self) {
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
    fn fault_33_it_is_looked_for_free_memory_when_half_of_a_crowd_has_left_and_again_at_each_half()
    {
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
    async fn fault_33_it_is_looked_for_free_memory_at_each_time_once() {
        let mut crowd = Crowd { most: 0, looks: vec![Instant::now(), Instant::now()] };
        crowd.gives_back().await;
        crowd.gives_back().await;
        assert!(crowd.looks.is_empty());
    }
}
