//! Explanations of the labels in metrics, for readers who do not know the documents.

use crate::{
    pool::{EndReason, Learned, Rejection, Reuse, Source},
    telemetry::log::HumanDuration,
    tls::{Handshake, VerifyFailure},
    upstream::{RetryReason, RetryRefusal},
};

/// Explains why a request got a new connection.
pub(super) fn reuse(reason: Reuse) -> &'static str {
    match reason {
        Reuse::Risky => {
            "it could not be sent again, and the upstream closes idle connections at any time"
        }
        Reuse::Reused => "an idle connection, or one just checked in",
        Reuse::Policy => "reuse was forbidden: a retry, or pool.reuse",
        Reuse::Authenticated => {
            "the idle ones belong to clients that authenticated themselves on them (NTLM, Negotiate, CredSSP)"
        }
        Reuse::Cap => "waited at maxConnections, then dialled in a freed place",
        Reuse::Busy => "connections existed, none was idle",
        Reuse::Aged => "the last one had reached maxAge",
        Reuse::Requests => "the last one had carried maxRequests",
        Reuse::Idle => "the last one had been idle for too long",
        Reuse::Purged => "the last one was purged (purgeDelay, maxIdle)",
        Reuse::PeerClosed => "the upstream had closed the last one",
        Reuse::Unfit => "the last one could not be used again",
        Reuse::Stale => "the last one was found dead when used",
        Reuse::Moved => "the last one's address left the name's DNS answer",
        Reuse::Rotated => "certificate, key or trust had been replaced",
        Reuse::Reconfigured => "the configuration had changed",
        Reuse::Drained => "an operator had closed the last one, or Warmline ends",
        Reuse::First => "there was none before",
    }
}

/// Explains why a connection ended.
pub(super) fn end(reason: EndReason) -> &'static str {
    match reason {
        EndReason::Aged => "older than maxAge",
        EndReason::Requests => "carried maxRequests",
        EndReason::Idle => "idle for too long",
        EndReason::Purged => "more than needed (purgeDelay, maxIdle), or room for a retry",
        EndReason::PeerClosed => "the upstream closed it while it was idle",
        EndReason::Unfit => "its exchange broke, or its response forbids reuse",
        EndReason::Stale => "found dead when a request was sent on it",
        EndReason::Moved => "its address left the name's DNS answer",
        EndReason::Rotated => "another certificate, key or trust is in force",
        EndReason::Reconfigured => "another configuration is in force",
        EndReason::Policy => "pool.reuse leaves nobody who may take it",
        EndReason::Authenticated => {
            "it had authenticated its client (NTLM, Negotiate, CredSSP), which left, or stopped in the midst of that"
        }
        EndReason::Drained => "an operator closed it, or Warmline ends",
    }
}

/// Explains a handshake's result.
pub(super) fn handshake(result: Handshake) -> &'static str {
    match result {
        Handshake::Full => "no session was offered: none was at hand, or this was the second try",
        Handshake::Resumed => "an earlier session went on",
        Handshake::Refused => "we offered a session, the upstream did not take it",
        Handshake::Failed => {
            "it broke off, perhaps healed by a second try; or, with TLS 1.3, our certificate was refused after it"
        }
    }
}

/// Explains what is wrong with a refused certificate.
pub(super) fn verify(failure: VerifyFailure) -> String {
    format!("the upstream's certificate was refused: {}", failure.as_str())
}

/// Explains why a request was tried again.
pub(super) fn retry(reason: RetryReason) -> &'static str {
    match reason {
        RetryReason::DialFailed => "tried again: no connection could be made",
        RetryReason::NotSent => "tried again: nothing of it had been sent",
        RetryReason::Unanswered => "tried again: sent, idempotent, and no byte came back",
    }
}

/// Explains why a request was not tried again.
pub(super) fn retry_refused(reason: RetryRefusal) -> &'static str {
    match reason {
        RetryRefusal::Max => "not tried again: retries.max is reached",
        RetryRefusal::Budget => "not tried again: retries.budget is used up",
    }
}

/// Explains why a request was answered with 503.
pub(super) fn rejection(reason: Rejection) -> &'static str {
    match reason {
        Rejection::QueueFull => "answered 503: the queue was full (maxQueue)",
        Rejection::Shed => "answered 503 at once: its wait would have exceeded queueTimeout",
        Rejection::QueueTimeout => "answered 503: no place came free (queueTimeout)",
    }
}

/// The explanation of an upstream that closes idle connections at any time.
pub(super) const CLOSES_AT_ANY_TIME: &str =
    "the upstream closes idle connections at any time: what could not be sent again gets a new one";

/// Explains the idle time that the pool allows because the upstream closes early.
pub(super) fn learned(learned: Learned) -> String {
    let how = match learned.from {
        Source::Announced => "the upstream announces when it closes (Keep-Alive)",
        Source::Seen => "the upstream was seen to close idle connections",
    };
    if learned.limit.is_zero() {
        return format!("no connection is kept idle: {how}");
    }
    format!("idle connections retire after {}: {how}", HumanDuration(learned.limit))
}
