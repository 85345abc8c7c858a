//! The counts of one upstream, without those of its pool.

use std::borrow::Cow;

use crate::{
    connect::{ConnectError, Dialled},
    counted, label,
    telemetry::{Histogram, Recent, Tally},
    tls::{Handshake, VerifyFailure, Version},
};

label! {
    /// The outcome of a request, by the class of its status.
    pub enum Code {
        /// A status 1xx or 2xx.
        Success = "2xx",
        /// A status 3xx.
        Redirection = "3xx",
        /// A status 4xx: the client's fault.
        ClientError = "4xx",
        /// A status 5xx, from the upstream or from Warmline.
        ServerError = "5xx",
        /// The exchange broke off before the response's end.
        Aborted = "aborted",
    }
}

impl Code {
    /// Returns the class of a final status.
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
    /// The reason that an exchange was tried again.
    pub enum RetryReason {
        /// No connection could be made.
        DialFailed = "dial-failed" => "tried again: no connection could be made",
        /// hyper gave the request back, because not a byte of it was written.
        NotSent = "not-sent" => "tried again: nothing of it had been sent",
        /// The request was sent, no byte came back, and the request is idempotent.
        Unanswered = "unanswered" => "tried again: sent, idempotent, and no byte came back",
    }
}

label! {
    /// The reason that an exchange was not tried again, although a retry would have repeated no effect.
    pub enum RetryRefusal {
        /// The request has been retried `retries.max` times.
        Max = "max" => "not tried again: retries.max is reached",
        /// The budget (`retries.budget`) is used up.
        Budget = "budget" => "not tried again: retries.budget is used up",
    }
}

label! {
    /// The party at fault for a request that did not get a whole response.
    pub enum Party {
        /// The application.
        Client = "downstream",
        /// Warmline itself.
        Warmline = "us",
        /// The upstream.
        Upstream = "upstream",
    }
}

label! {
    /// The stage that an exchange was in when it ended.
    pub enum Stage {
        /// The request's header was being checked.
        Request = "request",
        /// The request waited in the queue for a connection.
        Queue = "queue",
        /// The request waited for a dial.
        Connect = "connect",
        /// The request waited for the response's header.
        Response = "response",
        /// The body of the request or the response was being relayed.
        Body = "body",
    }
}

counted! {
    /// The counts and times of exchanges.
    pub struct Exchanges, copied as ExchangesSnapshot {
        /// The requests that ended, by class.
        pub requests: Tally<Code>,
        /// The times from the request's header to the end of its response.
        pub request_seconds: Histogram,
        /// The times from the handing of the request to a connection to the end of its response.
        pub upstream_seconds: Histogram,
        /// The parts of the requests' times in which they did not wait for the upstream. Queue and connecting are included,
        /// but not dials that the upstream failed.
        pub added_seconds: Histogram,
        /// The attempts after the first.
        pub retries: Tally<RetryReason>,
        /// The retries that a limit forbade.
        pub retries_refused: Tally<RetryRefusal>,
        /// The requests that did not get a whole response, by the party and the stage that the field `end` of their log
        /// lines names.
        pub failed: Tally<(Party, Stage)>,
        /// The last failures.
        pub failures: Recent<Failed>,
    }
}

/// A failure to give a request a whole response, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// The status of Warmline's own answer; `None` if the exchange broke off after its response had begun.
    pub status: Option<u16>,
    /// The party at fault.
    pub by: Party,
    /// The stage in which the exchange failed.
    pub stage: Stage,
    /// The event in words; at most [`Failed::LONGEST`] bytes, and an ellipsis if it was cut.
    pub text: String,
}

impl Failed {
    /// The number of bytes of a text that are kept.
    pub const LONGEST: usize = 400;

    /// Makes a failure with this text, cut to [`Failed::LONGEST`] bytes.
    pub fn new(status: Option<u16>, by: Party, stage: Stage, text: String) -> Self {
        let mut text = text;
        if text.len() > Self::LONGEST {
            text.truncate(text.floor_char_boundary(Self::LONGEST));
            text.push('…');
        }
        Self { status, by, stage, text }
    }

    /// Returns the status that the application got, in words where there was none. A dial of the warm floor, which no
    /// request waits for, is the only failure of the upstream in this stage without a status.
    #[must_use]
    pub fn outcome(&self) -> Cow<'static, str> {
        match (self.status, self.by, self.stage) {
            (Some(status), _, _) => status.to_string().into(),
            (None, Party::Upstream, Stage::Connect) => "warm dial".into(),
            (None, _, _) => "broken off".into(),
        }
    }
}

/// The upper bounds of the buckets for exchanges, in microseconds: 1 ms to 10 s.
const EXCHANGE_BOUNDS: &[u64] = &[1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000, 10_000_000];
/// The upper bounds of the buckets for handshakes, in microseconds: 1 ms to 1 s.
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

counted! {
    /// All counts of one upstream.
    pub struct Counters, copied as CountersSnapshot {
        /// The counts and times of exchanges.
        pub exchanges: Exchanges,
        /// The TLS handshakes, by result and agreed version.
        pub handshakes: Tally<(Handshake, Version)>,
        /// The durations of finished handshakes.
        pub handshake_seconds: Histogram,
        /// The refused certificates, by the fault found.
        pub verify_failures: Tally<VerifyFailure>,
    }
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

    /// Counts a failed handshake, and the fault for which the upstream's certificate was refused, if it was.
    pub(super) fn handshake_failed(&self, error: &ConnectError) {
        self.handshakes.increment((Handshake::Failed, Version::None));
        if let ConnectError::Certificate { kind, .. } = error {
            self.verify_failures.increment(*kind);
        }
    }

    /// Counts a refusal of Warmline's certificate after the handshake was over on this side. In TLS 1.3 the client's
    /// certificate is part of the handshake's last flight (RFC 8446 section 2, figure 1).
    pub fn identity_refused(&self, version: Version) {
        self.handshakes.increment((Handshake::Failed, version));
    }
}
