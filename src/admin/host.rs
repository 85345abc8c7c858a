//! The rule about the Host of requests to the administration port: only loopback names are served.
//!
//! The port listens on loopback, but a foreign page can lead a browser on the same machine to it by a name that was
//! made to resolve to 127.0.0.1 (DNS rebinding). The browser's requests still carry the foreign name.

use std::net::{IpAddr, Ipv6Addr};

use axum::{
    extract::Request,
    http::{HeaderValue, StatusCode, header::HOST, uri::Authority},
    middleware::Next,
    response::{IntoResponse as _, Response},
};

/// Answers 403 unless the request gives at least one name (Host fields and an absolute target) and all of them are
/// loopback names.
pub(super) async fn only_loopback(request: Request, next: Next) -> Response {
    match refusal(&request) {
        None => next.run(request).await,
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    }
}

/// Returns the text of the answer 403 for a request that is not served: if no Host field and no absolute target names a
/// host, or if one of the names is not a loopback name. `None` if the request may be served.
fn refusal<B>(request: &http::Request<B>) -> Option<String> {
    let absolute = request.uri().authority().map(|authority| authority.as_str().as_bytes());
    let hosts = request.headers().get_all(HOST).iter().map(HeaderValue::as_bytes);
    let mut names = hosts.chain(absolute).peekable();
    if names.peek().is_none() {
        return Some(
            "warmline: administration needs a Host field: localhost or a loopback address\n".into(),
        );
    }
    let foreign = names.find(|name| !is_loopback(name))?;
    Some(format!(
        "warmline: administration is served to localhost and loopback addresses only, not to the Host {:?} \
         (a foreign page could have sent this request); use http://localhost or 127.0.0.1\n",
        String::from_utf8_lossy(foreign)
    ))
}

/// True if the host, with or without a port, is `localhost` or an address of loopback, an IPv4-mapped IPv6 address
/// included. False for text that is not a host.
pub(super) fn is_loopback(host: &[u8]) -> bool {
    let Ok(authority) = Authority::try_from(host) else { return false };
    let name = authority.host();
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    match bracketed {
        Some(address) => {
            address.parse::<Ipv6Addr>().is_ok_and(|address| address.to_canonical().is_loopback())
        }
        None => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_names_pass_and_all_others_do_not() {
        for host in [
            "localhost",
            "LocalHost:13321",
            "127.0.0.1:13321",
            "127.8.8.8",
            "[::1]",
            "[::ffff:127.0.0.1]:1",
        ] {
            assert!(is_loopback(host.as_bytes()), "{host}");
        }
        for host in [
            "",
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example",
            "localhost@evil.example",
        ] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
        for host in ["10.0.0.1:13321", "[::2]", "0.0.0.0", "a b", "2130706433"] {
            assert!(!is_loopback(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn every_name_counts_and_one_must_be_given() {
        let request = |uri: &str, hosts: &[&str]| {
            let mut request = http::Request::get(uri);
            for host in hosts {
                request = request.header(HOST, *host);
            }
            refusal(&request.body(()).unwrap())
        };
        assert_eq!(request("/pools", &["localhost"]), None);
        assert!(request("/pools", &[]).unwrap().contains("needs a Host"));
        assert!(request("/pools", &["localhost", "a.example"]).unwrap().contains("\"a.example\""));
        assert!(
            request("http://a.example/pools", &["localhost"]).unwrap().contains("\"a.example\"")
        );
    }
}
