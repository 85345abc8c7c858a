//! The record of all that an origin saw: the witness of the tests.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use rustls::{HandshakeKind, ProtocolVersion};

use crate::support::{PATIENCE, message::Head};

/// The number of requests that are kept completely; later ones are only counted.
const KEPT_REQUESTS: usize = 10_000;

/// Everything that an origin saw so far.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// All connections, in order of acceptance.
    pub connections: Vec<ConnectionRecord>,
    /// The first requests, in order of their heads' arrival.
    pub requests: Vec<RequestRecord>,
    /// The number of request heads that came.
    pub request_count: usize,
    /// The number of requests by their field `x-id`.
    pub deliveries: HashMap<String, u32>,
    /// The number of connections that neither side has ended.
    pub open: usize,
    /// The highest value of `open` so far.
    pub most_open: usize,
    /// Faults of the origin itself or of its peers: panics of scripts, malformed requests.
    pub failures: Vec<String>,
}

/// The record of one connection.
#[derive(Debug, Clone)]
pub struct ConnectionRecord {
    /// The origin's address of this connection.
    pub local: SocketAddr,
    /// The peer's address of this connection.
    pub peer: SocketAddr,
    /// The time of its acceptance.
    pub accepted: Instant,
    /// The time at which the peer's end was seen or the origin closed.
    pub ended: Option<Instant>,
    /// The result of the handshake, once it is done.
    pub handshake: Option<Handshake>,
    /// The error of a handshake that failed.
    pub handshake_error: Option<String>,
    /// The number of request heads that this connection carried.
    pub requests: usize,
    /// The way in which the peer ended this connection; `None` while open, or if the origin closed without waiting for
    /// that.
    pub end: Option<End>,
    /// The number of bytes that came after the peer's `close_notify`.
    pub bytes_after_close: usize,
}

/// The result of a handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Handshake {
    /// True if a session was resumed.
    pub resumed: bool,
    /// The version, TLS 1.2 or 1.3.
    pub version: ProtocolVersion,
    /// The server name (SNI), if any was sent.
    pub server_name: Option<String>,
    /// The client's leaf certificate in DER, if any was shown.
    pub client_certificate: Option<Vec<u8>>,
}

/// The way in which the peer ended a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// `close_notify`, then FIN (over plain TCP: FIN).
    Polite,
    /// FIN without `close_notify`.
    Truncated,
    /// RST.
    Reset,
}

/// A request's head, and the number of its connection.
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
    /// Returns the numbers of full and of resumed handshakes.
    pub fn handshakes(&self) -> Handshakes {
        let done =
            || self.connections.iter().filter_map(|connection| connection.handshake.as_ref());
        Handshakes {
            full: done().filter(|handshake| !handshake.resumed).count(),
            resumed: done().filter(|handshake| handshake.resumed).count(),
        }
    }

    /// Returns the ends of the connections, in order of acceptance.
    pub fn ends(&self) -> Vec<Option<End>> {
        self.connections.iter().map(|connection| connection.end).collect()
    }

    /// Returns the ids that were delivered more than once.
    pub fn duplicates(&self) -> Vec<&str> {
        let twice = self.deliveries.iter().filter(|(_, times)| **times > 1);
        twice.map(|(id, _)| id.as_str()).collect()
    }

    /// Returns the last request; panics if none came.
    pub fn last_request(&self) -> &RequestRecord {
        self.requests.last().expect("a request reached the origin")
    }
}

/// The numbers of finished handshakes by kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Handshakes {
    /// Handshakes without a session.
    pub full: usize,
    /// Handshakes that resumed a session.
    pub resumed: usize,
}

impl Handshake {
    /// Reads the result of a finished handshake.
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

/// The record behind its lock, and the signal of its changes.
#[derive(Debug, Default)]
pub(super) struct Witness {
    record: Mutex<Record>,
    changed: Condvar,
}

impl Witness {
    /// Changes the record and wakes all waiting threads.
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
    /// If it does not within [`PATIENCE`].
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

    /// Records that a connection is no longer open, whichever side ended it.
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
