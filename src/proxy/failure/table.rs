//! The table of failures: everything that answers, counters and log lines tell of a failure, beside its text.

use std::io::{self, ErrorKind};

use http::StatusCode;

use super::Failure;
use crate::{
    connect::{ConnectError, NameFault, meter::Refusal},
    upstream::{Party, Stage},
};

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
            F::HandshakeLost          => row(At::Response, By::Upstream, S::BAD_GATEWAY, "connection_terminated").closing(),
            F::HandshakeLate          => row(At::Response, By::Client, S::REQUEST_TIMEOUT, "http_request_error").closing(),
            F::Malformed(_)           => row(At::Response, By::Upstream, S::BAD_GATEWAY, "http_protocol_error"),
            F::ResponseTimeout(_)     => row(At::Response, By::Upstream, S::GATEWAY_TIMEOUT, "http_response_timeout"),
            F::UploadIdle(_)          => row(At::Body, By::Upstream, S::GATEWAY_TIMEOUT, "connection_write_timeout").closing(),
            F::UploadStalled(_)       => row(At::Body, By::Client, S::REQUEST_TIMEOUT, "http_request_error").closing(),
            F::UploadBroken           => row(At::Body, By::Client, S::BAD_REQUEST, "http_request_error").closing(),
            F::Ending(stage)          => row(*stage, By::Warmline, S::GATEWAY_TIMEOUT, "proxy_internal_response"),
            F::BudgetUsedUp(failure)  => Self::of(failure),
        }
    }

    /// Returns the row of a failed dial.
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
            E::HandshakeBroken { .. }              => row(By::Upstream, S::BAD_GATEWAY, "connection_terminated"),
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
        // EAFNOSUPPORT: the machine lacks the address's family.
        _ if error.raw_os_error() == Some(97) => "destination_ip_unroutable",
        _ => "destination_unavailable",
    }
}
