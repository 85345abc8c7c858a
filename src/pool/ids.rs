//! The ids of connections, waiters and clients, and maps keyed by them.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

/// The number of a connection within its pool; never used twice.
pub type ConnectionId = u64;

/// The number of a waiter within its pool; ascending, so the order of ids is the order of arrival.
pub type WaiterId = u64;

/// The number of a client (an application's connection), unique within the process; `proxy` assigns it.
pub type ClientId = u64;

/// A map keyed by ids.
pub(super) type IdMap<V> = HashMap<u64, V, BuildHasherDefault<IdHasher>>;

/// A fast hash for ids. The pool counts them itself, so that no peer can choose ids that collide: one multiplication is
/// enough, where the standard hash would cost more than all the rest of a checkout of an idle connection.
#[derive(Debug, Default)]
pub(super) struct IdHasher(u64);

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
