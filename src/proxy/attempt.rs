//! The connection that an attempt went out on, as log lines and answers tell it.

use std::{sync::Arc, time::Duration};

use crate::{connect::connection::Facts, pool::Reuse, telemetry::log::seconds, upstream::Lease};

/// See the module.
pub(super) struct Attempt {
    pub(super) id: u64,
    pub(super) uses: u64,
    pub(super) age: Duration,
    pub(super) reuse: Reuse,
    pub(super) queued: Duration,
    pub(super) facts: Arc<Facts>,
    pub(super) first_byte: Option<Duration>,
}

impl Attempt {
    /// One that goes out now.
    pub(super) fn on(lease: &mut Lease) -> Self {
        Self {
            id: lease.id,
            uses: lease.uses,
            age: lease.age,
            reuse: lease.reuse,
            queued: lease.queued.unwrap_or_default(),
            facts: Arc::clone(&lease.handle().facts),
            first_byte: None,
        }
    }

    /// It was dialled for this exchange: one of the warm floor was not.
    fn is_dialled(&self) -> bool {
        self.uses == 1 && self.reuse != Reuse::Reused
    }

    /// How its handshake went, if it was made for this exchange.
    pub(super) fn tls(&self) -> &'static str {
        if self.is_dialled() { self.facts.handshake.as_str() } else { "none" }
    }

    /// Seconds spent to make the connection, if it was made for this exchange.
    pub(super) fn dialled(&self, time: Duration) -> f64 {
        if self.is_dialled() { seconds(time) } else { 0.0 }
    }
}
