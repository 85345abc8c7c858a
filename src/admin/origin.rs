//! The rule about the origin of requests that change something: this port's own page, or a program that is not a
//! browser.
//!
//! A foreign page can have a browser send a POST here without reading the answer (CSRF). Such a request carries the
//! foreign page's Origin and a `Sec-Fetch-Site` field. A loopback Host ([`super::host`]) does not protect from that.

use axum::{
    extract::Request,
    http::{
        HeaderMap, HeaderValue, Method, StatusCode, Uri,
        header::{HOST, ORIGIN},
        uri::Authority,
    },
    middleware::Next,
    response::{IntoResponse as _, Response},
};

use super::host::is_loopback;

/// The values of `Sec-Fetch-Site` in requests that the user began, or a page of the same origin.
const OWN_SITES: [&[u8]; 2] = [b"same-origin", b"none"];

/// Answers 403 to requests from another page, except to GET and HEAD, which change nothing.
pub(super) async fn only_own_page(request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        return next.run(request).await;
    }
    match refusal(request.headers()) {
        None => next.run(request).await,
        Some(reason) => (StatusCode::FORBIDDEN, reason).into_response(),
    }
}

/// Returns the text of the answer 403 if the request comes from another page: if an Origin field names anything but
/// plain HTTP at a loopback name with the Host's port, or a `Sec-Fetch-Site` field names another site. `None` for
/// requests of this port's own page, and for those with neither field, which programs send.
fn refusal(headers: &HeaderMap) -> Option<String> {
    let port = headers.get(HOST).and_then(|host| Authority::try_from(host.as_bytes()).ok());
    let port = port.map_or(80, |host| host.port_u16().unwrap_or(80));
    let own = |origin: &&HeaderValue| is_own(origin.as_bytes(), port);
    if let Some(foreign) = headers.get_all(ORIGIN).iter().find(|origin| !own(origin)) {
        return Some(format!(
            "warmline: this request comes from another page, of the Origin {:?}; only the page of this port may ask for it, \
             or a program that sends no Origin, such as curl -X POST\n",
            String::from_utf8_lossy(foreign.as_bytes())
        ));
    }
    let foreign = |site: &&HeaderValue| !OWN_SITES.contains(&site.as_bytes());
    let site = headers.get_all("sec-fetch-site").iter().find(foreign)?;
    Some(format!(
        "warmline: this request comes from another page (Sec-Fetch-Site: {}); only the page of this port may ask for it\n",
        String::from_utf8_lossy(site.as_bytes()).escape_debug()
    ))
}

/// True if the origin is plain HTTP at a loopback name with this port.
fn is_own(origin: &[u8], port: u16) -> bool {
    let Ok(origin) = Uri::try_from(origin) else { return false };
    let Some(authority) = origin.authority() else { return false };
    origin.scheme_str() == Some("http")
        && is_loopback(authority.as_str().as_bytes())
        && authority.port_u16().unwrap_or(80) == port
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(fields: &[(&'static str, &str)]) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("127.0.0.1:13321"));
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_str(value).unwrap());
        }
        refusal(&headers)
    }

    #[test]
    fn the_page_of_this_port_and_programs_pass() {
        assert_eq!(told(&[]), None);
        for origin in ["http://127.0.0.1:13321", "http://localhost:13321", "http://[::1]:13321"] {
            assert_eq!(told(&[("origin", origin), ("sec-fetch-site", "same-origin")]), None);
        }
        assert_eq!(told(&[("sec-fetch-site", "none")]), None);
    }

    #[test]
    fn every_other_page_is_refused_by_its_name() {
        for origin in [
            "http://evil.example",
            "http://127.0.0.1:13321.evil.example",
            "http://localhost:3000",
            "http://localhost",
            "https://localhost:13321",
            "http://10.0.0.1:13321",
            "null",
            "",
        ] {
            let refusal = told(&[("origin", origin)]).expect(origin);
            assert!(refusal.contains(&format!("{origin:?}")), "{refusal}");
        }
        for site in ["cross-site", "same-site", "Cross-Site"] {
            assert!(told(&[("sec-fetch-site", site)]).expect(site).contains(site));
        }
        let twice = [("origin", "http://localhost:13321"), ("origin", "http://evil.example")];
        assert!(told(&twice).is_some());
    }
}
