//! The table of failures: [`Failure`] has the text of each, and its [`Row`] the stage, the side at fault, the status,
//! the error type for `Proxy-Status`, and whether the client's connection closes.

use std::{
    borrow::Cow,
    io::{self, ErrorKind},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use http::StatusCode;
use rustix::io::Errno;
use rustls::AlertDescription;

use super::{super::client::AUTHENTICATION_PAUSE_LIMIT, ENDING, Replaced};
use crate::{
    connect::{ConnectError, NameFault, ended_with, meter::Refusal},
    pool::Rejection,
    tls::CertificateUse,
    upstream::{DialFailure, Party, Stage},
};

/// The reason for which Warmline answered an exchange itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request breaks a rule of HTTP, or asks for something that Warmline does not serve.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// The request's header is larger than `limits.headerBytes`, or has more fields than `limits.headerFields`.
    #[error(
        "the request's header is too large: {bytes} bytes (limits.headerBytes) and {fields} fields (limits.headerFields of \
         listeners) are the most"
    )]
    HeaderTooLarge {
        /// `limits.headerBytes`.
        bytes: usize,
        /// `limits.headerFields`.
        fields: usize,
    },
    /// The request's header was not complete within `limits.headerTimeout`.
    #[error("the request's header was not complete in time (limits.headerTimeout of listeners)")]
    HeaderTimeout,
    /// The request's header exceeds 8 KiB, and the large headers of all clients together exceed the memory that is set
    /// aside for them.
    #[error(
        "the request's header is larger than 8 KiB, and so are those of too many other clients at this moment; try again"
    )]
    Crowded,
    /// No upstream is configured for the request's host.
    #[error("no upstream is configured for the host {host:?}")]
    UnknownHost {
        /// The host as the client wrote it.
        host: String,
        /// The hosts that are configured.
        hosts: Arc<Vec<String>>,
        /// True if the path is one of those that the administration port has, or `/stats`.
        stats: bool,
    },
    /// The method was CONNECT.
    #[error(
        "CONNECT is not served: Warmline makes the TLS connection itself, so send plain http:// requests"
    )]
    Connect,
    /// The pool gave the request no connection: all were taken.
    #[error("pool.maxConnections ({max}) is reached: {}", match .rejection {
        Rejection::QueueFull => "the queue for connections (pool.maxQueue) is full".to_owned(),
        Rejection::QueueTimeout => format!("none came free within pool.queueTimeout ({limit:?})"),
        Rejection::Shed => format!(
            "the queue for connections is too slow to serve one more within pool.queueTimeout ({limit:?})"
        ),
    })]
    Queue {
        /// The reason: the queue was full, too slow, or the time in it was over.
        rejection: Rejection,
        /// `pool.maxConnections`.
        max: usize,
        /// `pool.queueTimeout`.
        limit: Duration,
    },
    /// The dial for the request failed.
    #[error(transparent)]
    Dial(Arc<DialFailure>),
    /// Each new connection was outdated before it was ready, as settings changed during its handshake.
    #[error(
        "no connection within {0:?} (timeouts.connect and timeouts.handshake together): each new connection was outdated \
         before it was ready, as certificates, trust or TLS settings of this upstream change faster than a handshake takes"
    )]
    Outdated(Duration),
    /// The upstream ended a new connection with a TLS alert, as a rule because of Warmline's certificate.
    #[error("{peer} {}", ended_with(*.alert, *.shown))]
    IdentityRefused {
        /// The upstream's address.
        peer: SocketAddr,
        /// The TLS alert.
        alert: AlertDescription,
        /// The use of Warmline's certificate in that handshake: sent, or why not.
        shown: CertificateUse,
    },
    /// The connection ended in a way in which the next one would end, too.
    #[error(
        "{peer} {refusal}; this is not tried again, as the next connection would end in the same way"
    )]
    Refused {
        /// The upstream's address.
        peer: SocketAddr,
        /// The upstream's act that ended the connection.
        refusal: Refusal,
    },
    /// The connection ended after the request was sent, before a response.
    #[error(
        "the upstream closed the connection before its response ({reason}); the request was sent {}, may have been processed, and is not sent again",
        times(*.sent)
    )]
    Unanswered {
        /// hyper's description of the end.
        reason: String,
        /// The number of times that the request was sent.
        sent: u32,
    },
    /// The kernel gave the connection up, as nothing that was sent was acknowledged.
    #[error(
        "nothing of the request was acknowledged within {limit:?} (timeouts.connect, and at most half of timeouts.response): \
         the network no longer knows the connection; the request was sent {}, may have been processed, and is not sent again",
        times(*.sent)
    )]
    Forgotten {
        /// The time without an acknowledgement after which the kernel gave up.
        limit: Duration,
        /// The number of times that the request was sent.
        sent: u32,
    },
    /// The connection ended before the request was sent, more often than `retries.max` allows.
    #[error("the upstream closed each connection before the request was sent ({reason})")]
    NotSent {
        /// hyper's description of the last end.
        reason: String,
    },
    /// The contained failure would have been followed by a retry, but the retry budget was used up.
    #[error("the retry budget is used up (retries.budget), and so this is not tried again: {0}")]
    BudgetUsedUp(Box<Self>),
    /// Warmline ended the connection of the exchange, for this reason.
    #[error(
        "{0} while the request was on its way; such requests end after pool.rotationDeadline, or at once where the upstream \
         is trusted no more; it may have been processed, and is not sent again"
    )]
    Replaced(Replaced),
    /// The connection ended in the middle of an authentication handshake that belongs to it.
    #[error(
        "the connection on which this client was authenticating itself (NTLM, Negotiate or CredSSP) has ended, and no other one \
         knows the beginning of that handshake: begin it again on a new connection"
    )]
    LoginLost,
    /// The client sent no request for too long in the middle of an authentication handshake.
    #[error(
        "the connection on which this client was authenticating itself (NTLM, Negotiate or CredSSP) was closed after {AUTHENTICATION_PAUSE_LIMIT:?} \
         without a request from the client, as others may wait for the place: begin it again on a new connection"
    )]
    LoginLate,
    /// The response broke off in its header, or is not HTTP.
    #[error("the upstream's response cannot be read: {0}")]
    Malformed(Cow<'static, str>),
    /// No response began within `timeouts.response`.
    #[error("no response within {0:?} (timeouts.response)")]
    ResponseTimeout(Duration),
    /// The upstream took no byte of the request for `timeouts.idle`.
    #[error("the upstream took no byte of the request for {0:?} (timeouts.idle)")]
    UploadIdle(Duration),
    /// The client sent no byte of the request's body for `timeouts.idle`.
    #[error("the client sent no byte of its request's body for {0:?} (timeouts.idle)")]
    UploadStalled(Duration),
    /// The client broke its request off.
    #[error("the request's body broke off")]
    UploadBroken,
    /// The time for the drain was over while the exchange was in this stage.
    #[error("{ENDING}")]
    Ending(Stage),
}

/// Returns a number of times in words: `once`, `2 times`.
fn times(sent: u32) -> Cow<'static, str> {
    match sent {
        1 => "once".into(),
        times => format!("{times} times").into(),
    }
}

/// The row of one failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Row {
    /// The stage of the exchange in which the failure occurred.
    pub(super) stage: Stage,
    /// The side that caused the failure.
    pub(super) by: Party,
    /// The status code of the answer.
    pub(super) status: StatusCode,
    /// The error type for `Proxy-Status` (RFC 9209 section 2.3).
    pub(super) error_type: &'static str,
    /// True if the client's connection must close after the answer.
    pub(super) closes: bool,
}

/// Makes the row of a failure after which the client may use its connection again.
const fn row(stage: Stage, by: Party, status: StatusCode, error_type: &'static str) -> Row {
    Row { stage, by, status, error_type, closes: false }
}

impl Row {
    const fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// Returns the row of this failure.
    #[rustfmt::skip]
    pub(super) fn of(failure: &Failure) -> Self {
        use {Failure as F, Party as By, Stage as At, StatusCode as S};
        match failure {
            F::BadRequest(_)          => row(At::Request, By::Client, S::BAD_REQUEST, "http_request_error").closing(),
            F::HeaderTooLarge { .. }  => row(At::Request, By::Client, S::REQUEST_HEADER_FIELDS_TOO_LARGE, "http_request_error").closing(),
            F::HeaderTimeout          => row(At::Request, By::Client, S::REQUEST_TIMEOUT, "http_request_error").closing(),
            F::Crowded                => row(At::Request, By::Warmline, S::SERVICE_UNAVAILABLE, "proxy_internal_response").closing(),
            F::UnknownHost { .. }     => row(At::Request, By::Client, S::NOT_FOUND, "destination_not_found"),
            F::Connect                => row(At::Request, By::Client, S::METHOD_NOT_ALLOWED, "http_request_denied"),
            F::Queue { .. }           => row(At::Queue, By::Warmline, S::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            F::Dial(failed)           => Self::of_dial(&failed.error),
            F::Outdated(_)            => row(At::Connect, By::Warmline, S::GATEWAY_TIMEOUT, "connection_timeout"),
            F::IdentityRefused { .. } => row(At::Connect, By::Upstream, S::BAD_GATEWAY, "tls_alert_received"),
            F::NotSent { .. }         => row(At::Connect, By::Upstream, S::BAD_GATEWAY, "connection_terminated"),
            F::Unanswered { .. }      => row(At::Response, By::Upstream, S::BAD_GATEWAY, "http_response_incomplete"),
            F::Forgotten { .. }       => row(At::Response, By::Upstream, S::BAD_GATEWAY, "connection_terminated"),
            F::Refused { refusal: Refusal::Alert(_), .. } => {
                row(At::Response, By::Upstream, S::BAD_GATEWAY, "tls_alert_received")
            }
            F::Refused { refusal: Refusal::Renegotiation | Refusal::Violation, .. } => {
                row(At::Response, By::Upstream, S::BAD_GATEWAY, "tls_protocol_error")
            }
            F::Replaced(_)            => row(At::Response, By::Warmline, S::GATEWAY_TIMEOUT, "connection_terminated"),
            F::LoginLost              => row(At::Response, By::Upstream, S::BAD_GATEWAY, "connection_terminated").closing(),
            F::LoginLate              => row(At::Response, By::Client, S::REQUEST_TIMEOUT, "http_request_error").closing(),
            F::Malformed(_)           => row(At::Response, By::Upstream, S::BAD_GATEWAY, "http_protocol_error"),
            F::ResponseTimeout(_)     => row(At::Response, By::Upstream, S::GATEWAY_TIMEOUT, "http_response_timeout"),
            F::UploadIdle(_)          => row(At::Body, By::Upstream, S::GATEWAY_TIMEOUT, "connection_write_timeout").closing(),
            F::UploadStalled(_)       => row(At::Body, By::Client, S::REQUEST_TIMEOUT, "http_request_error").closing(),
            F::UploadBroken           => row(At::Body, By::Client, S::BAD_REQUEST, "http_request_error").closing(),
            F::Ending(stage)          => row(*stage, By::Warmline, S::GATEWAY_TIMEOUT, "proxy_internal_response"),
            F::BudgetUsedUp(failure)  => Self::of(failure),
        }
    }

    /// Returns the row of a failed dial: its stage is always `Connect`, and the client's connection stays open.
    #[rustfmt::skip]
    #[allow(clippy::match_same_arms, reason = "a table: each failure has a row of its own")]
    fn of_dial(error: &ConnectError) -> Self {
        use {ConnectError as E, Party as By, StatusCode as S};
        let row = |by, status, error_type| row(Stage::Connect, by, status, error_type);
        match error {
            E::Name { fault: NameFault::Silent { .. }, .. } => row(By::Upstream, S::GATEWAY_TIMEOUT, "dns_timeout"),
            E::Name { .. }                => row(By::Upstream, S::BAD_GATEWAY, "dns_error"),
            E::ConnectTimeout { .. }      => row(By::Upstream, S::GATEWAY_TIMEOUT, "connection_timeout"),
            E::Tcp { error, .. }          => row(By::Upstream, S::BAD_GATEWAY, tcp_error_type(error)),
            E::Exhausted { address, error } if error.kind() == ErrorKind::AddrNotAvailable && address.is_ipv6() => {
                row(By::Warmline, S::SERVICE_UNAVAILABLE, "destination_ip_unroutable")
            }
            E::Exhausted { .. }           => row(By::Warmline, S::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            E::NoDescriptor { .. }        => row(By::Warmline, S::SERVICE_UNAVAILABLE, "connection_limit_reached"),
            E::HandshakeTimeout { .. }    => row(By::Upstream, S::GATEWAY_TIMEOUT, "connection_timeout"),
            E::Certificate { .. }         => row(By::Upstream, S::BAD_GATEWAY, "tls_certificate_error"),
            E::Alert { .. }               => row(By::Upstream, S::BAD_GATEWAY, "tls_alert_received"),
            E::Tls { .. }                 => row(By::Upstream, S::BAD_GATEWAY, "tls_protocol_error"),
            E::HandshakeBroken { .. }     => row(By::Upstream, S::BAD_GATEWAY, "connection_terminated"),
        }
    }
}

/// Returns the error type of RFC 9209 for an error of the kernel.
fn tcp_error_type(error: &io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::ConnectionRefused => "connection_refused",
        ErrorKind::TimedOut => "connection_timeout",
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable => "destination_ip_unroutable",
        ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted | ErrorKind::BrokenPipe => {
            "connection_terminated"
        }
        // The machine lacks the address's family.
        _ if Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT) => "destination_ip_unroutable",
        _ => "destination_unavailable",
    }
}
