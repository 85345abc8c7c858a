//! `warmline get`: makes one request, for images that have no curl.

mod words;

use std::{
    io::{self, Write as _},
    num::NonZeroU16,
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::{
    Uri,
    uri::{InvalidUri, PathAndQuery},
};
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

use crate::head::shown_byte;

/// The arguments of `warmline get`.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An http:// or https:// URL; https is verified against the system's roots
    url: String,
    /// The longest time that the whole request may take, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = seconds)]
    timeout: u64,
}

type CommandError = Box<dyn std::error::Error + Send + Sync>;

const HOSTS: &str = "write a name, an IPv4 address, or an IPv6 address in brackets behind ://";

/// The exit status of a wrong command line, the same as clap's.
const USAGE: u8 = 2;

/// Makes the request and prints the response's body to standard output, and every error to standard error. Exit status
/// 0 for a 2xx response, 1 for another status or none, 2 if the URL cannot be used.
pub(super) fn run(arguments: &Arguments) -> ExitCode {
    // The URL is not checked by clap, which prints what it refuses: that may hold a password.
    let url = match url(&arguments.url) {
        Ok(url) => url,
        Err(error) => {
            eprintln!("warmline get {}: {error}", without_password(&arguments.url));
            return USAGE.into();
        }
    };
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(CommandError::from)
        .and_then(|runtime| runtime.block_on(bounded(&url, arguments.timeout)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("warmline get {url}: {}", words::chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

/// Makes the request and prints its answer; true if the status was 2xx. Fails if it does, or if the answer is not
/// complete within this number of seconds.
async fn bounded(url: &Uri, seconds: u64) -> Result<bool, CommandError> {
    let limit = Duration::from_secs(seconds);
    timeout(limit, get(url.clone()))
        .await
        .map_err(|_| format!("no complete answer within {limit:?} (--timeout)"))?
}

/// Makes the request and prints the response's body; true if the status was 2xx, else the status is printed to standard
/// error. Fails if there is no response, or if its body breaks off or cannot be printed.
async fn get(url: Uri) -> Result<bool, CommandError> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())
        .map_err(|error| format!("the system's roots cannot be read: {error}"))?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let response = client.get(url.clone()).await;
    let mut response = response.map_err(|error| words::of_request(&url, &error))?;
    while let Some(frame) = response.frame().await {
        let frame = frame.map_err(|error| words::of_answer(&error))?;
        if let Ok(data) = frame.into_data() {
            io::stdout().write_all(&data)?;
        }
    }
    io::stdout().flush()?;
    if !response.status().is_success() {
        eprintln!("warmline get: {}", words::of_status(response.status()));
    }
    Ok(response.status().is_success())
}

/// Reads the URL; the error says what would be right. A missing scheme is reported first, because an address without
/// one is often not a URI at all.
fn url(text: &str) -> Result<Uri, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        let text = without_password(text);
        return Err(format!("the URL has no scheme: write http://{text} or https://{text}"));
    };
    if !["http", "https"].iter().any(|served| scheme.eq_ignore_ascii_case(served)) {
        return Err(format!("{scheme}:// is not served: write http:// or https://"));
    }
    if without_password(text) != text {
        return Err("user:password@ in a URL is not sent: leave it out".into());
    }
    let url: Uri = text.parse().map_err(|_: InvalidUri| {
        refused_byte(text).unwrap_or_else(|| format!("it has no usable host; {HOSTS}"))
    })?;
    let authority = url.authority().map_or("", |authority| authority.as_str());
    match port(authority) {
        // hyper ignores a number that is not a port, and connects to the scheme's default port.
        Some(port) if !is_port(port) => Err(format!("{port} is not a port: write 1 to 65535")),
        _ => Ok(url),
    }
}

/// Returns the text behind the host's colon, which may not be a number; `None` if the URL names none.
fn port(authority: &str) -> Option<&str> {
    let (host, port) = authority.rsplit_once(':')?;
    (!port.is_empty() && !port.contains(']') && !host.is_empty()).then_some(port)
}

/// True for a decimal number from 1 to 65535; `NonZeroU16`'s own parser accepts `+80` too.
fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<NonZeroU16>().is_ok()
}

/// Returns the error about the first byte of the path or query that no URL may contain; `None` if there is none.
fn refused_byte(text: &str) -> Option<String> {
    let host = text.find("://")? + "://".len();
    let begin = host + text[host..].find(['/', '?'])?;
    let wrong = text[begin..].char_indices().find_map(|(at, character)| {
        let end = begin + at + character.len_utf8();
        PathAndQuery::try_from(&text[begin..end]).is_err().then_some(begin + at)
    })?;
    let byte = text.as_bytes()[wrong];
    let (shown, place) = (shown_byte(byte), wrong + 1);
    Some(format!("the byte {shown} at place {place} of the URL: write it as %{byte:02X}"))
}

/// Returns the URL with `...` in place of the text before the last `@` of its host, also where that is written `%40`:
/// the text may be a password. If there is an `@` behind the host only, everything behind the scheme becomes `...`,
/// because a password may hold a slash.
fn without_password(text: &str) -> String {
    let begin = text.find("://").map_or(0, |at| at + "://".len());
    let (scheme, rest) = text.split_at(begin);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    match rest[..end].rfind('@').max(rest[..end].rfind("%40")) {
        // A password may hold a slash that its writer did not escape.
        None if !rest.contains('@') => text.to_owned(),
        None => format!("{scheme}..."),
        Some(at) => format!("{scheme}...{}", &rest[at..]),
    }
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "write whole seconds, 1 or more".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_a_scheme_is_refused_with_what_would_be_right() {
        for text in ["127.0.0.1:13301/x", "localhost", "/x", ""] {
            assert!(url(text).is_err_and(|error| error.contains("write http://")), "{text}");
        }
        assert!(url("http://[::1]:13301/x").is_ok());
    }

    #[test]
    fn a_scheme_that_is_not_served_is_refused_with_what_would_be_right() {
        for text in ["ftp://a.example/x", "file:///x", "ws://a.example"] {
            assert!(url(text).is_err_and(|error| error.contains("http:// or https://")), "{text}");
        }
        assert!(url("HTTPS://a.example/").is_ok());
    }

    #[test]
    fn fault_36_a_port_that_is_none_is_refused_and_not_taken_for_80() {
        for (text, port) in [
            ("http://127.0.0.1:133200/x", "133200"),
            ("http://a.example:65536", "65536"),
            ("http://[::1]:0/", "0"),
            ("https://a.example:80a/", "80a"),
            ("http://a.example:+80/", "+80"),
        ] {
            let told = url(text).expect_err("no port");
            assert!(told.contains(&format!("{port} is not a port")), "{text}: {told}");
        }
        for text in ["http://[::1]/", "http://[::1]:65535/", "http://a.example:/", "http://a:1"] {
            assert!(url(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn fault_11_a_byte_that_no_url_has_is_named_with_its_place() {
        for (text, told) in [
            (
                "http://127.0.0.1:1/?x=\"{}\"",
                "the byte '\"' at place 23 of the URL: write it as %22",
            ),
            ("http://a.example/a b", "the byte 0x20 at place 19 of the URL: write it as %20"),
            ("http://a.example?<", "the byte '<' at place 18 of the URL: write it as %3C"),
        ] {
            assert_eq!(url(text), Err(told.to_owned()));
        }
        assert!(url("http://a.example/{}?x={}").is_ok());
    }

    #[test]
    fn fault_36_a_host_that_is_none_is_refused_with_what_would_be_right() {
        for text in ["http://", "http:///x", "http://[::1:80/", "http://a%20b/", "http://?x"] {
            let told = url(text).expect_err("no host");
            assert_eq!(told, format!("it has no usable host; {HOSTS}"), "{text}");
        }
    }

    #[test]
    fn fault_36_a_password_in_a_url_is_refused_and_never_shown() {
        for (text, shown) in [
            ("http://me:secret@a.example/x?y@z", "http://...@a.example/x?y@z"),
            ("http://me:se@cret@a.example:133200/x", "http://...@a.example:133200/x"),
            ("ftp://me:secret@a.example", "ftp://...@a.example"),
            ("http://me:sec/ret@a.example/", "http://..."),
            ("http://a.example/x", "http://a.example/x"),
            ("a.example", "a.example"),
            ("me:secret@a.example", "...@a.example"),
            ("http://me%3Asecret%40a.example/", "http://...%40a.example/"),
            ("http://me:se@cret%40a.example/x%40y", "http://...%40a.example/x%40y"),
            ("http://a.example/x%40y", "http://a.example/x%40y"),
        ] {
            assert_eq!(without_password(text), shown);
            let refused = url(text).err().unwrap_or_default();
            assert!(!refused.contains("cret"), "{text}: {refused}");
        }
        for text in ["http://me:secret@a.example/x", "http://me%3Asecret%40a.example/"] {
            assert!(url(text).is_err_and(|error| error.contains("not sent")), "{text}");
        }
    }

    #[test]
    fn a_request_may_take_one_second_or_more_but_not_none() {
        for text in ["0", "-1", "1.5", "", "5s"] {
            assert!(seconds(text).is_err_and(|error| error.contains("1 or more")), "{text}");
        }
        assert_eq!(seconds("1"), Ok(1));
    }
}
