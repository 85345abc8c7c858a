//! Where a request wants to go: its target and Host, judged and cut to origin-form (RFC 9112 section 3.2).

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method, Uri, Version,
    header::HOST,
    request,
    uri::{Authority, Scheme},
};

use super::Failure;
use crate::{latest::Latest, route::Table, upstream::Upstream};

/// The longest authority (RFC 1035 section 2.3.4 bounds a name at 255).
const AUTHORITY_BYTES: usize = 255;
const NO_HOST: &str = "the request has no Host field";
const NO_SUCH_HOST: &str = "the host has characters that no host has";

/// An upstream, and the Host that it is to see.
#[derive(Clone)]
pub struct Destination {
    /// The upstream.
    pub upstream: Arc<Upstream>,
    /// The Host it sees; `None`: the client's, with the endpoint's port.
    pub host: Option<HeaderValue>,
}

/// How a listener's requests find their destination, as the newest configuration has it.
#[derive(Clone)]
pub enum Entry {
    /// By Host or absolute-form.
    Shared(Arc<Latest<Table<Destination>>>),
    /// The upstream's own port: any Host.
    Own(Arc<Latest<Destination>>),
}

/// Finds the destination, the Host that goes up, and makes the target origin-form.
pub(super) fn find(
    entry: &Entry,
    parts: &mut request::Parts,
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
        parts.uri = origin_form(&parts.uri, &parts.method);
    }
    Ok(found)
}

/// RFC 9112 section 3.2: once, and not missing in HTTP/1.1.
fn host_field(headers: &HeaderMap, version: Version) -> Result<Option<&HeaderValue>, Failure> {
    let mut hosts = headers.get_all(HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(_), Some(_)) => Err(Failure::bad_request("the request has more than one Host field")),
        (None, _) if version == Version::HTTP_11 => Err(Failure::bad_request(NO_HOST)),
        (field, _) => Ok(field),
    }
}

fn absolute_authority(uri: &Uri) -> Result<Option<Authority>, Failure> {
    let Some(authority) = uri.authority() else { return Ok(None) };
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

/// The target's authority, which overrides the Host field's.
fn authority<'a>(
    absolute: Option<&'a Authority>,
    field: Option<&'a HeaderValue>,
) -> Result<&'a str, Failure> {
    let authority = match (absolute, field) {
        (Some(authority), _) => authority.as_str(),
        (None, Some(field)) => field.to_str().unwrap_or_default(),
        (None, None) => return Err(Failure::bad_request(NO_HOST)),
    };
    match authority.len() {
        0 => Err(Failure::bad_request("the Host field is empty or not ASCII")),
        1..=AUTHORITY_BYTES => Ok(authority),
        _ => Err(Failure::bad_request("the host is longer than 255 bytes")),
    }
}

fn by_host(
    table: &Table<Destination>,
    authority: &str,
    path: &str,
) -> Result<(Arc<Upstream>, HeaderValue), Failure> {
    let host = without_port(authority);
    match table.find(host) {
        Some(destination) => host_of(destination, Some(host)),
        None => Err(Failure::UnknownHost {
            host: host.to_owned(),
            hosts: table.hosts().into_iter().map(str::to_owned).collect(),
            stats: path == "/stats",
        }),
    }
}

/// `name:80` and `[::1]:80` without the port.
fn without_port(authority: &str) -> &str {
    match authority.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let whole = !host.contains(':') || host.ends_with(']');
            if whole { host } else { authority }
        }
        _ => authority,
    }
}

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
    let value = HeaderValue::try_from(value).map_err(|_| Failure::bad_request(NO_SUCH_HOST))?;
    drop(settings);
    Ok((upstream, value))
}

/// A host that nobody configured goes up only if it is one. Plain names, nearly all, need no parser.
fn checked(host: &str) -> Result<&str, Failure> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
    if !host.is_empty() && host.bytes().all(plain) {
        return Ok(host);
    }
    match host.parse::<Authority>() {
        Ok(authority) if authority.host() == host => Ok(host),
        _ => Err(Failure::bad_request(NO_SUCH_HOST)),
    }
}

/// A Host field: the port is told where it is not 443.
pub fn with_port(host: &str, port: u16) -> String {
    if port == 443 {
        return host.to_owned();
    }
    // Not `format!`: this is done for each request to a host that nobody configured.
    let mut field = String::with_capacity(host.len() + ":65535".len());
    field.push_str(host);
    field.push(':');
    field.push_str(&port.to_string());
    field
}

/// RFC 9112 section 3.2.1; `OPTIONS http://host` asks about the whole server (section 3.2.4).
fn origin_form(uri: &Uri, method: &Method) -> Uri {
    let whole_server = method == Method::OPTIONS && uri.path() == "/" && uri.query().is_none();
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
            ("[::1]", "[::1]"),
            ("::1", "::1"),
            ("a:b", "a:b"),
        ] {
            assert_eq!(without_port(authority), host, "{authority}");
        }
    }

    #[test]
    fn absolute_form_becomes_origin_form() {
        for (method, absolute, origin) in [
            (Method::GET, "http://a.example/x?y=1", "/x?y=1"),
            (Method::GET, "http://a.example", "/"),
            (Method::OPTIONS, "http://a.example", "*"),
            (Method::OPTIONS, "http://a.example/x", "/x"),
        ] {
            let uri: Uri = absolute.parse().expect("a URI");
            assert_eq!(origin_form(&uri, &method).to_string(), origin, "{method} {absolute}");
        }
    }
}
