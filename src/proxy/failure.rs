//! The failures of exchanges with their texts, and the answers made of them; `table.rs` has a row for each failure.

mod table;

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;
use rustls::AlertDescription;

use self::table::Row;
use super::{
    client::AUTHENTICATION_PAUSE_LIMIT,
    explain::{MEMBER, PROXY_STATUS},
};
use crate::{
    connect::{ended_with, meter::Refusal},
    pool::{EndReason, Rejection},
    tls::CertificateUse,
    upstream::{DialFailure, Party, RetryRefusal, Stage, Unavailable, Upstream},
};

/// The most characters of `details` in `Proxy-Status`.
const DETAILS: usize = 200;

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
        hosts: Vec<String>,
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
    HandshakeLost,
    /// The client sent no request for too long in the middle of an authentication handshake.
    #[error(
        "the connection on which this client was authenticating itself (NTLM, Negotiate or CredSSP) was closed after {AUTHENTICATION_PAUSE_LIMIT:?} \
         without a request of its, as others may wait for the place: begin it again on a new connection"
    )]
    HandshakeLate,
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

/// The text for an exchange that the end of the drain cut.
const ENDING: &str = "Warmline is ending and the time to finish (drain) is over";

/// A reason for which Warmline ends a connection in the middle of an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaced {
    /// Another certificate, key or trust is in force.
    Credentials,
    /// Another endpoint, or another kind of TLS, is in force.
    Configuration,
    /// The upstream was removed from the configuration.
    Removed,
}

impl Replaced {
    /// Returns the cause behind the pool's reason for ending a connection of this upstream. The pool has the same
    /// reason for a removed upstream and a changed one; the upstream tells them apart.
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

/// The reason for which a response was given up after its header, when no answer can say so any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// The upstream, which had to send the next bytes, sent none.
    #[error("the upstream sent no byte of its response for {0:?} (timeouts.idle)")]
    UpstreamSilent(Duration),
    /// The client took none of the bytes that were ready for it.
    #[error("the client read no byte of the response for {0:?} (timeouts.idle)")]
    ClientSilent(Duration),
    /// The client, which had to send the next bytes of its request, sent none.
    #[error("{}", Failure::UploadStalled(*.0))]
    RequestSilent(Duration),
    /// The client broke its request off.
    #[error("the request's body broke off after its response had begun")]
    RequestBroken,
    /// The upstream broke the response off.
    #[error("the upstream's response broke off: {0}")]
    ResponseBroken(String),
    /// Warmline ended the connection of the exchange, for this reason.
    #[error(
        "{0} while its response was on its way; such exchanges end after pool.rotationDeadline, or at once where the \
         upstream is trusted no more"
    )]
    Replaced(Replaced),
    /// The time for the drain is over.
    #[error("{ENDING}")]
    Ending,
}

impl Cut {
    /// Returns the side that caused the cut.
    pub(super) fn by(&self) -> Party {
        match self {
            Self::UpstreamSilent(_) | Self::ResponseBroken(_) => Party::Upstream,
            Self::ClientSilent(_) | Self::RequestSilent(_) | Self::RequestBroken => Party::Client,
            Self::Replaced(_) | Self::Ending => Party::Warmline,
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

    /// Returns the failure of an exchange that was in this stage when it got no connection.
    pub(super) fn unavailable(error: Unavailable, upstream: &Upstream, stage: Stage) -> Self {
        match error {
            Unavailable::Rejected(rejection) => {
                let pool = &upstream.settings().pool;
                Self::Queue { rejection, max: pool.max_connections, limit: pool.queue_timeout }
            }
            Unavailable::Dial(failed) => Self::Dial(failed),
            Unavailable::Outdated(limit) => Self::Outdated(limit),
            Unavailable::Abandoned => Self::Ending(stage),
        }
    }

    /// Returns the stage of the exchange in which the failure occurred.
    pub fn stage(&self) -> Stage {
        Row::of(self).stage
    }

    /// Returns the side that caused the failure.
    pub fn by(&self) -> Party {
        Row::of(self).by
    }

    /// Returns the status code of the answer.
    pub fn status(&self) -> StatusCode {
        Row::of(self).status
    }

    /// Returns the whole answer as bytes to write, for a request that hyper did not read.
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

    /// Returns the length in bytes of the content of [`Self::written`].
    pub fn content(&self) -> u64 {
        self.text(None, "").len() as u64
    }

    /// Returns the whole answer. `pools` is the address of the page about the pools, which the text names.
    pub fn answer(&self, upstream: Option<&Upstream>, pools: &str) -> Response<Full<Bytes>> {
        let row = Row::of(self);
        let mut answer = Response::new(Full::from(self.text(upstream, pools)));
        *answer.status_mut() = row.status;
        let headers = answer.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(PROXY_STATUS, self.proxy_status(row.error_type));
        if row.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if row.status == StatusCode::METHOD_NOT_ALLOWED {
            let methods = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS, TRACE";
            headers.insert(ALLOW, HeaderValue::from_static(methods));
        }
        if row.closes {
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

    fn proxy_status(&self, error_type: &str) -> HeaderValue {
        let details: String = self
            .to_string()
            .chars()
            .filter(|c| c.is_ascii_graphic() || *c == ' ')
            .take(DETAILS)
            .flat_map(|c| if matches!(c, '"' | '\\') { vec!['\\', c] } else { vec![c] })
            .collect();
        let text = format!("{MEMBER}; error={error_type}; details=\"{details}\"");
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static(MEMBER))
    }
}

impl RetryRefusal {
    /// Returns the failure to answer with, given the failure of the attempt that may not be repeated. With
    /// [`Self::Max`] the failure's own text tells how often the request was sent.
    pub(super) fn on(self, failure: Failure) -> Failure {
        match self {
            Self::Max => failure,
            Self::Budget => Failure::BudgetUsedUp(Box::new(failure)),
        }
    }
}

/// Returns the texts of a hyper error and of its causes, joined by colons.
pub(super) fn chain(error: &hyper::Error) -> String {
    joined(Some(error))
}

/// Returns the texts of the causes of a hyper error, without its own text, which only introduces them; the error's own
/// text if there is no cause.
pub(super) fn cause(error: &hyper::Error) -> String {
    match error.source() {
        Some(cause) => joined(Some(cause)),
        None => error.to_string(),
    }
}

/// The words for an end of TCP that TLS did not announce.
const NO_CLOSE_NOTIFY: &str = "TCP ended without close_notify";

fn joined(mut error: Option<&(dyn Error + 'static)>) -> String {
    let mut texts = Vec::new();
    while let Some(inner) = error {
        let text = inner.to_string();
        error = inner.source();
        texts.push(match text.split(": https://").next().unwrap_or_default() {
            // hyper's words for any error of the socket; its cause says which.
            "connection error" if error.is_some() => continue,
            // rustls' words, behind which it has a link to its manual.
            "peer closed connection without sending TLS close_notify" => NO_CLOSE_NOTIFY.to_owned(),
            words => words.to_owned(),
        });
    }
    texts.join(": ")
}

#[cfg(test)]
mod tests;
