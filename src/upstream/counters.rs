//! What is counted for one upstream, beside what its pool counts.

use crate::{
    connect::{ConnectError, Dialled},
    label,
    telemetry::{Histogram, Recent, Tally},
    tls::{Handshake, VerifyFailure, Version},
};

label! {
    /// What a request came to.
    pub enum Code {
        /// Success.
        Success = "2xx",
        /// Redirection.
        Redirection = "3xx",
        /// The client's fault.
        ClientError = "4xx",
        /// The server's fault, or ours.
        ServerError = "5xx",
        /// It broke before its end.
        Aborted = "aborted",
    }
}

impl Code {
    /// The class of a final status.
    pub fn of(status: http::StatusCode) -> Self {
        match status.as_u16() / 100 {
            3 => Self::Redirection,
            4 => Self::ClientError,
            5.. => Self::ServerError,
            _ => Self::Success,
        }
    }
}

label! {
    /// Why an exchange was tried again.
    pub enum RetryReason {
        /// No connection could be made.
        DialFailed = "dial-failed",
        /// hyper gave the request back: not a byte of it was written.
        NotSent = "not-sent",
        /// It was sent, no byte came back, and it is idempotent.
        Unanswered = "unanswered",
    }
}

label! {
    /// Why an exchange was not tried again, though nothing would have been done twice.
    pub enum RetryRefusal {
        /// `retries.max` tries were made.
        Max = "max",
        /// `retries.budget` is used up.
        Budget = "budget",
    }
}

label! {
    /// Whose doing it is that a request did not get a whole response.
    pub enum Party {
        /// The application's.
        Downstream = "downstream",
        /// Our own.
        Us = "us",
        /// The upstream's.
        Upstream = "upstream",
    }
}

label! {
    /// The stage that an exchange was in when it ended.
    pub enum Stage {
        /// Its header was judged.
        Request = "request",
        /// It waited for a connection, in the queue.
        Queue = "queue",
        /// It waited for a connection, by dial.
        Connect = "connect",
        /// It waited for the response's header.
        Response = "response",
        /// A body was on its way.
        Body = "body",
    }
}

/// Counts and times of exchanges.
#[derive(Debug)]
pub struct Exchanges {
    /// Requests ended, by class.
    pub requests: Tally<Code>,
    /// From the request's header to the end of its response.
    pub request_seconds: Histogram,
    /// From the request handed to a connection to the end of its response.
    pub upstream_seconds: Histogram,
    /// The part of a request's time in which it waited for no upstream: queue and connecting included, but no dial that the
    /// upstream failed.
    pub added_seconds: Histogram,
    /// Tries after the first.
    pub retries: Tally<RetryReason>,
    /// Tries that the limits forbade.
    pub retries_refused: Tally<RetryRefusal>,
    /// Those that did not get a whole response, as their log lines' `end` has it.
    pub failed: Tally<(Party, Stage)>,
    /// The last of them.
    pub failures: Recent<Failed>,
}

/// Why a request did not get a whole response, as people read it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The status of our answer; `None` where it broke off when its answer was on its way.
    pub status: Option<u16>,
    /// Whose doing it is.
    pub by: Party,
    /// The stage that it was in.
    pub stage: Stage,
    /// What happened; at most [`Failed::LONGEST`] bytes of it.
    pub text: String,
}

impl Failed {
    /// Bytes of a text that are kept.
    pub const LONGEST: usize = 400;

    /// One with this text, or its beginning.
    pub fn new(status: Option<u16>, by: Party, stage: Stage, text: String) -> Self {
        let mut text = text;
        if text.len() > Self::LONGEST {
            text.truncate(text.floor_char_boundary(Self::LONGEST));
            text.push('…');
        }
        Self { status, by, stage, text }
    }
}

/// 1 ms to 10 s.
const EXCHANGE_BOUNDS: &[u64] = &[1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];
/// 1 ms to 1 s.
const HANDSHAKE_BOUNDS: &[u64] = &[1_000, 5_000, 20_000, 50_000, 100_000, 250_000, 1_000_000];

impl Default for Exchanges {
    fn default() -> Self {
        Self {
            requests: Tally::default(),
            request_seconds: Histogram::fine(EXCHANGE_BOUNDS),
            upstream_seconds: Histogram::new(EXCHANGE_BOUNDS),
            added_seconds: Histogram::new(&[]),
            retries: Tally::default(),
            retries_refused: Tally::default(),
            failed: Tally::default(),
            failures: Recent::default(),
        }
    }
}

/// Everything counted for one upstream.
#[derive(Debug)]
pub struct Counters {
    /// Exchanges.
    pub exchanges: Exchanges,
    /// TLS handshakes, by how they went and the version agreed.
    pub handshakes: Tally<(Handshake, Version)>,
    /// How long finished handshakes took.
    pub handshake_seconds: Histogram,
    /// Certificates refused.
    pub verify_failures: Tally<VerifyFailure>,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            exchanges: Exchanges::default(),
            handshakes: Tally::default(),
            handshake_seconds: Histogram::fine(HANDSHAKE_BOUNDS),
            verify_failures: Tally::default(),
        }
    }
}

impl Counters {
    pub(super) fn handshake_done(&self, dialled: &Dialled) {
        self.handshakes.increment((dialled.handshake, dialled.version));
        self.handshake_seconds.observe(dialled.handshake_time);
    }

    pub(super) fn handshake_failed(&self, error: &ConnectError) {
        self.handshakes.increment((Handshake::Failed, Version::None));
        if let ConnectError::Certificate { kind, .. } = error {
            self.verify_failures.increment(*kind);
        }
    }

    /// The upstream refused our certificate after the handshake was done on our side (RFC 8446 section 4.6.2 has the
    /// server judge it last).
    pub fn identity_refused(&self, version: Version) {
        self.handshakes.increment((Handshake::Failed, version));
    }
}
