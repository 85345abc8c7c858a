//! How a connection ended, and by whom: the same words for both sides.

use super::Tally;
use crate::label;

label! {
    /// Who ended a connection.
    pub enum Side {
        /// Warmline.
        Us = "us",
        /// The other end.
        Peer = "peer",
    }
}

label! {
    /// How a connection ended.
    pub enum Manner {
        /// With FIN, and over TLS with `close_notify` before it.
        Polite = "polite",
        /// With FIN in the middle of something, or over TLS without `close_notify`.
        Truncated = "truncated",
        /// With RST, or in an error.
        Reset = "reset",
    }
}

label! {
    /// Whose connection it was.
    pub enum Facing {
        /// The application's.
        Downstream = "downstream",
        /// An upstream's.
        Upstream = "upstream",
    }
}

/// `connection_ends_total`.
pub type Ends = Tally<(Facing, Manner)>;
