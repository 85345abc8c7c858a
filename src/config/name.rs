//! The kinds of values that name something: upstreams, hosts, endpoints, addresses, files.

use std::{
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::PathBuf,
};

use rustls::pki_types::{DnsName, ServerName};
use schemars::{Schema, json_schema};
use serde::Serialize;

use super::{kind::quote, written::Kind};
use crate::connect::{EndpointHost, HostPort};

/// An upstream's name: 1 to 63 of a-z, 0-9 and `-`.
#[derive(Debug)]
pub(super) struct UpstreamName;

impl Kind for UpstreamName {
    type Value = String;

    fn read(text: &str) -> Result<String, String> {
        let fits = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if (1..=63).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(text.into());
        }
        Err(format!("{} is not a name; write 1 to 63 of a-z, 0-9 and -", quote(text)))
    }

    fn show(value: &String) -> impl Serialize {
        value
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[a-z0-9-]{1,63}$" })
    }
}

/// A value of the Host field that routes to an upstream: a name, an address (IPv6 in brackets), or `*`.
#[derive(Debug)]
pub(super) struct Host;

impl Kind for Host {
    type Value = String;

    fn read(text: &str) -> Result<String, String> {
        if text == "*" {
            return Ok(text.into());
        }
        if let Some(fault) = url_or_foreign(text, host_of_url) {
            return Err(fault);
        }
        if text.starts_with("*.") {
            return Err(format!(
                "{} is not a host; write each name in full, or \"*\" for all others",
                quote(text)
            ));
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Err(format!("{} is an IPv6 address; write \"[{address}]\"", quote(text)));
        }
        if let Some((host, _)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) {
            return Err(format!(
                "{} holds a port, and the port of a request's Host is not looked at; write \
                 {host:?}",
                quote(text)
            ));
        }
        match host(text) {
            Some(EndpointHost::Name(name)) if name.ends_with('.') => {
                Err(format!("{} ends in a dot; write it without", quote(text)))
            }
            Some(host) => Ok(host.to_string()),
            None => Err(format!("{} is not a host; {HOSTS}", quote(text))),
        }
    }

    fn show(value: &String) -> impl Serialize {
        value
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

const HOSTS: &str = "write a DNS name, an IPv4 address, or an IPv6 address in brackets";

/// The address of an endpoint: `HOST:PORT`.
#[derive(Debug)]
pub(super) struct EndpointAddress;

impl Kind for EndpointAddress {
    type Value = HostPort;

    fn read(text: &str) -> Result<HostPort, String> {
        if let Some(fault) = url_or_foreign(text, endpoint_of_url) {
            return Err(fault);
        }
        if let Ok(address) = text.parse::<Ipv6Addr>() {
            return Err(unbracketed(text, address));
        }
        let Some((host_text, port)) = text.rsplit_once(':').filter(|_| !text.ends_with(']')) else {
            if text.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(format!("{} has no host; write HOST:PORT", quote(text)));
            }
            return Err(without_port(text));
        };
        let Some(port) = decimal(port).filter(|port| *port > 0) else {
            return Err(format!(
                "{} has no usable port; write HOST:PORT with a port from 1 to 65535",
                quote(text)
            ));
        };
        let Some(host) = host(host_text) else {
            return Err(format!("{} has no usable host; {HOSTS}", quote(text)));
        };
        Ok(HostPort { host, port })
    }

    fn show(value: &HostPort) -> impl Serialize {
        value.to_string()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": "^[^/]+:[0-9]{1,5}$" })
    }
}

/// Returns the error for an endpoint without a port; it suggests one only if the rest is a host.
fn without_port(text: &str) -> String {
    match host(text) {
        Some(_) => format!("{} has no port; write \"{text}:443\"", quote(text)),
        None => {
            format!("{} has no usable host and no port; {HOSTS}, and :443 behind it", quote(text))
        }
    }
}

/// Returns the error for an IPv6 address without brackets. If its last group is decimal, the error also suggests to
/// read that group as the port.
fn unbracketed(text: &str, whole: Ipv6Addr) -> String {
    let split = text.rsplit_once(':').and_then(|(head, last)| {
        let head = head.parse::<Ipv6Addr>().ok()?;
        decimal(last).filter(|port| *port > 0).map(|port| format!("\"[{head}]:{port}\""))
    });
    match split {
        Some(split) => format!(
            "{} needs brackets around its address; write {split}, or \"[{whole}]:443\" if all of \
             it is the address",
            quote(text)
        ),
        None => format!("{} has no port; write \"[{whole}]:443\"", quote(text)),
    }
}

/// An address to listen on: `IP:PORT`; port 0 means any free one.
#[derive(Debug)]
pub(super) struct BindAddress;

impl Kind for BindAddress {
    type Value = SocketAddr;

    fn read(text: &str) -> Result<SocketAddr, String> {
        let padded = text.rsplit_once(':').is_some_and(|(_, port)| decimal(port).is_none());
        let address = text.parse().ok().filter(|_| !padded);
        address.ok_or_else(|| {
            format!(
                "{} is not an IP address with a port; write one such as \"127.0.0.1:13301\" or \
                 \"[::1]:13301\"",
                quote(text)
            )
        })
    }

    fn show(value: &SocketAddr) -> impl Serialize {
        value.to_string()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "pattern": ":[0-9]{1,5}$" })
    }
}

/// The name that is sent as SNI; `none` is read as `None`, and none is sent.
#[derive(Debug)]
pub(super) struct ServerNameKind;

impl Kind for ServerNameKind {
    type Value = Option<DnsName<'static>>;

    fn read(text: &str) -> Result<Self::Value, String> {
        if text == "none" {
            return Ok(None);
        }
        if address(text).is_some() {
            return Err(format!(
                "{} is an address, and SNI carries names only (RFC 6066); write none here, and \
                 the address as `verifyName`",
                quote(text)
            ));
        }
        dns_name(text).map(Some).ok_or_else(|| {
            format!(
                "{} is not a DNS name; write the name to send as SNI, or none to send none",
                quote(text)
            )
        })
    }

    fn show(value: &Self::Value) -> impl Serialize {
        value.as_ref().map_or("none", AsRef::as_ref)
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The name or address that the upstream's certificate must carry; no value turns verification off.
#[derive(Debug)]
pub(super) struct VerifyName;

impl Kind for VerifyName {
    type Value = ServerName<'static>;

    fn read(text: &str) -> Result<Self::Value, String> {
        if matches!(text, "none" | "off" | "false" | "no" | "*" | "") {
            return Err(format!(
                "{} would turn verification off, and nothing does; write the name that the \
                 certificate carries",
                quote(text)
            ));
        }
        if let Some(address) = address(text) {
            return Ok(ServerName::from(address));
        }
        dns_name(text).map(ServerName::DnsName).ok_or_else(|| {
            format!(
                "{} is not a DNS name or IP address; write one that the certificate carries",
                quote(text)
            )
        })
    }

    fn show(value: &Self::Value) -> impl Serialize {
        value.to_str()
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// The path of a PEM file. PEM text in its place is refused and never shown.
#[derive(Debug)]
pub(super) struct FilePath;

impl Kind for FilePath {
    type Value = PathBuf;

    fn read(text: &str) -> Result<PathBuf, String> {
        if text.contains("-----BEGIN ") {
            return Err("this is PEM itself; write the path of a file that holds it".into());
        }
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{} is not a path; write the path of a PEM file", quote(text)));
        }
        Ok(text.into())
    }

    fn show(value: &PathBuf) -> impl Serialize {
        value
    }

    fn schema() -> Schema {
        json_schema!({ "type": "string", "minLength": 1 })
    }
}

/// Reads a DNS name as TLS wants it: in lower case, without a final dot. `None` if the text is not a DNS name.
pub(super) fn dns_name(text: &str) -> Option<DnsName<'static>> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    DnsName::try_from(name).ok()
}

/// Reads an endpoint's host: a DNS name, an IPv4 address, or an IPv6 address in brackets; `None` for anything else.
/// Names become lower case; a final dot stays, because it keeps the resolver from trying its search list.
fn host(text: &str) -> Option<EndpointHost> {
    if let Some(address) = address(text) {
        let bare_ipv6 = address.is_ipv6() && !text.starts_with('[');
        return (!bare_ipv6).then_some(EndpointHost::Address(address));
    }
    let name = DnsName::try_from(text.to_ascii_lowercase()).ok()?;
    Some(EndpointHost::Name(name.as_ref().into()))
}

/// Reads an IP address, IPv6 with or without brackets; `None` for anything else.
fn address(text: &str) -> Option<IpAddr> {
    match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse().ok(),
    }
}

/// Reads a port in plain digits; `None` for anything else, also for leading zeros and a plus sign, which `u16`'s own
/// parser accepts.
fn decimal(text: &str) -> Option<u16> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    (digits && !padded).then(|| text.parse().ok()).flatten()
}

/// Returns the remedy for a URL in the place of a host.
fn host_of_url(_: &str) -> String {
    "write the host alone, without scheme and path".into()
}

/// Returns the remedy for a URL in the place of an endpoint: its host and port, if they are usable.
fn endpoint_of_url(url: &str) -> String {
    let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let is_plain = scheme.eq_ignore_ascii_case("http");
    let authority = authority.strip_suffix(":80").filter(|_| is_plain).unwrap_or(authority);
    let with_port = [authority.to_owned(), format!("{authority}:443")];
    let endpoint = with_port.iter().find_map(|text| EndpointAddress::read(text).ok());
    let remedy = match endpoint {
        Some(endpoint) => format!("write \"{endpoint}\""),
        None => "write HOST:PORT, without scheme and path".into(),
    };
    let plain =
        if is_plain { ": upstreams speak TLS; plain HTTP is not in this version" } else { "" };
    format!("{remedy}{plain}")
}

/// Returns the error for a text that is not a host: one with a user and perhaps a password, which are not shown, a URL,
/// or a name that is not in ASCII; `None` for other texts. `of_url` returns the remedy for a URL.
fn url_or_foreign(text: &str, of_url: impl Fn(&str) -> String) -> Option<String> {
    if text.contains('@') {
        return Some(
            "a user or password stands before an @; write the host without them: a request carries \
             them in its Authorization field"
                .into(),
        );
    }
    if text.contains("://") || text.contains('/') {
        return Some(format!("{} is a URL; {}", quote(text), of_url(text)));
    }
    (!text.is_ascii()).then(|| {
        format!(
            "{} is not in ASCII; write internationalised names as DNS holds them (xn--...)",
            quote(text)
        )
    })
}
