//! The fields of a message that pass from one side to the other (RFC 9110 section 7.6.1; "Fields" in docs/design.md).

use http::{
    Extensions, HeaderMap, HeaderName, HeaderValue, Response, Version,
    header::{
        CONNECTION, CONTENT_LENGTH, HOST, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING, UPGRADE,
    },
    request, response,
};
use http_body::Body;
use hyper::upgrade::OnUpgrade;

use super::{
    Failure,
    keep_alive::{self, KEEP_ALIVE},
};
use crate::{connect::HeaderCase, head, pool::KeepAlive};

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

/// Makes a request's fields fit to be sent upstream with this Host: removes those that end at this hop, and hyper's
/// extensions but for the spelling of names where `case` keeps it. Fails if the body has another transfer coding than a
/// single `chunked`.
pub(super) fn to_upstream(
    parts: &mut request::Parts,
    host: HeaderValue,
    case: HeaderCase,
) -> Result<(), Failure> {
    let seen = FieldFindings::in_fields(&parts.headers);
    let chunked = seen.codings > 0;
    if chunked && !(seen.codings == 1 && seen.chunked) {
        // RFC 9112 section 6.1: Warmline takes this coding and no other.
        let fault = codings_fault(&parts.headers, "the client, or a library in it,");
        return Err(Failure::bad_request(fault));
    }
    seen.remove_hop_by_hop(&mut parts.headers);
    if seen.proxy_authorization {
        parts.headers.remove(PROXY_AUTHORIZATION);
    }
    parts.headers.insert(HOST, host);
    if chunked {
        // hyper sends GET and HEAD with a body of unknown length only with this field set.
        parts.headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    parts.version = Version::HTTP_11;
    if !parts.extensions.is_empty() {
        clean_extensions(&mut parts.extensions, case);
    }
    Ok(())
}

/// Removes hyper's extensions from a request, except for the spelling of its field names where that is to be kept.
fn clean_extensions(extensions: &mut Extensions, case: HeaderCase) {
    match case {
        HeaderCase::Kept => {
            extensions.remove::<OnUpgrade>();
        }
        HeaderCase::Lower | HeaderCase::Title => extensions.clear(),
    }
}

/// The effect of a response's framing on its connection: fit for another exchange or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fitness {
    /// The connection must not be used again.
    Unfit,
    /// The connection can be used again; the upstream may have announced for how long.
    Fit(Option<KeepAlive>),
}

/// Makes a response's fields fit to be sent to the client, removes those that end at this hop, and judges its framing.
/// Fails if the body has a transfer coding that HTTP/1.0 lacks, or that Warmline does not take.
pub(super) fn to_client(parts: &mut response::Parts) -> Result<Fitness, Failure> {
    let seen = FieldFindings::in_fields(&parts.headers);
    if parts.version < Version::HTTP_11 && seen.codings > 0 {
        return Err(Failure::malformed("Transfer-Encoding in an HTTP/1.0 response"));
    }
    if seen.encoded {
        // Without its coding's name the content would be mislabelled, and Warmline decodes none (RFC 9112 section 7).
        let fault = codings_fault(&parts.headers, "the server, or a framework in it,");
        return Err(Failure::malformed(fault));
    }
    if seen.lengths > 0 && seen.codings > 0 {
        parts.headers.remove(CONTENT_LENGTH);
    } else if seen.lengths > 1 || seen.odd_length {
        keep_one_length(&mut parts.headers)?;
    }
    let fitness = if seen.fit(parts.version) {
        Fitness::Fit(seen.hop_by_hop.then(|| keep_alive::announced(&parts.headers)).flatten())
    } else {
        Fitness::Unfit
    };
    seen.remove_hop_by_hop(&mut parts.headers);
    parts.version = Version::HTTP_11;
    Ok(fitness)
}

/// True if a response ends its connection: it says so, is in HTTP/1.0 without `keep-alive`, or has a body that ends
/// with the connection (RFC 9112 sections 6.3 and 9.3).
#[cold]
pub(super) fn closes<B: Body>(response: &Response<B>) -> bool {
    let headers = response.headers();
    let has = |option: &[u8]| {
        let mut options = headers.get_all(CONNECTION).iter().flat_map(options);
        options.any(|said| said.eq_ignore_ascii_case(option))
    };
    let old = response.version() < Version::HTTP_11 && !has(b"keep-alive");
    // The length of a chunked body is unknown, too.
    let chunked = FieldFindings::in_fields(headers).ends_chunked;
    old || has(b"close") || response.body().size_hint().exact().is_none() && !chunked
}

/// Returns the options that a Connection field lists.
fn options(value: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii)
}

fn is_close(option: &[u8]) -> bool {
    option.eq_ignore_ascii_case(b"close")
}

/// The findings of one pass over the fields: most messages have nothing to remove, and need no look-up afterwards.
#[derive(Default)]
#[allow(clippy::struct_excessive_bools, reason = "each is a field that was there or not")]
struct FieldFindings {
    /// The number of Transfer-Encoding fields.
    codings: usize,
    /// True if the last Transfer-Encoding field is exactly `chunked`.
    chunked: bool,
    /// True if a coding other than `chunked` is applied, or `chunked` twice or not last.
    encoded: bool,
    /// True if `chunked` was named.
    ends_chunked: bool,
    /// The number of Content-Length fields.
    lengths: usize,
    /// True if a Content-Length is not a plain number.
    odd_length: bool,
    /// True if there is a Connection field.
    connection: bool,
    /// True if Connection names `close`.
    close: bool,
    /// The other fields that Connection names.
    named: Vec<HeaderName>,
    /// True if there is a field that never passes a hop.
    hop_by_hop: bool,
    proxy_authorization: bool,
}

impl FieldFindings {
    /// Returns the findings in these fields.
    fn in_fields(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for (name, value) in headers {
            seen.note(name, value);
        }
        seen
    }

    /// Notes what one field means for framing and for the hop; one that means nothing changes nothing.
    fn note(&mut self, name: &HeaderName, value: &HeaderValue) {
        match *name {
            CONTENT_LENGTH => {
                self.lengths += 1;
                self.odd_length |= !is_number(value.as_bytes());
            }
            CONNECTION => {
                self.connection = true;
                self.note_options(value);
            }
            TRANSFER_ENCODING => {
                self.codings += 1;
                self.note_codings(value);
                self.chunked = value.as_bytes().eq_ignore_ascii_case(b"chunked");
            }
            PROXY_AUTHORIZATION => self.proxy_authorization = true,
            TE | UPGRADE => self.hop_by_hop = true,
            ref other => self.hop_by_hop |= *other == KEEP_ALIVE || *other == PROXY_CONNECTION,
        }
    }

    /// Notes the codings of one field: `chunked` must come last and once; the obsolete `identity` does not count.
    fn note_codings(&mut self, value: &HeaderValue) {
        let codings = value.as_bytes().split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
        for coding in codings.filter(|coding| !coding.is_empty()) {
            let chunked = coding.eq_ignore_ascii_case(b"chunked");
            self.encoded |=
                self.ends_chunked || !(chunked || coding.eq_ignore_ascii_case(b"identity"));
            self.ends_chunked |= chunked;
        }
    }

    /// Notes the options of one Connection field: `close`, and the fields that it names; `keep-alive` is not a field to
    /// remove.
    fn note_options(&mut self, value: &HeaderValue) {
        for option in options(value) {
            if is_close(option) {
                self.close = true;
            } else if !option.eq_ignore_ascii_case(b"keep-alive")
                && let Ok(name) = HeaderName::from_bytes(option)
            {
                self.named.push(name);
            }
        }
    }

    /// Removes Connection, the fields that it names, and the fields that never pass a hop.
    fn remove_hop_by_hop(&self, headers: &mut HeaderMap) {
        if self.connection {
            headers.remove(CONNECTION);
            // A peer may not have the fields for framing and routing removed.
            for name in self.named.iter().filter(|name| **name != HOST && **name != CONTENT_LENGTH)
            {
                headers.remove(name);
            }
        }
        if self.codings > 0 {
            headers.remove(TRANSFER_ENCODING);
        }
        if self.hop_by_hop {
            for name in [KEEP_ALIVE, PROXY_CONNECTION, TE, UPGRADE] {
                headers.remove(name);
            }
        }
    }

    /// True if a response of this version leaves its connection fit for reuse (RFC 9112 sections 6.3 and 9.3).
    fn fit(&self, version: Version) -> bool {
        let unambiguous = match self.codings {
            0 => true,
            codings => codings == 1 && self.chunked && self.lengths == 0,
        };
        // After a response in HTTP/1.0 hyper would write its next requests in HTTP/1.0, without chunked bodies.
        version == Version::HTTP_11 && unambiguous && !self.close
    }
}

/// Returns a sentence about transfer codings other than a single `chunked`, which names `sender` as the side that
/// caused them.
#[cold]
fn codings_fault(headers: &HeaderMap, sender: &str) -> String {
    let values = headers.get_all(TRANSFER_ENCODING).iter().map(HeaderValue::as_bytes);
    let codings = values.flat_map(|value| value.split(|byte| *byte == b','));
    let codings: Vec<_> = codings.map(<[u8]>::trim_ascii).collect();
    let (chunked, others): (Vec<&[u8]>, Vec<_>) =
        codings.iter().partition(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    match others.first() {
        None => format!(
            "Transfer-Encoding says \"chunked\" {} times, as if the body were in chunks of chunks: {sender} adds the field \
             where there is one already; once is right",
            chunked.len()
        ),
        Some(coding) => format!(
            "Transfer-Encoding names {}: {sender} may use \"chunked\", once and alone",
            head::shown(coding)
        ),
    }
}

/// Reduces Content-Length to one number. Fails if its values are not one and the same number: hyper does not look at
/// them where no body follows, as after HEAD or with 304 (RFC 9112 section 6.3).
#[cold]
fn keep_one_length(headers: &mut HeaderMap) -> Result<(), Failure> {
    let lengths = headers.get_all(CONTENT_LENGTH).iter().map(HeaderValue::as_bytes);
    let mut lengths =
        lengths.flat_map(|value| value.split(|byte| *byte == b',')).map(<[u8]>::trim_ascii);
    let first = lengths.next().unwrap_or_default();
    if let Some(odd) = [first].into_iter().chain(lengths).find(|l| *l != first || !is_number(l)) {
        let odd = head::shown(odd);
        return Err(Failure::malformed(format!(
            "Content-Length names {odd}: right is one number, or the same one again"
        )));
    }
    let number = HeaderValue::from_bytes(first);
    headers.remove(CONTENT_LENGTH);
    if let Ok(number) = number {
        headers.insert(CONTENT_LENGTH, number);
    }
    Ok(())
}

/// True if this is a number of bytes that a body can have, in digits alone.
fn is_number(length: &[u8]) -> bool {
    // Nineteen digits always fit into 64 bits.
    matches!(length.len(), 1..=19) && length.iter().all(u8::is_ascii_digit)
}

/// Drops the trailers that must not pass; hyper drops those that the Trailer field does not announce.
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
        let (mut parts, ()) = Response::new(()).into_parts();
        parts.version = version;
        for (name, value) in lines {
            let name = HeaderName::from_static(name);
            parts.headers.append(name, HeaderValue::from_static(value));
        }
        parts
    }

    #[test]
    fn fields_that_connection_names_do_not_pass_but_framing_stays() {
        let mut map = headers(&[
            ("connection", "close, X-Secret, content-length, host"),
            ("x-secret", "1"),
            ("content-length", "3"),
            ("host", "a"),
            ("te", "trailers"),
            ("keep-alive", "timeout=5"),
            ("accept", "*/*"),
        ]);
        FieldFindings::in_fields(&map).remove_hop_by_hop(&mut map);
        let mut left: Vec<_> = map.keys().map(HeaderName::as_str).collect();
        left.sort_unstable();
        assert_eq!(left, ["accept", "content-length", "host"]);
    }

    #[test]
    fn a_response_is_fit_only_if_its_framing_is_unambiguous_and_neither_side_closes() {
        type Case = (Version, &'static [(&'static str, &'static str)], bool);
        let cases: &[Case] = &[
            (Version::HTTP_11, &[("content-length", "3")], true),
            (Version::HTTP_11, &[("transfer-encoding", "chunked")], true),
            (Version::HTTP_11, &[("transfer-encoding", "chunked"), ("content-length", "3")], false),
            (Version::HTTP_11, &[("transfer-encoding", "identity")], false),
            (Version::HTTP_11, &[("connection", "Close")], false),
            (Version::HTTP_10, &[("content-length", "3")], false),
            (Version::HTTP_10, &[("connection", "keep-alive"), ("content-length", "3")], false),
        ];
        for (version, lines, fit) in cases {
            let lines: Vec<_> = lines
                .iter()
                .map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v)))
                .collect();
            let mut parts = response(*version, &[]);
            parts.headers.extend(lines.clone());
            let fitness = to_client(&mut parts).ok();
            assert_eq!(matches!(fitness, Some(Fitness::Fit(_))), *fit, "{lines:?}");
        }
    }

    #[test]
    fn a_response_under_a_coding_other_than_chunked_is_refused() {
        for (codings, passes) in [
            (vec!["chunked"], true),
            (vec!["Chunked"], true),
            (vec!["identity"], true),
            (vec!["identity, chunked"], true),
            (vec!["gzip"], false),
            (vec!["gzip, chunked"], false),
            (vec!["gzip", "chunked"], false),
            (vec!["chunked, gzip"], false),
            (vec!["chunked, identity"], false),
            (vec!["chunked", "chunked"], false),
            (vec!["chunked;q=1"], false),
        ] {
            let lines: Vec<_> =
                codings.iter().map(|coding| ("transfer-encoding", *coding)).collect();
            let passed = to_client(&mut response(Version::HTTP_11, &lines));
            assert_eq!(passed.is_ok(), passes, "{codings:?}");
        }
    }

    #[test]
    fn only_one_chunked_coding_passes_up() {
        for (codings, passes) in [
            (vec![], true),
            (vec!["chunked"], true),
            (vec!["Chunked"], true),
            (vec!["gzip, chunked"], false),
            (vec!["chunked", "chunked"], false),
            (vec!["gzip"], false),
        ] {
            let (mut parts, ()) = http::Request::new(()).into_parts();
            for coding in &codings {
                parts.headers.append(TRANSFER_ENCODING, HeaderValue::from_static(coding));
            }
            let passed = to_upstream(&mut parts, HeaderValue::from_static("a"), HeaderCase::Lower);
            assert_eq!(passed.is_ok(), passes, "{codings:?}");
        }
    }

    #[test]
    fn fault_18_a_coding_that_is_named_twice_or_is_another_is_told_as_that() {
        for (codings, told) in [
            (&["chunked", "chunked"][..], "says \"chunked\" 2 times"),
            (&["chunked, Chunked, chunked"], "says \"chunked\" 3 times"),
            (&["gzip, chunked"], "names \"gzip\": "),
            (&["chunked", "x-\u{e4}"], "names \"x-\\xc3\\xa4\": "),
        ] {
            let mut up = http::Request::new(()).into_parts().0;
            let mut down = response(Version::HTTP_11, &[]);
            for coding in codings {
                let value = HeaderValue::from_bytes(coding.as_bytes()).expect("a value");
                up.headers.append(TRANSFER_ENCODING, value.clone());
                down.headers.append(TRANSFER_ENCODING, value);
            }
            let refused = to_upstream(&mut up, HeaderValue::from_static("a"), HeaderCase::Lower)
                .expect_err("400");
            assert!(refused.to_string().contains(told), "{codings:?}: {refused}");
            assert!(refused.to_string().contains("the client"), "{codings:?}: {refused}");
            let refused = to_client(&mut down).expect_err("502");
            assert!(refused.to_string().contains(told), "{codings:?}: {refused}");
            assert!(refused.to_string().contains("the server"), "{codings:?}: {refused}");
        }
    }

    #[test]
    fn a_length_written_twice_is_passed_once() {
        let mut parts = response(Version::HTTP_11, &[("content-length", "3, 3")]);
        assert_eq!(to_client(&mut parts).ok(), Some(Fitness::Fit(None)));
        assert_eq!(parts.headers[CONTENT_LENGTH], "3");
    }

    #[test]
    fn a_length_that_is_not_one_number_is_refused_although_no_body_follows() {
        for odd in ["5&", "", "+5", "-1", "3, 4", "3, x", "99999999999999999999", "0x10"] {
            let mut parts = response(Version::HTTP_11, &[("content-length", odd)]);
            let refused = to_client(&mut parts).expect_err(odd);
            assert!(refused.to_string().contains("Content-Length names"), "{odd}: {refused}");
        }
        let mut parts = response(Version::HTTP_11, &[("content-length", "3")]);
        parts.headers.append(CONTENT_LENGTH, HeaderValue::from_static("4"));
        assert!(to_client(&mut parts).is_err());
    }

    #[test]
    fn trailers_that_frame_route_or_authenticate_are_dropped() {
        let mut map = headers(&[("content-length", "3"), ("host", "x"), ("checksum", "abc")]);
        filter_trailers(&mut map);
        assert_eq!(map.keys().map(HeaderName::as_str).collect::<Vec<_>>(), ["checksum"]);
    }
}
