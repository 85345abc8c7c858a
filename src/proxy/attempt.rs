//! The connection that an attempt went out on, as log lines and the `Proxy-Status` field describe it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use crate::{connect::connection::Facts, pool::Reuse, telemetry::log::seconds, upstream::Lease};

/// Facts about one attempt and its connection: the connection's number, the number of its exchanges (this one
/// included), its age and kind of reuse, and the time spent in the queue; and when the request was sent and the
/// response's first byte came.
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) uses: u64,
    pub(super) age: Duration,
    pub(super) reuse: Reuse,
    pub(super) queued: Duration,
    pub(super) facts: Arc<Facts>,
    sent: Instant,
    pub(super) answered: Option<Instant>,
}

impl Attempt {
    /// Records an attempt that goes out on this lease's connection now.
    pub(super) fn on(lease: &mut Lease, now: Instant) -> Self {
        Self {
            id: lease.id,
            uses: lease.uses,
            age: lease.age,
            reuse: lease.reuse,
            queued: lease.queued.unwrap_or_default(),
            facts: Arc::clone(&lease.handle().facts),
            sent: now,
            answered: None,
        }
    }

    /// Returns the time from sending to the response's first byte; `None` if none came.
    pub(super) fn first_byte(&self) -> Option<Duration> {
        self.answered.map(|answered| answered.saturating_duration_since(self.sent))
    }

    /// True if the connection was dialled for this exchange. A first use of a connection of the warm floor does not
    /// count.
    fn is_dialled(&self) -> bool {
        self.uses == 1 && self.reuse != Reuse::Reused
    }

    /// Returns the kind of the connection's TLS handshake; `none` unless the connection was dialled for this exchange.
    pub(super) fn tls(&self) -> &'static str {
        if self.is_dialled() { self.facts.handshake.as_str() } else { "none" }
    }

    /// Returns this time in seconds; 0 unless the connection was dialled for this exchange.
    pub(super) fn dialled(&self, time: Duration) -> f64 {
        if self.is_dialled() { seconds(time) } else { 0.0 }
    }
}
