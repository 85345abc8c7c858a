//! Explanations of what the pool has learned and of refused certificates, for readers who do not know the documents.

use crate::{
    pool::{Learned, Source},
    telemetry::log::HumanDuration,
    tls::VerifyFailure,
};

/// Explains what is wrong with a refused certificate.
pub(super) fn verify(failure: VerifyFailure) -> String {
    format!("the upstream's certificate was refused: {}", failure.as_str())
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
