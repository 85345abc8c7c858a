//! A bound on the buffered bytes of all clients together: those of heads and bodies that are on their way.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use super::{Resource, Resources};

/// The bytes that each client may have buffered, however many clients there are: as many as hyper makes room for at
/// once.
pub const FREE: usize = 8 * 1024;
/// The bytes that all clients together may have buffered beyond their free ones.
pub const BUFFERED: usize = 8 * 1024 * 1024;
/// The number of heads of the largest allowed size that fit into the bound in any case.
const HEADS: usize = 64;
/// The unit in which a client's part grows, so that most reads find the part large enough.
const GRAIN: usize = 4 * 1024;

/// The buffered bytes of all clients beyond their free ones, and their bound.
#[derive(Debug)]
pub struct Buffers {
    most: AtomicUsize,
    held: AtomicUsize,
}

/// The buffered bytes of one client beyond its free ones; the drop gives them back.
#[derive(Debug)]
pub struct Buffered {
    of: Arc<Resources>,
    held: usize,
}

impl Default for Buffers {
    fn default() -> Self {
        Self { most: AtomicUsize::new(BUFFERED), held: AtomicUsize::new(0) }
    }
}

impl Buffers {
    /// Sets the bound for heads of at most `largest_head` bytes.
    pub fn resize(&self, largest_head: usize) {
        self.most.store(BUFFERED.max(largest_head.saturating_mul(HEADS)), SeqCst);
    }

    /// Returns the bound in bytes.
    pub fn most(&self) -> usize {
        self.most.load(SeqCst)
    }

    fn take(&self, bytes: usize) -> bool {
        let most = self.most();
        let more = |held: usize| Some(held + bytes).filter(|held| *held <= most);
        self.held.fetch_update(SeqCst, SeqCst, more).is_ok()
    }
}

impl Buffered {
    /// Makes the part of a client that has nothing buffered yet.
    pub fn new(of: Arc<Resources>) -> Self {
        Self { of, held: 0 }
    }

    /// Makes the part large enough for so many bytes in all; false if the bound leaves no room for them.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let part = bytes.saturating_sub(FREE).next_multiple_of(GRAIN);
        let more = part.saturating_sub(self.held);
        let held = more == 0 || self.of.buffers.take(more);
        if held {
            self.held += more;
        }
        held
    }

    /// Counts and logs that the bound left no room.
    pub fn short(&self) {
        self.of.short_of(Resource::ClientBuffers);
    }

    /// True if the client has more buffered than its free bytes.
    pub fn is_held(&self) -> bool {
        self.held > 0
    }

    /// Gives all of the part back.
    pub fn release(&mut self) {
        self.of.buffers.held.fetch_sub(std::mem::take(&mut self.held), SeqCst);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.release();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_33_the_buffered_bytes_of_all_clients_have_a_bound_beyond_a_free_part_for_each() {
        let resources = Arc::new(Resources::default());
        let client = || Buffered::new(Arc::clone(&resources));
        let mut small: Vec<_> = (0..10_000).map(|_| client()).collect();
        assert!(small.iter_mut().all(|client| client.hold(FREE) && !client.is_held()));
        let mut large: Vec<_> = (0..3_071).map(|_| client()).collect();
        let held = large.iter_mut().filter_map(|client| client.hold(31 * 1024).then_some(()));
        assert_eq!(held.count(), BUFFERED / (24 * 1024));
        assert!(small[0].hold(FREE) && !small[0].hold(31 * 1024) && !large[3_000].hold(31 * 1024));
        drop(large);
        assert!(small[0].hold(FREE + BUFFERED), "all was given back");
        small[0].release();
        assert!(small[1].hold(FREE + BUFFERED));
    }

    #[test]
    fn fault_33_larger_heads_that_are_allowed_widen_the_bound() {
        let buffers = Buffers::default();
        buffers.resize(32 * 1024);
        assert_eq!(buffers.most(), BUFFERED);
        buffers.resize(1024 * 1024);
        assert_eq!(buffers.most(), 64 * 1024 * 1024);
    }
}
