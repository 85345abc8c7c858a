//! The answers made of failures; `table.rs` has the failures, each with its text and its row.

mod table;

use std::{
    borrow::Cow,
    error::Error,
    fmt::{self, Write as _},
    time::Duration,
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER},
};
use http_body_util::Full;

pub(crate) use self::table::Failure;
use self::table::Row;
use super::explain::{MEMBER, PROXY_STATUS};
use crate::{
    pool::EndReason,
    upstream::{Party, RetryRefusal, Stage, Unavailable, Upstream},
};

/// The most characters of `details` in `Proxy-Status`.
const DETAILS: usize = 200;

/// The number of configured hosts that the answer for an unknown host names.
const HOSTS_TOLD: usize = 20;

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
        let row = Row::of(self);
        let text = self.text(None, "");
        let mut bytes = format!("HTTP/1.1 {}\r\n", row.status).into_bytes();
        for (name, value) in &self.headers(&row) {
            bytes.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"].concat());
        }
        bytes.extend(format!("content-length: {}\r\n\r\n{text}", text.len()).into_bytes());
        bytes
    }

    /// Returns the length in bytes of the content of [`Self::written`].
    pub fn content(&self) -> u64 {
        self.text(None, "").len() as u64
    }

    /// Returns the whole answer. `upstream` is the request's, if it is known; `pools` is the address of the page about
    /// the pools, which the text names.
    pub fn answer(&self, upstream: Option<&Upstream>, pools: &str) -> Response<Full<Bytes>> {
        let row = Row::of(self);
        let mut answer = Response::new(Full::from(self.text(upstream, pools)));
        *answer.status_mut() = row.status;
        *answer.headers_mut() = self.headers(&row);
        answer
    }

    /// Returns the fields of the answer, whose row in the table of failures this is.
    fn headers(&self, row: &Row) -> HeaderMap {
        let mut headers = HeaderMap::new();
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
        headers
    }

    /// Returns the content of the answer: the failure's own text, then the stage and the upstream, or for an unknown
    /// host the first [`HOSTS_TOLD`] of the hosts that are configured. `pools` is the address that the text names for
    /// more.
    fn text(&self, upstream: Option<&Upstream>, pools: &str) -> String {
        let mut text = format!("warmline: {self}\n");
        if let Self::UnknownHost { hosts, stats, .. } = self {
            let (told, others) = hosts.split_at(hosts.len().min(HOSTS_TOLD));
            let _ = write!(text, "configured hosts: {}", told.join(", "));
            if !others.is_empty() {
                let _ = write!(text, " and {} more", others.len());
            }
            text.push('\n');
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

    /// Returns Warmline's member of `Proxy-Status` with this error type, and the failure's text in printable ASCII, cut
    /// to [`DETAILS`] characters.
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

/// Returns the texts of an error and of its causes, joined by colons, without links to manuals and words that only
/// introduce the next text.
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
