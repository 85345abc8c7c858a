//! What can go wrong with an exchange, and the one mapping from failure to answer.

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    io::{self, ErrorKind},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use rustls::AlertDescription;

use super::{
    downstream::KEPT_FOR,
    explain::{MEMBER, PROXY_STATUS},
};
use crate::{
    connect::{ConnectError, NameFault, ended_with, meter::Refusal},
    pool::{EndReason, Rejection},
    tls::Shown,
    upstream::{Party, RetryRefusal, Stage, Unavailable, Upstream},
};

/// The longest `details` in `Proxy-Status`.
const DETAILS: usize = 200;

/// Why an exchange got an answer of ours.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The request is not one that we take.
    #[error("{0}")]
    BadRequest(Cow<'static, str>),
    /// Its header is larger than we read.
    #[error(
        "the request's header is too large (limits.headerBytes and limits.headerFields of listeners)"
    )]
    HeaderTooLarge,
    /// Its header took too long.
    #[error("the request's header was not complete in time (limits.headerTimeout of listeners)")]
    HeaderTimeout,
    /// The headers of all clients together are larger than what is buffered of them.
    #[error(
        "the request's header is larger than 8 KiB, and so are those of too many other clients at this moment; try again"
    )]
    Crowded,
    /// Nothing is configured for the host.
    #[error("no upstream is configured for the host {host:?}")]
    UnknownHost {
        /// As the client wrote it.
        host: String,
        /// What is configured.
        hosts: Vec<String>,
        /// The path was `/stats`.
        stats: bool,
    },
    /// CONNECT.
    #[error(
        "CONNECT is not served: Warmline makes the TLS connection itself, so send plain http:// requests"
    )]
    Connect,
    /// No connection, by the queue.
    #[error("all {max} connections (pool.maxConnections) are taken, and {}", match .rejection {
        Rejection::QueueFull => "the queue for them (pool.maxQueue) is full",
        Rejection::QueueTimeout => "none came free in time (pool.queueTimeout)",
        Rejection::Shed => "the queue for them is too slow to serve one more in time (pool.queueTimeout)",
    })]
    Queue {
        /// Full, or too slow.
        rejection: Rejection,
        /// `pool.maxConnections`.
        max: usize,
    },
    /// No connection, by the dial.
    #[error(transparent)]
    Dial(ConnectError),
    /// No connection, as each was outdated before it was ready.
    #[error(
        "no connection within {0:?} (timeouts.connect and timeouts.handshake together): each new connection was outdated \
         before it was ready, as certificates, trust or TLS settings of this upstream change faster than a handshake takes"
    )]
    Outdated(Duration),
    /// The upstream ended a new connection with an alert: as a rule because of our certificate.
    #[error("{peer} {}", ended_with(*.alert, *.shown))]
    IdentityRefused {
        /// The address.
        peer: SocketAddr,
        /// The alert.
        alert: AlertDescription,
        /// The fate of our certificate.
        shown: Shown,
    },
    /// The connection ended in a way that the next one would, too.
    #[error(
        "{peer} {refusal}; this is not tried again, as the next connection would end in the same way"
    )]
    Refused {
        /// The address.
        peer: SocketAddr,
        /// What the upstream did.
        refusal: Refusal,
    },
    /// The connection ended after the request was sent, before a response.
    #[error(
        "the upstream closed the connection before its response ({reason}); the request was sent {}, may have been processed, and is not sent again",
        times(*.sent)
    )]
    Unanswered {
        /// hyper's words.
        reason: String,
        /// How often it was sent.
        sent: u32,
    },
    /// The kernel gave the connection up: nothing that was sent was acknowledged.
    #[error(
        "nothing of the request was acknowledged within {limit:?} (timeouts.connect, and at most half of timeouts.response): \
         the network no longer knows the connection; the request was sent {}, may have been processed, and is not sent again",
        times(*.sent)
    )]
    Forgotten {
        /// How long that took.
        limit: Duration,
        /// How often it was sent.
        sent: u32,
    },
    /// The connection ended before the request was sent, more often than `retries.max` allows.
    #[error("the upstream closed each connection before the request was sent ({reason})")]
    NotSent {
        /// hyper's words.
        reason: String,
    },
    /// It would have been tried again, had others not been tried again so often.
    #[error("the retry budget is used up (retries.budget), and so this is not tried again: {0}")]
    BudgetUsedUp(Box<Self>),
    /// We ended its connection.
    #[error(
        "{0} while the request was on its way; such requests end after pool.rotationDeadline, or at once where the upstream \
         is trusted no more; it may have been processed, and is not sent again"
    )]
    Replaced(Replaced),
    /// The connection ended in the midst of a handshake that authenticates it.
    #[error(
        "the connection on which this client was authenticating itself (NTLM, Negotiate or CredSSP) has ended, and no other one \
         knows the beginning of that handshake: begin it again on a new connection"
    )]
    HandshakeLost,
    /// The client took too long to go on with such a handshake.
    #[error(
        "the connection on which this client was authenticating itself (NTLM, Negotiate or CredSSP) was closed after {KEPT_FOR:?} \
         without a request of its, as others may wait for the place: begin it again on a new connection"
    )]
    HandshakeLate,
    /// The response broke off in its header, or is none.
    #[error("the upstream's response cannot be read: {0}")]
    Malformed(Cow<'static, str>),
    /// No response in time.
    #[error("no response within {0:?} (timeouts.response)")]
    ResponseTimeout(Duration),
    /// The upstream stopped to read the request.
    #[error("the upstream took no byte of the request for {0:?} (timeouts.idle)")]
    UploadIdle(Duration),
    /// The application stopped to send the request.
    #[error("the client sent no byte of its request's body for {0:?} (timeouts.idle)")]
    UploadStalled(Duration),
    /// The application broke its request off.
    #[error("the request's body broke off")]
    UploadBroken,
    /// The drain's time was over in this stage.
    #[error("{ENDING}")]
    Ending(Stage),
}

/// The end of the drain, in words.
const ENDING: &str = "Warmline is ending and the time to finish (drain) is over";

/// A reason for which Warmline ends a connection in the middle of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Another certificate, key or trust is in force.
    Credentials,
    /// Another endpoint, or another kind of TLS, is in force.
    Configuration,
    /// The upstream is configured no more.
    Removed,
}

impl Replaced {
    /// Tells apart the ends of this upstream's connections that the pool has one reason for.
    pub(super) fn of(upstream: &Upstream, reason: EndReason) -> Self {
        match reason {
            EndReason::Rotated => Self::Credentials,
            _ if upstream.is_retired() => Self::Removed,
            _ => Self::Configuration,
        }
    }
}

impl fmt::Display for Replaced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Credentials => "the certificate, key or trust of its connection was replaced",
            Self::Configuration => {
                "the configuration that its connection was made under was replaced"
            }
            Self::Removed => "its upstream was removed from the configuration",
        })
    }
}

/// Why a response was given up after its header, when there is no answer any more that could say so.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// The upstream owed the next bytes.
    #[error("the upstream sent no byte of its response for {0:?} (timeouts.idle)")]
    UpstreamSilent(Duration),
    /// The application had bytes to take.
    #[error("the client read no byte of the response for {0:?} (timeouts.idle)")]
    ClientSilent(Duration),
    /// The application owed the next bytes of its request.
    #[error("{}", Failure::UploadStalled(*.0))]
    RequestSilent(Duration),
    /// The application broke its request off.
    #[error("the request's body broke off after its response had begun")]
    UploadBroken,
    /// The upstream broke it off.
    #[error("the upstream's response broke off: {0}")]
    Broken(String),
    /// We ended its connection.
    #[error(
        "{0} while its response was on its way; such exchanges end after pool.rotationDeadline, or at once where the \
         upstream is trusted no more"
    )]
    Replaced(Replaced),
    /// The drain's time is over.
    #[error("{ENDING}")]
    Ending,
}

impl Cut {
    /// Gives the side that caused it.
    pub(super) fn by(&self) -> Party {
        match self {
            Self::UpstreamSilent(_) | Self::Broken(_) => Party::Upstream,
            Self::ClientSilent(_) | Self::RequestSilent(_) | Self::UploadBroken => {
                Party::Downstream
            }
            Self::Replaced(_) | Self::Ending => Party::Us,
        }
    }
}

fn times(sent: u32) -> Cow<'static, str> {
    match sent {
        1 => "once".into(),
        times => format!("{times} times").into(),
    }
}

impl Failure {
    pub(super) fn bad_request(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::BadRequest(reason.into())
    }

    pub(super) fn malformed(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::Malformed(reason.into())
    }

    /// Names the failure of an exchange that waited for a connection in this stage.
    pub(super) fn unavailable(error: Unavailable, upstream: &Upstream, stage: Stage) -> Self {
        match error {
            Unavailable::Rejected(rejection) => {
                Self::Queue { rejection, max: upstream.settings().pool.max_connections }
            }
            Unavailable::Dial(error) => Self::Dial(error),
            Unavailable::Outdated(limit) => Self::Outdated(limit),
            Unavailable::Abandoned => Self::Ending(stage),
        }
    }

    /// The stage that it belongs to.
    pub fn stage(&self) -> Stage {
        match self {
            Self::BudgetUsedUp(failure) => failure.stage(),
            Self::BadRequest(_)
            | Self::HeaderTooLarge
            | Self::HeaderTimeout
            | Self::Crowded
            | Self::UnknownHost { .. }
            | Self::Connect => Stage::Request,
            Self::Queue { .. } => Stage::Queue,
            Self::Dial(_)
            | Self::Outdated(_)
            | Self::IdentityRefused { .. }
            | Self::NotSent { .. } => Stage::Connect,
            Self::Unanswered { .. }
            | Self::Refused { .. }
            | Self::Forgotten { .. }
            | Self::Replaced(_)
            | Self::HandshakeLost
            | Self::HandshakeLate
            | Self::Malformed(_)
            | Self::ResponseTimeout(_) => Stage::Response,
            Self::UploadIdle(_) | Self::UploadStalled(_) | Self::UploadBroken => Stage::Body,
            Self::Ending(stage) => *stage,
        }
    }

    /// Whose doing it is.
    pub fn by(&self) -> Party {
        match self {
            Self::BudgetUsedUp(failure) => failure.by(),
            Self::BadRequest(_)
            | Self::HeaderTooLarge
            | Self::HeaderTimeout
            | Self::UnknownHost { .. }
            | Self::Connect
            | Self::HandshakeLate
            | Self::UploadStalled(_)
            | Self::UploadBroken => Party::Downstream,
            Self::Crowded
            | Self::Queue { .. }
            | Self::Outdated(_)
            | Self::Ending(_)
            | Self::Replaced(_)
            | Self::Dial(ConnectError::Exhausted { .. } | ConnectError::NoDescriptor { .. }) => {
                Party::Us
            }
            _ => Party::Upstream,
        }
    }

    /// The status of the answer.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::BudgetUsedUp(failure) => failure.status(),
            Self::BadRequest(_) | Self::UploadBroken => StatusCode::BAD_REQUEST,
            Self::HeaderTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::HeaderTimeout | Self::HandshakeLate | Self::UploadStalled(_) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::UnknownHost { .. } => StatusCode::NOT_FOUND,
            Self::Connect => StatusCode::METHOD_NOT_ALLOWED,
            Self::Crowded
            | Self::Queue { .. }
            | Self::Dial(ConnectError::Exhausted { .. } | ConnectError::NoDescriptor { .. }) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Dial(
                ConnectError::ConnectTimeout { .. }
                | ConnectError::HandshakeTimeout { .. }
                | ConnectError::Name { fault: NameFault::Silent { .. }, .. },
            )
            | Self::Outdated(_)
            | Self::ResponseTimeout(_)
            | Self::UploadIdle(_)
            | Self::Replaced(_)
            | Self::Ending(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::Dial(_)
            | Self::IdentityRefused { .. }
            | Self::Refused { .. }
            | Self::Unanswered { .. }
            | Self::Forgotten { .. }
            | Self::NotSent { .. }
            | Self::HandshakeLost
            | Self::Malformed(_) => StatusCode::BAD_GATEWAY,
        }
    }

    /// The error type of RFC 9209 section 2.3.
    fn error_type(&self) -> &'static str {
        match self {
            Self::BudgetUsedUp(failure) => failure.error_type(),
            Self::BadRequest(_)
            | Self::HeaderTooLarge
            | Self::HeaderTimeout
            | Self::HandshakeLate
            | Self::UploadStalled(_)
            | Self::UploadBroken => "http_request_error",
            Self::UnknownHost { .. } => "destination_not_found",
            Self::Connect => "http_request_denied",
            Self::Queue { .. } => "connection_limit_reached",
            Self::Dial(error) => dial_error_type(error),
            Self::Outdated(_) => "connection_timeout",
            Self::IdentityRefused { .. } | Self::Refused { refusal: Refusal::Alert(_), .. } => {
                "tls_alert_received"
            }
            Self::Refused { .. } => "tls_protocol_error",
            Self::Unanswered { .. } => "http_response_incomplete",
            Self::NotSent { .. }
            | Self::Forgotten { .. }
            | Self::Replaced(_)
            | Self::HandshakeLost => "connection_terminated",
            Self::Malformed(_) => "http_protocol_error",
            Self::ResponseTimeout(_) => "http_response_timeout",
            Self::UploadIdle(_) => "connection_write_timeout",
            Self::Crowded | Self::Ending(_) => "proxy_internal_response",
        }
    }

    /// Whether the client's connection must close after the answer.
    fn closes(&self) -> bool {
        matches!(
            self,
            Self::BadRequest(_)
                | Self::HeaderTooLarge
                | Self::HeaderTimeout
                | Self::Crowded
                | Self::UploadBroken
                | Self::UploadStalled(_)
                | Self::UploadIdle(_)
                | Self::HandshakeLost
                | Self::HandshakeLate
        )
    }

    /// The whole answer as it goes out, for a request that hyper did not read.
    pub fn written(&self) -> Vec<u8> {
        let text = self.text(None, "");
        let status = self.status();
        let mut bytes = format!("HTTP/1.1 {status}\r\n").into_bytes();
        for (name, value) in self.answer(None, "").headers() {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n{text}", text.len()).into_bytes());
        bytes
    }

    /// The length of that answer's content.
    pub fn content(&self) -> u64 {
        self.text(None, "").len() as u64
    }

    /// The whole answer.
    pub fn answer(&self, upstream: Option<&Upstream>, pools: &str) -> Response<Full<Bytes>> {
        let status = self.status();
        let mut answer = Response::new(Full::from(self.text(upstream, pools)));
        *answer.status_mut() = status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(PROXY_STATUS, self.proxy_status());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::Connect) {
            let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if self.closes() {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        answer
    }

    fn text(&self, upstream: Option<&Upstream>, pools: &str) -> String {
        let mut text = format!("warmline: {self}\n");
        if let Self::UnknownHost { hosts, stats, .. } = self {
            let _ = writeln!(text, "configured hosts: {}", hosts.join(", "));
            if *stats {
                let _ = writeln!(text, "this port carries traffic; statistics are at {pools}");
            }
            return text;
        }
        let _ = write!(text, "stage: {}", self.stage().as_str());
        if let Some(upstream) = upstream {
            let settings = upstream.settings();
            let _ = write!(text, ", upstream: {} ({})", settings.name, settings.endpoint);
            let _ = write!(text, "\nlook at: {pools}");
        }
        text.push('\n');
        text
    }

    fn proxy_status(&self) -> HeaderValue {
        let details: String = self
            .to_string()
            .chars()
            .filter(|c| c.is_ascii_graphic() || *c == ' ')
            .take(DETAILS)
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        let text = format!("{MEMBER}; error={}; details=\"{details}\"", self.error_type());
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(MEMBER))
    }
}

impl RetryRefusal {
    /// What an exchange comes to that failed in this way and may not be tried again. That it was tried often enough, the
    /// failure itself tells.
    pub(super) fn on(self, failure: Failure) -> Failure {
        match self {
            Self::Max => failure,
            Self::Budget => Failure::BudgetUsedUp(Box::new(failure)),
        }
    }
}

/// An error of hyper's with its causes.
pub(super) fn chain(error: &hyper::Error) -> String {
    joined(Some(error))
}

/// The causes of an error of hyper's alone: they say what its own words only introduce.
pub(super) fn cause(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => joined(Some(cause)),
        None => error.to_string(),
    }
}

fn joined(mut error: Option<&(dyn Error + 'static)>) -> String {
    let mut texts = Vec::new();
    while let Some(inner) = error {
        // rustls adds where its manual explains it.
        texts.push(inner.to_string().split(": https://").next().unwrap_or_default().to_owned());
        error = inner.source();
    }
    texts.join(": ")
}

fn dial_error_type(error: &ConnectError) -> &'static str {
    match error {
        ConnectError::Name { fault: NameFault::Silent { .. }, .. } => "dns_timeout",
        ConnectError::Name { .. } => "dns_error",
        ConnectError::ConnectTimeout { .. } | ConnectError::HandshakeTimeout { .. } => {
            "connection_timeout"
        }
        ConnectError::Tcp { error, .. } => tcp_error_type(error),
        ConnectError::Exhausted { address, error } => match error.kind() {
            ErrorKind::AddrNotAvailable if address.is_ipv6() => "destination_ip_unroutable",
            _ => "connection_limit_reached",
        },
        ConnectError::NoDescriptor { .. } => "connection_limit_reached",
        ConnectError::Certificate { .. } => "tls_certificate_error",
        ConnectError::Alert { .. } => "tls_alert_received",
        ConnectError::Tls { .. } => "tls_protocol_error",
        ConnectError::Broken { .. } => "connection_terminated",
    }
}

/// The kernel's word in those of RFC 9209.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_connect_has_the_error_type_of_its_kind() {
        for (errno, told) in [
            (111, "connection_refused"),
            (104, "connection_terminated"),
            (110, "connection_timeout"),
            (101, "destination_ip_unroutable"),
            (113, "destination_ip_unroutable"),
            (97, "destination_ip_unroutable"),
            (1, "destination_unavailable"),
            (24, "connection_limit_reached"),
        ] {
            let address = SocketAddr::from(([192, 0, 2, 1], 443));
            let error = ConnectError::tcp(address, io::Error::from_raw_os_error(errno));
            assert_eq!(dial_error_type(&error), told, "{errno}");
        }
    }
}
