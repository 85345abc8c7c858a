//! Why: the words for a connection's end, a checkout's result and a refusal, in metrics and log lines.

use crate::label;

label! {
    /// Why a connection left the pool.
    pub enum EndReason {
        /// Older than `maxAge`, less the jitter.
        Aged = "aged",
        /// Carried `maxRequests`.
        Requests = "requests",
        /// Idle for `idleTimeout`.
        Idle = "idle",
        /// By the purge rule, `maxIdle`, to make room for a retry, or as descriptors were used up.
        Purged = "purged",
        /// The upstream ended it while it was idle.
        PeerClosed = "peer-closed",
        /// Not reusable by the rules of HTTP, or its exchange broke.
        Unfit = "unfit",
        /// Found dead when a request was sent on it.
        Stale = "stale",
        /// Its address is no longer in the name's newest answer.
        Moved = "moved",
        /// A newer certificate, key or trust took its generation's place.
        Rotated = "rotated",
        /// The configuration changed its key, or left it no place under the cap.
        Reconfigured = "reconfigured",
        /// `reuse` leaves nobody who may take it.
        Policy = "policy",
        /// Its client authenticated itself on it (NTLM, Negotiate, `CredSSP`) and is gone, or stopped in the midst of that: nobody else may be served as that client.
        Authenticated = "authenticated",
        /// An operator closed it, or Warmline is ending.
        Drained = "drained",
    }
}

label! {
    /// Why a checkout reused a connection, or did not.
    pub enum Reuse {
        /// An idle connection, or one that was just checked in.
        Reused = "reused",
        /// New: reuse was forbidden (by `reuse`, or to a retry).
        Policy = "policy",
        /// New: those that were idle belong to other clients, which authenticated themselves on them; or so did the last one.
        Authenticated = "authenticated",
        /// New: the upstream closes idle connections at any time, and this request could not be sent again.
        Risky = "risky",
        /// New: waited at the cap, then dialled in a freed place.
        Cap = "cap",
        /// New: connections existed, none was idle.
        Busy = "busy",
        /// New: the last one had become too old.
        Aged = "aged",
        /// New: the last one had carried its requests.
        Requests = "requests",
        /// New: the last one had been idle for too long.
        Idle = "idle",
        /// New: the last one was purged.
        Purged = "purged",
        /// New: the upstream had ended the last one.
        PeerClosed = "peer-closed",
        /// New: the last one was not reusable.
        Unfit = "unfit",
        /// New: the last one was found dead at use.
        Stale = "stale",
        /// New: the last one's address was gone from the name's answer.
        Moved = "moved",
        /// New: a newer identity or trust had taken the last one's place.
        Rotated = "rotated",
        /// New: the configuration had changed under the last one.
        Reconfigured = "reconfigured",
        /// New: an operator closed the last one, or Warmline is ending.
        Drained = "drained",
        /// New: there never was one.
        First = "first",
    }
}

impl EndReason {
    /// The same reason, as what it makes of the next checkout.
    pub(super) const fn as_reuse(self) -> Reuse {
        match self {
            Self::Aged => Reuse::Aged,
            Self::Requests => Reuse::Requests,
            Self::Idle => Reuse::Idle,
            Self::Purged => Reuse::Purged,
            Self::PeerClosed => Reuse::PeerClosed,
            Self::Unfit => Reuse::Unfit,
            Self::Stale => Reuse::Stale,
            Self::Moved => Reuse::Moved,
            Self::Rotated => Reuse::Rotated,
            Self::Reconfigured => Reuse::Reconfigured,
            Self::Policy => Reuse::Policy,
            Self::Authenticated => Reuse::Authenticated,
            Self::Drained => Reuse::Drained,
        }
    }
}

label! {
    /// Why a checkout was refused.
    pub enum Rejection {
        /// `maxQueue` waiters stand at the cap already.
        QueueFull = "queue-full",
        /// It stood at the cap for `queueTimeout`.
        QueueTimeout = "queue-timeout",
        /// By the pace of the queue it would have stood there for longer than that.
        Shed = "shed",
    }
}
