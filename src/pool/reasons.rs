//! The labels for the end of a connection, the result of a checkout and a refusal, in metrics and log lines.

use crate::label;

label! {
    /// The reason for which a connection left the pool.
    pub enum EndReason {
        /// The connection was older than `maxAge`, less the jitter.
        Aged = "aged" => "older than maxAge",
        /// The connection had carried `maxRequests`, or as many requests as the upstream had announced that it takes.
        Requests = "requests" => "carried maxRequests",
        /// The connection had been idle for `idleTimeout`, or for the learned limit.
        Idle = "idle" => "idle for too long",
        /// The connection was closed by the purge rule, for `maxIdle`, for a waiter that could not take it and needed
        /// its place, or because the process was short of descriptors.
        Purged = "purged" => "more than needed (purgeDelay, maxIdle), or room for a retry",
        /// The upstream ended the connection while it was idle.
        PeerClosed = "peer-closed" => "the upstream closed it while it was idle",
        /// The connection is not reusable by the rules of HTTP, or its exchange broke.
        Unfit = "unfit" => "its exchange broke, or its response forbids reuse",
        /// The connection was found dead when a request was sent on it, or the kernel or a probe gave it up while it was
        /// idle.
        Stale = "stale" => "found dead when a request was sent on it, or given up by the kernel or a probe while idle",
        /// The connection's address is no longer in the newest answer for the name.
        Moved = "moved" => "its address left the name's DNS answer",
        /// The connection's generation was replaced by one with a newer certificate, key or trust.
        Rotated = "rotated" => "another certificate, key or trust is in force",
        /// The configuration changed the upstream's endpoint, TLS settings or header case, or left no place under the
        /// cap.
        Reconfigured = "reconfigured" => "another configuration is in force",
        /// The reuse mode (`reuse`) lets no client take the connection.
        Policy = "policy" => "pool.reuse lets no client take it",
        /// The connection's client authenticated itself on it (NTLM, Negotiate, `CredSSP`) and is gone, or stopped
        /// halfway: the server would take another client for this one.
        Authenticated = "authenticated" => "it had authenticated its client (NTLM, Negotiate, CredSSP), which left, or stopped halfway",
        /// An operator closed the connection, its upstream is no longer configured, or Warmline is ending.
        Drained = "drained" => "an operator closed it, or Warmline ends",
    }
}

label! {
    /// The reason for which a checkout reused a connection, or did not.
    pub enum Reuse {
        /// Reused: the connection was idle, or was just checked in.
        Reused = "reused" => "an idle connection, or one just checked in",
        /// New: reuse was forbidden, by the reuse mode (`reuse`) or because the request is a retry.
        Policy = "policy" => "reuse was forbidden: a retry, or pool.reuse",
        /// New: the idle connections belong to other clients, which have authenticated themselves on them; or the last
        /// one did.
        Authenticated = "authenticated" => "the idle ones belong to clients that authenticated themselves on them (NTLM, Negotiate, CredSSP)",
        /// New: the upstream closes idle connections at any time, and this request could not be sent again.
        Risky = "risky" => "it could not be sent again, and the upstream closes idle connections at any time",
        /// New: the request waited at the cap, then a place became free and was dialled in.
        Cap = "cap" => "waited at maxConnections, then dialled in a freed place",
        /// New: there were connections, but none was idle.
        Busy = "busy" => "connections existed, none was idle",
        /// New: the last connection had become too old.
        Aged = "aged" => "the last one had reached maxAge",
        /// New: the last connection had carried its requests.
        Requests = "requests" => "the last one had carried maxRequests",
        /// New: the last connection had been idle for too long.
        Idle = "idle" => "the last one had been idle for too long",
        /// New: the last connection was purged.
        Purged = "purged" => "the last one was purged (purgeDelay, maxIdle)",
        /// New: the upstream had ended the last connection.
        PeerClosed = "peer-closed" => "the upstream had closed the last one",
        /// New: the last connection was not reusable.
        Unfit = "unfit" => "the last one could not be used again",
        /// New: the last connection was found dead at use or while idle, or the idle ones are doubted.
        Stale = "stale" => "the last one was found dead, when used or while idle",
        /// New: the last connection's address was gone from the answer for the name.
        Moved = "moved" => "the last one's address left the name's DNS answer",
        /// New: a newer identity or trust had replaced the last connection's generation.
        Rotated = "rotated" => "certificate, key or trust had been replaced",
        /// New: the configuration had changed under the last connection.
        Reconfigured = "reconfigured" => "the configuration had changed",
        /// New: the last connection was closed by an operator, with its upstream's removal, or at Warmline's end.
        Drained = "drained" => "an operator had closed the last one, or Warmline ends",
        /// New: there was no connection before.
        First = "first" => "there was none before",
    }
}

impl EndReason {
    /// Returns the reason that the next checkout gives, if this was the reason for the last connection's end.
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
    /// The reason for which a checkout was refused.
    pub enum Rejection {
        /// As many waiters as `maxQueue` allows are queued.
        QueueFull = "queue-full" => "answered 503: the queue was full (maxQueue)",
        /// The request was queued for `queueTimeout`.
        QueueTimeout = "queue-timeout" => "answered 503: no place came free (queueTimeout)",
        /// By the speed of the queue the request would have been queued for longer than `queueTimeout`.
        Shed = "shed" => "answered 503 at once: its wait would have exceeded queueTimeout",
    }
}
