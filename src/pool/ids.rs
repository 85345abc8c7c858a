//! Names of connections and waiters, and maps keyed by them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// Names a connection within its pool; never used twice.
pub type ConnectionId = u64;

/// Names a waiter within its pool; ascending, so the order of ids is the order of arrival.
pub type WaiterId = u64;

/// Names a client connection, whoever counts those.
pub type ClientId = u64;

/// A map keyed by ids.
pub type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// Spreads ids. They are counted by the pool itself, so nobody can choose them to collide: one multiplication is
/// enough, where the standard hash would cost more than all else that a warm checkout does.
#[derive(Debug, Default)]
pub struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(self.0 ^ u64::from(*byte));
        }
    }

    fn write_u64(&mut self, id: u64) {
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
