//! Error texts of `warmline get`, in place of those of the libraries that it uses.

use std::{error::Error, io};

use http::{StatusCode, Uri};
use hyper_util::client::legacy;

use crate::{head, tls};

/// Returns the reason why a request for this URL got no response.
pub(super) fn of_request(url: &Uri, error: &legacy::Error) -> String {
    let causes = || std::iter::successors(error.source(), |&cause| cause.source());
    let io = causes().find_map(|cause| cause.downcast_ref::<io::Error>()).map(innermost);
    if let Some(http) = causes().find_map(|cause| cause.downcast_ref::<hyper::Error>()) {
        return of_answer(http);
    }
    match io {
        Some(io) if causes().any(|cause| cause.to_string() == "dns error") => {
            let text = io.to_string();
            let reason = text.rsplit(": ").next().unwrap_or_default();
            format!("the name {:?} cannot be resolved: {reason}", url.host().unwrap_or_default())
        }
        Some(io) if error.is_connect() => of_connection(io),
        Some(io) => format!("the connection broke: {io}"),
        None => chain(error),
    }
}

/// Returns the reason why a response cannot be read, or broke off.
pub(super) fn of_answer(error: &hyper::Error) -> String {
    let io = error.source().and_then(|cause| cause.downcast_ref::<io::Error>()).map(innermost);
    if error.is_parse_too_large() {
        return "the answer's header is too large".into();
    }
    if error.is_parse() {
        return format!("the answer cannot be read: {}", fault(&error.to_string()));
    }
    if error.is_incomplete_message() {
        return "the connection was closed before the answer was complete".into();
    }
    match io {
        Some(io) => format!("the answer broke off: {}", of_io(io)),
        None => "the connection was closed before the answer was complete".into(),
    }
}

/// Returns a status with its phrase, such as `404 Not Found`; without one the number alone.
pub(super) fn of_status(status: StatusCode) -> String {
    let phrase = status.canonical_reason().map(|phrase| format!(" {phrase}"));
    format!("{}{}", status.as_str(), phrase.unwrap_or_default())
}

/// Returns an error's text, followed by those of its causes.
pub(super) fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// Returns the reason why no connection could be made: the fault in TLS, or the error of the system.
fn of_connection(io: &io::Error) -> String {
    match tls_error(io) {
        Some(error) => format!("the TLS handshake failed: {}", tls::words(error)),
        None if io.to_string() == "tls handshake eof" => {
            "the connection was closed during the TLS handshake".into()
        }
        None => format!("no connection: {io}"),
    }
}

/// Returns the reason why a response broke off: the fault in TLS, an early end, or the error of the system.
fn of_io(io: &io::Error) -> String {
    match tls_error(io) {
        Some(error) => tls::words(error),
        None if io.kind() == io::ErrorKind::UnexpectedEof => {
            "the connection was closed in the middle of it".into()
        }
        None => io.to_string(),
    }
}

/// Returns the rule of HTTP/1.1 that a response breaks, in words, for the text of hyper's parser error.
fn fault(parser: &str) -> &str {
    match parser {
        "invalid HTTP version parsed" | "invalid HTTP version parsed (found HTTP2 preface)" => {
            "it is not HTTP/1.1: does that port speak HTTP/1.1, and with the scheme of this URL?"
        }
        "invalid HTTP status-code parsed" => "its status is not a number from 100 to 999",
        "invalid HTTP header parsed" => "a field of its header is malformed",
        other => head::fault_in_words(other).unwrap_or("it breaks the rules of HTTP"),
    }
}

/// Returns the `io::Error` inside an `io::Error`: libraries wrap such errors in others of the same type.
fn innermost(mut error: &io::Error) -> &io::Error {
    while let Some(inner) = error.get_ref().and_then(|inner| inner.downcast_ref::<io::Error>()) {
        error = inner;
    }
    error
}

fn tls_error(io: &io::Error) -> Option<&rustls::Error> {
    io.get_ref().and_then(|inner| inner.downcast_ref())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_38_a_status_without_a_phrase_is_its_number() {
        let status = |code| of_status(StatusCode::from_u16(code).expect("a status"));
        assert_eq!((status(404), status(599)), ("404 Not Found".into(), "599".into()));
    }
}
