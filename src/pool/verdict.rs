//! The verdict with which each lease ends.

use super::{EndReason, learned::KeepAlive};

/// The state in which an exchange leaves its connection. The code that drives the connection decides; the pool never
/// concludes the verdict from the number of streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The connection is fit for another exchange; the content of the response's `Keep-Alive` field.
    Fit(Option<KeepAlive>),
    /// The exchange failed, and its connection did not. The failure teaches nothing about the upstream's idle limit.
    StreamFailed,
    /// The connection must take no other exchange, for this reason, and closes once those under way have ended.
    Unfit(EndReason),
}

impl Verdict {
    /// Returns the reason for which the connection must take no other exchange; `None` if it may take one.
    pub(super) fn unfit(self) -> Option<EndReason> {
        match self {
            Self::Fit(_) | Self::StreamFailed => None,
            Self::Unfit(reason) => Some(reason),
        }
    }
}
