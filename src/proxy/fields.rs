//! Which fields pass (RFC 9110 section 7.6.1; design, section 2 "Fields").

use http::{
    HeaderMap, HeaderName, HeaderValue, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
};

use super::Failure;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");

/// Trailers that would change how a message is framed, routed or authenticated (RFC 9110 section 6.5.1).
const NOT_TRAILERS: &[&str] = &[
    "authorization",
    "cache-control",
    "connection",
    "content-encoding",
    "content-length",
    "content-range",
    "content-type",
    "cookie",
    "expect",
    "host",
    "keep-alive",
    "max-forwards",
    "proxy-authenticate",
    "proxy-authorization",
    "proxy-connection",
    "range",
    "set-cookie",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
    "www-authenticate",
];

/// Makes a request's fields fit to go up, with this host.
pub(super) fn to_upstream(parts: &mut request::Parts, host: HeaderValue) -> Result<(), Failure> {
    let chunked = check_transfer_encoding(&parts.headers)?;
    remove_hop_by_hop(&mut parts.headers);
    parts.headers.remove(PROXY_AUTHORIZATION);
    parts.headers.insert(HOST, host);
    if chunked {
        // hyper sends GET and HEAD with a body of unknown length only if told so.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
    parts.extensions.clear();
    Ok(())
}

/// RFC 9112 section 6.1: we take `chunked`, once, and nothing else.
fn check_transfer_encoding(headers: &HeaderMap) -> Result<bool, Failure> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().eq_ignore_ascii_case(b"chunked") => Ok(true),
        _ => Err(Failure::bad_request("Transfer-Encoding is not \"chunked\", once and alone")),
    }
}

/// Makes a response's fields fit to go down; says whether its framing leaves the connection fit for another exchange.
pub(super) fn to_downstream(parts: &mut response::Parts) -> Result<bool, Failure> {
    let framing = framing(&parts.headers);
    if parts.version < Version::HTTP_11 && framing.transfer_encoding {
        return Err(Failure::malformed("Transfer-Encoding in an HTTP/1.0 response"));
    }
    let fit = framing.fit(parts.version, &parts.headers);
    if framing.transfer_encoding {
        parts.headers.remove(CONTENT_LENGTH);
    } else if framing.lengths > 1 || framing.listed_length {
        keep_one_length(&mut parts.headers);
    }
    remove_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(fit)
}

/// What a response says about its framing.
struct Framing {
    transfer_encoding: bool,
    /// Exactly `chunked`.
    chunked: bool,
    lengths: usize,
    /// A length written as a list: `3, 3`.
    listed_length: bool,
}

fn framing(headers: &HeaderMap) -> Framing {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let first = codings.next();
    let chunked = first.is_some_and(|c| c.as_bytes().eq_ignore_ascii_case(b"chunked"));
    let lengths = headers.get_all(CONTENT_LENGTH);
    Framing {
        transfer_encoding: first.is_some(),
        chunked: chunked && codings.next().is_none(),
        lengths: lengths.iter().count(),
        listed_length: lengths.iter().any(|length| length.as_bytes().contains(&b',')),
    }
}

impl Framing {
    /// RFC 9112 sections 6.3 and 9.3.
    fn fit(&self, version: Version, headers: &HeaderMap) -> bool {
        let ambiguous = self.transfer_encoding && (!self.chunked || self.lengths > 0);
        let persistent = match version {
            Version::HTTP_11 => !names_option(headers, "close"),
            _ => names_option(headers, "keep-alive") && !names_option(headers, "close"),
        };
        persistent && !ambiguous
    }
}

/// hyper agreed that all the lengths are equal, and checked the first.
fn keep_one_length(headers: &mut HeaderMap) {
    let first = headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let number = first.and_then(|text| text.split(',').next()).map(str::trim);
    let number = number.and_then(|text| HeaderValue::from_str(text).ok());
    headers.remove(CONTENT_LENGTH);
    if let Some(number) = number {
        headers.insert(CONTENT_LENGTH, number);
    }
}

/// Whether the Connection field names this option.
fn names_option(headers: &HeaderMap, option: &str) -> bool {
    options(headers).any(|named| named.eq_ignore_ascii_case(option))
}

fn options(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(CONNECTION).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).map(str::trim).filter(|option| !option.is_empty())
}

/// Removes Connection, what it names, and what never passes a hop.
fn remove_hop_by_hop(headers: &mut HeaderMap) {
    if headers.contains_key(CONNECTION) {
        let named: Vec<HeaderName> = options(headers)
            .filter(|option| {
                !option.eq_ignore_ascii_case("close") && !option.eq_ignore_ascii_case("keep-alive")
            })
            .filter_map(|option| HeaderName::from_bytes(option.as_bytes()).ok())
            // Framing and routing are not the peer's to take away.
            .filter(|name| *name != HOST && *name != CONTENT_LENGTH)
            .collect();
        headers.remove(CONNECTION);
        for name in named {
            headers.remove(name);
        }
    }
    for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, TRANSFER_ENCODING, UPGRADE] {
        headers.remove(name);
    }
}

/// Drops the trailers that must not pass; hyper drops those that were not announced.
pub(super) fn filter_trailers(trailers: &mut HeaderMap) {
    for name in NOT_TRAILERS {
        trailers.remove(*name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[(&'static str, &'static str)]) -> HeaderMap {
        lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect()
    }

    fn response(version: Version, lines: &[(&'static str, &'static str)]) -> response::Parts {
        let (mut parts, ()) = http::Response::new(()).into_parts();
        parts.version = version;
        for (name, value) in headers(lines) {
            parts.headers.append(name.expect("each line names its field"), value);
        }
        parts
    }

    #[test]
    fn what_connection_names_does_not_pass_but_framing_stays() {
        let mut map = headers(&[
            ("connection", "close, X-Secret, content-length, host"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("host", "a"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("accept", "*/*"),
        ]);
        remove_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host"]);
    }

    #[test]
    fn a_response_is_fit_only_if_its_framing_is_unambiguous_and_nobody_closes() {
        type Case = (Version, &'static [(&'static str, &'static str)], bool);
        let cases: &[Case] = &[
            (Version::HTTP_11, &[("content-length", "3")], true),
            (Version::HTTP_11, &[("transfer-encoding", "chunked")], true),
            (Version::HTTP_11, &[("transfer-encoding", "chunked"), ("content-length", "3")], false),
            (Version::HTTP_11, &[("transfer-encoding", "gzip")], false),
            (Version::HTTP_11, &[("connection", "Close")], false),
            (Version::HTTP_10, &[("content-length", "3")], false),
            (Version::HTTP_10, &[("connection", "keep-alive"), ("content-length", "3")], true),
        ];
        for (version, lines, fit) in cases {
            let lines: Vec<_> = lines
                .iter()
                .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
                .collect();
            let mut parts = response(*version, &[]);
            parts.headers.extend(lines.clone());
            assert_eq!(to_downstream(&mut parts).ok(), Some(*fit), "{lines:?}");
        }
    }

    #[test]
    fn a_length_written_twice_is_passed_once() {
        let mut parts = response(Version::HTTP_11, &[("content-length", "3, 3")]);
        assert_eq!(to_downstream(&mut parts).ok(), Some(true));
        assert_eq!(parts.headers[CONTENT_LENGTH], "3");
    }

    #[test]
    fn trailers_that_frame_route_or_authenticate_are_dropped() {
        let mut map = headers(&[("content-length", "3"), ("host", "x"), ("checksum", "abc")]);
        filter_trailers(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["checksum"]);
    }
}
