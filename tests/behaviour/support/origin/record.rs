//! What an origin saw: the witness of the tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{HandshakeKind, ProtocolVersion};

use crate::support::{PATIENCE, message::Head};

/// How many requests are kept whole; later ones are only counted.
const KEPT_REQUESTS: usize = 10_000;

/// Everything that an origin saw so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Every connection, in order of acceptance.
    pub connections: Vec<ConnectionRecord>,
    /// The first requests, in order of their heads' arrival.
    pub requests: Vec<RequestRecord>,
    /// How many request heads came.
    pub request_count: usize,
    /// How often a request with this `x-id` came.
    pub deliveries: HashMap<String, u32>,
    /// Connections between acceptance and their peer's end, or ours.
    pub open: usize,
    /// The most of them at once.
    pub most_open: usize,
    /// What went wrong in the origin itself: panics of scripts, malformed requests.
    pub failures: Vec<String>,
}

/// One connection.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    /// The address of ours that it came to.
    pub local: SocketAddr,
    /// The address of the peer's.
    pub peer: SocketAddr,
    /// When it was accepted.
    pub accepted: Instant,
    /// When its peer's end was seen, or this side closed.
    pub ended: Option<Instant>,
    /// What the handshake agreed on, once it is done.
    pub handshake: Option<Handshake>,
    /// Why the handshake failed, if it did.
    pub handshake_error: Option<String>,
    /// Request heads that it carried.
    pub requests: usize,
    /// How the peer ended it; none while it has not, or when this side closed without waiting.
    pub end: Option<End>,
    /// Bytes that came after the peer's `close_notify`.
    pub bytes_after_close: usize,
}

/// What a handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// Whether a session was resumed.
    pub resumed: bool,
    /// TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The SNI, if any was sent.
    pub server_name: Option<String>,
    /// The client's leaf certificate in DER, if it showed one.
    pub client_certificate: Option<Vec<u8>>,
}

/// How the peer ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `close_notify`, then FIN (over plain TCP: FIN).
    Polite,
    /// FIN without `close_notify`.
    Truncated,
    /// RST.
    Reset,
}

/// One request's head, and the connection that carried it.
#[derive(Debug, Clone)]
pub struct RequestRecord {
    /// The connection's number.
    pub connection: usize,
    /// The target as written.
    pub target: String,
    /// The start line and all fields.
    pub head: Head,
}

impl Record {
    /// Finished handshakes that were full, and that were resumed.
    pub fn handshakes(&self) -> Handshakes {
        let done =
            || self.connections.iter().filter_map(|connection| connection.handshake.as_ref());
        Handshakes {
            full: done().filter(|handshake| !handshake.resumed).count(),
            resumed: done().filter(|handshake| handshake.resumed).count(),
        }
    }

    /// How the connections ended, in order of acceptance.
    pub fn ends(&self) -> Vec<Option<End>> {
        self.connections.iter().map(|connection| connection.end).collect()
    }

    /// Ids that were delivered more than once.
    pub fn duplicates(&self) -> Vec<&str> {
        let twice = self.deliveries.iter().filter(|(_, times)| **times > 1);
        twice.map(|(id, _)| id.as_str()).collect()
    }

    /// The last request.
    pub fn last_request(&self) -> &RequestRecord {
        self.requests.last().expect("a request reached the origin")
    }
}

/// How many handshakes were of which kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshakes {
    /// Without a session.
    pub full: usize,
    /// From a session.
    pub resumed: usize,
}

impl Handshake {
    /// What a finished handshake agreed on.
    pub(super) fn of(connection: &rustls::ServerConnection) -> Self {
        let leaf = connection.peer_certificates().and_then(|chain| chain.first());
        Self {
            resumed: connection.handshake_kind() == Some(HandshakeKind::Resumed),
            version: connection.protocol_version().expect("the handshake is done"),
            server_name: connection.server_name().map(str::to_string),
            client_certificate: leaf.map(|certificate| certificate.to_vec()),
        }
    }
}

/// The record behind its lock, and whoever waits for it to change.
#[derive(Debug, Default)]
pub(super) struct Witness {
    record: Mutex<Record>,
    changed: Condvar,
}

impl Witness {
    /// Changes the record and wakes those who wait.
    pub(super) fn update<T>(&self, change: impl FnOnce(&mut Record) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Reads the record.
    pub(super) fn read<T>(&self, read: impl FnOnce(&Record) -> T) -> T {
        read(&self.lock())
    }

    /// Blocks until the record fulfils the condition.
    ///
    /// # Panics
    /// When it does not within [`PATIENCE`].
    pub(super) fn wait_for(&self, what: &str, condition: impl Fn(&Record) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        let mut record = self.lock();
        while !condition(&record) {
            let left = deadline.saturating_duration_since(Instant::now());
            assert!(left > Duration::ZERO, "the origin never saw: {what}; it saw {record:#?}");
            let waited = self.changed.wait_timeout(record, left);
            record = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    pub(super) fn accepted(&self, local: SocketAddr, peer: SocketAddr) -> usize {
        self.update(|record| {
            let number = record.connections.len();
            record.connections.push(ConnectionRecord {
                local,
                peer,
                accepted: Instant::now(),
                ended: None,
                handshake: None,
                handshake_error: None,
                requests: 0,
                end: None,
                bytes_after_close: 0,
            });
            record.open += 1;
            record.most_open = record.most_open.max(record.open);
            number
        })
    }

    /// The connection is no longer open, whichever side ended it.
    pub(super) fn closed(&self, connection: usize) {
        self.update(|record| {
            record.open -= 1;
            record.connections[connection].ended = Some(Instant::now());
        });
    }

    pub(super) fn requested(&self, connection: usize, head: &Head) {
        let target = head.start.split(' ').nth(1).unwrap_or_default().to_string();
        self.update(|record| {
            record.connections[connection].requests += 1;
            record.request_count += 1;
            if let Some(id) = head.field("x-id") {
                *record.deliveries.entry(id.to_string()).or_default() += 1;
            }
            if record.requests.len() < KEPT_REQUESTS {
                record.requests.push(RequestRecord { connection, target, head: head.clone() });
            }
        });
    }

    pub(super) fn failed(&self, failure: String) {
        self.update(|record| record.failures.push(failure));
    }

    fn lock(&self) -> MutexGuard<'_, Record> {
        self.record.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
