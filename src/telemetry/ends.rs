//! The ends of connections, of clients and to upstreams alike: who ended them, and in which manner.

use super::Tally;
use crate::label;

label! {
    /// The side that ended a connection.
    pub enum Side {
        /// Warmline.
        Us = "us",
        /// The other end: the client or the upstream.
        Peer = "peer",
    }
}

label! {
    /// The manner in which a connection ended.
    pub enum Manner {
        /// With FIN, and over TLS with `close_notify` before it.
        Polite = "polite",
        /// With FIN in the middle of a message, or over TLS without `close_notify`.
        Truncated = "truncated",
        /// With RST, or in an error.
        Reset = "reset",
    }
}

label! {
    /// The kind of connection: a client's, or one to an upstream.
    pub enum Facing {
        /// A client's connection.
        Client = "downstream",
        /// A connection to an upstream.
        Upstream = "upstream",
    }
}

impl Manner {
    /// Returns the manner in which Warmline closed a connection's socket: politely, or else by a reset.
    pub fn of_close(polite: bool) -> Self {
        if polite { Self::Polite } else { Self::Reset }
    }
}

/// The counters of the metric `connection_ends_total`.
pub type Ends = Tally<(Facing, Manner)>;
