//! Idle connections that an origin ends at any time, until the pool has learned that it does.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use super::running::Running;

/// The times in milliseconds for which connections are idle, one after the other and over again, without a pattern.
const LIVES: [u64; 7] = [25, 50, 12, 100, 6, 35, 18];
/// The number of lessons after which the habit is never learned.
const TOO_MANY: usize = 70;

/// The switch by which an origin ends its idle connections, for as long as the pool has not learned its habit.
#[derive(Clone, Default)]
pub struct Lives(Arc<AtomicBool>);

impl Lives {
    /// Returns the time for which this connection is idle before the origin ends it; `None` if the lessons are over.
    pub fn of(&self, connection: usize) -> Option<Duration> {
        (!self.0.load(SeqCst)).then(|| Duration::from_millis(LIVES[connection % LIVES.len()]))
    }

    /// Gives lessons until the pool of the upstream `origin` has learned the habit; returns the number of lessons. On a
    /// busy machine, where connections are idle for longer than the origin means them to be, more of them are needed.
    pub fn teach(&self, warmline: &Running, lesson: impl Fn(usize)) -> usize {
        let upstream = warmline.upstream("origin");
        let taught = (1..TOO_MANY).find(|number| {
            lesson(*number);
            upstream.pool().closes_at_any_time()
        });
        self.0.store(true, SeqCst);
        taught.expect("the habit is learned")
    }
}
