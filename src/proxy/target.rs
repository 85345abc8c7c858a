//! The destination of a request: its target and Host are judged, and the target reduced to origin-form (RFC 9112
//! section 3.2).

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::HOST,
    request,
    uri::{Authority, Scheme},
};

use super::{Failure, RequestLine};
use crate::{head, latest::Latest, route::Table, upstream::Upstream};

/// The longest authority in bytes (RFC 1035 section 2.3.4 bounds a name at 255).
const AUTHORITY_BYTES: usize = 255;
const NO_HOST: &str = "the request has no Host field";
const NOT_A_HOST: &str = "the host is neither a name nor an address in brackets";

/// An upstream, and the Host that requests to it carry.
#[derive(Clone)]
pub struct Destination {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The Host that the upstream sees; `None` for the client's, with the endpoint's port.
    pub host: Option<HeaderValue>,
}

/// The way in which a listener's requests find their upstream, in the newest configuration.
#[derive(Clone)]
pub enum Entry {
    /// By the request's Host or absolute target.
    Shared(Arc<Latest<Table<Destination>>>),
    /// By the listener itself: it belongs to one upstream, and takes any Host.
    Own(Arc<Latest<Destination>>),
}

/// Returns the upstream, and the Host to send it: the configured one, else the client's host (on an upstream's own port
/// the endpoint's) with the endpoint's port. An absolute target goes before Host, which need not agree with it, and is
/// reduced to origin-form (`*` for OPTIONS of the whole server). Fails for CONNECT, for a target or Host that is not
/// valid, and for a host without an upstream.
pub(super) fn resolve_destination(
    entry: &Entry,
    parts: &mut request::Parts,
    line: RequestLine,
) -> Result<(Arc<Upstream>, HeaderValue), Failure> {
    if parts.method == Method::CONNECT {
        return Err(Failure::Connect);
    }
    let field = host_field(&parts.headers, parts.version)?;
    let absolute = absolute_authority(&parts.uri)?;
    let found = match entry {
        Entry::Own(destination) => host_of(&destination.get(), None)?,
        Entry::Shared(table) => {
            by_host(&table.get(), authority(absolute.as_ref(), field)?, parts.uri.path())?
        }
    };
    if absolute.is_some() {
        parts.uri = origin_form(&parts.uri, line.whole_server);
    }
    Ok(found)
}

/// Fails if the target has a fragment, which a client must not send (RFC 9112 section 3.2): hyper would have cut it
/// off.
pub(super) fn check_line(line: RequestLine) -> Result<(), Failure> {
    match line.fragment {
        0 => Ok(()),
        place => Err(Failure::bad_request(format!(
            "the byte '#' at place {place} of the request line: a fragment is not sent; within a path or query it is written %23"
        ))),
    }
}

/// Returns the Host field, `None` for HTTP/1.0 without one. Fails if there are several, or none in HTTP/1.1 (RFC 9112
/// section 3.2).
fn host_field(headers: &HeaderMap, version: Version) -> Result<Option<&HeaderValue>, Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Failure::bad_request("the request has more than one Host field")),
        (None, _) if version == Version::HTTP_11 => Err(Failure::bad_request(NO_HOST)),
        (field, _) => Ok(field),
    }
}

/// Returns the host and port of an absolute target; `None` for a target in origin-form. Fails for another scheme than
/// `http`, for a target of another form, and for one with user information.
fn absolute_authority(uri: &Uri) -> Result<Option<Authority>, Failure> {
    let Some(authority) = uri.authority() else { return Ok(None) };
    if uri.scheme().is_none() {
        return Err(Failure::bad_request(
            "the target is neither a path nor a URL: it begins with / or with http://",
        ));
    }
    if uri.scheme() != Some(&Scheme::HTTP) {
        return Err(Failure::bad_request(
            "the target's scheme is not http: write http:// in the URL, Warmline adds the TLS",
        ));
    }
    if authority.as_str().contains('@') {
        return Err(Failure::bad_request("the target carries user information"));
    }
    Ok(Some(authority.clone()))
}

/// Returns the request's authority: that of the target, else that of the Host field. Fails if there is neither, or if
/// it is empty, too long or has a byte that no host has.
fn authority<'a>(
    absolute: Option<&'a Authority>,
    field: Option<&'a HeaderValue>,
) -> Result<&'a str, Failure> {
    let authority = match (absolute, field) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(field)) => host_text(field)?,
        (None, None) => return Err(Failure::bad_request(NO_HOST)),
    };
    match authority.len() {
        0 => Err(Failure::bad_request("the Host field is empty")),
        1..=AUTHORITY_BYTES => Ok(authority),
        _ => Err(Failure::bad_request("the host is longer than 255 bytes")),
    }
}

/// Returns the Host field as text. Fails if it has a byte that no host has; a password in it is refused here, before
/// anything could show it.
fn host_text(field: &HeaderValue) -> Result<&str, Failure> {
    let bytes = field.as_bytes();
    if bytes.contains(&b'@') || names_at_sign(bytes) {
        return Err(Failure::bad_request(
            "the Host field carries user information: user:password@ belongs in Authorization",
        ));
    }
    match bytes.iter().position(|byte| !byte.is_ascii_graphic()) {
        Some(at) => Err(no_such_host(bytes, at)),
        None => Ok(field.to_str().unwrap_or_default()),
    }
}

/// True if the host contains an `@` as its escape `%40`.
fn names_at_sign(host: &[u8]) -> bool {
    host.contains(&b'%') && host.windows(3).any(|escape| escape == b"%40")
}

/// Returns the failure for a host with a byte, at this index, that no host contains.
#[cold]
fn no_such_host(host: &[u8], at: usize) -> Failure {
    let (byte, place) = (head::shown_byte(host[at]), at + 1);
    Failure::bad_request(format!("the byte {byte} at place {place} of the host: no host has it"))
}

/// Returns the upstream of a request's authority, and the Host to send it. Fails with [`Failure::UnknownHost`] if the
/// table has no such host, and if the authority is not valid; `path` only decides whether that failure points to the
/// statistics.
fn by_host(
    table: &Table<Destination>,
    authority: &str,
    path: &str,
) -> Result<(Arc<Upstream>, HeaderValue), Failure> {
    let host = without_port(authority)?;
    match table.find(host) {
        Some(destination) => host_of(destination, Some(host)),
        None => Err(Failure::UnknownHost {
            host: host.to_owned(),
            hosts: Arc::clone(table.hosts()),
            stats: matches!(path, "/stats" | "/pools" | "/certificates" | "/plan"),
        }),
    }
}

/// Returns `name:80` or `[::1]:80` without the port; fails if that is not a port. The port may be empty (RFC 3986
/// section 3.2.3).
fn without_port(authority: &str) -> Result<&str, Failure> {
    let Some(colon) = memchr::memrchr(b':', authority.as_bytes()) else { return Ok(authority) };
    let (host, port) = (&authority[..colon], &authority[colon + 1..]);
    if memchr::memchr(b':', host.as_bytes()).is_some() && !host.ends_with(']') {
        return Ok(authority);
    }
    if port.is_empty() || is_port(port) { Ok(host) } else { Err(no_such_port(host, port)) }
}

/// True for a decimal number from 1 to 65535. The standard library's parser would accept `+80` too, and take longer.
fn is_port(text: &str) -> bool {
    let number = text.bytes().try_fold(0_u32, |number, byte| {
        let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    });
    number.is_some_and(|number| (1..=u32::from(u16::MAX)).contains(&number))
}

/// Returns the failure for a host with a wrong port.
#[cold]
fn no_such_port(host: &str, port: &str) -> Failure {
    match port.bytes().position(|byte| !byte.is_ascii_digit()) {
        Some(at) => {
            let (byte, place) = (head::shown_byte(port.as_bytes()[at]), host.len() + at + 2);
            Failure::bad_request(format!(
                "the byte {byte} at place {place} of the host: a port has digits alone"
            ))
        }
        None => Failure::bad_request(format!(
            "the port {port} of the host: a port is a number from 1 to 65535"
        )),
    }
}

/// Returns the upstream of a destination, and the Host to send it: the configured one, else the client's host, else the
/// endpoint's, with the endpoint's port. Fails if the client's host is not valid.
fn host_of(
    destination: &Destination,
    client_host: Option<&str>,
) -> Result<(Arc<Upstream>, HeaderValue), Failure> {
    let upstream = Arc::clone(&destination.upstream);
    if let Some(host) = &destination.host {
        return Ok((upstream, host.clone()));
    }
    let settings = upstream.settings();
    let endpoint = &settings.endpoint;
    let value = match client_host {
        Some(host) => with_port(checked(host)?, endpoint.port),
        None => with_port(&endpoint.host.to_string(), endpoint.port),
    };
    let value = HeaderValue::try_from(value).map_err(|_| Failure::bad_request(NOT_A_HOST))?;
    drop(settings);
    Ok((upstream, value))
}

/// Returns the client's host if it is valid, as it is sent to the upstream; fails if it is not. Nearly all are plain
/// names, which need no parser.
fn checked(host: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if !host.is_empty() && host.bytes().all(plain) {
        return Ok(host);
    }
    match host.parse::<Authority>() {
        Ok(authority) if authority.host() == host => Ok(host),
        _ => Err(match host.bytes().position(|byte| !in_host(byte)) {
            Some(at) => no_such_host(host.as_bytes(), at),
            None => Failure::bad_request(NOT_A_HOST),
        }),
    }
}

/// True for a byte of a host (RFC 3986 section 3.2.2), except for percent-encoding, which the parser of URIs refuses in
/// a host.
fn in_host(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=[]:".contains(&byte)
}

/// Returns the text of a Host field: the host, and the port unless that is 443.
pub(crate) fn with_port(host: &str, port: u16) -> String {
    if port == 443 {
        return host.to_owned();
    }
    // Not `format!`, as this is done for each request to a host that is not configured by name.
    let mut field = String::with_capacity(host.len() + ":65535".len());
    field.push_str(host);
    field.push(':');
    field.push_str(itoa::Buffer::new().format(port));
    field
}

/// Returns a target in origin-form (RFC 9112 section 3.2.1); for OPTIONS of a URL without a path, `*`, which asks about
/// the whole server (section 3.2.4).
fn origin_form(uri: &Uri, whole_server: bool) -> Uri {
    match uri.path_and_query() {
        Some(path) if !whole_server => Uri::from(path.clone()),
        _ => Uri::from_static(if whole_server { "*" } else { "/" }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_cut_off_names_and_ipv6_literals() {
        for (authority, host) in [
            ("a.example", "a.example"),
            ("a.example:80", "a.example"),
            ("a.example:", "a.example"),
            ("[::1]:13301", "[::1]"),
            ("a.example:65535", "a.example"),
            ("a.example:0080", "a.example"),
            ("[::1]", "[::1]"),
            ("[::1]:", "[::1]"),
            ("::1", "::1"),
            ("[::1", "[::1"),
        ] {
            assert_eq!(without_port(authority).ok(), Some(host), "{authority}");
        }
    }

    #[test]
    fn fault_36_a_port_that_is_none_is_refused_and_told() {
        let above =
            |port| format!("the port {port} of the host: a port is a number from 1 to 65535");
        let byte = |byte, place| {
            format!("the byte '{byte}' at place {place} of the host: a port has digits alone")
        };
        for (authority, told) in [
            ("a.example:133200", above("133200")),
            ("a.example:65536", above("65536")),
            ("[::1]:99999999999999999999", above("99999999999999999999")),
            ("a.example:0", above("0")),
            ("a.example:+80", byte('+', 11)),
            ("[::1]:80x", byte('x', 9)),
            ("a:b", byte('b', 3)),
        ] {
            let failure = without_port(authority).expect_err("refused");
            assert!(failure.to_string().contains(&told), "{authority}: {failure}");
        }
    }

    #[test]
    fn fault_36_a_password_in_host_is_refused_and_not_shown_also_with_an_escaped_at_sign() {
        for host in ["me:secret@a.example", "me:secret%40a.example", "me:secret%40"] {
            let failure = host_text(&HeaderValue::from_static(host)).expect_err("refused");
            let told = failure.to_string();
            assert!(told.contains("user information") && !told.contains("secret"), "{told}");
        }
        assert!(host_text(&HeaderValue::from_static("a.example:8040")).is_ok());
    }

    #[test]
    fn absolute_form_becomes_origin_form() {
        for (absolute, whole_server, origin) in [
            ("http://a.example/x?y=1", false, "/x?y=1"),
            ("http://a.example", false, "/"),
            ("http://a.example", true, "*"),
            ("http://a.example/", false, "/"),
        ] {
            let uri: Uri = absolute.parse().expect("a URI");
            assert_eq!(origin_form(&uri, whole_server).to_string(), origin, "{absolute}");
        }
    }
}
