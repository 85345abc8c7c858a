//! `warmline get`: one request, for images that have no curl.

use std::{
    io::{self, Write as _},
    process::ExitCode,
    time::Duration,
};

use bytes::Bytes;
use http::Uri;
use http_body_util::{BodyExt as _, Empty};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use tokio::time::timeout;

/// What `warmline get` is told.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// An http:// or https:// URL; https is verified against the system's roots
    #[arg(value_parser = url)]
    url: Uri,
    /// How long the whole request may take, in seconds
    #[arg(long, default_value_t = 30, value_name = "SECONDS", value_parser = seconds)]
    timeout: u64,
}

type Failed = Box<dyn std::error::Error + Send + Sync>;

pub(super) fn run(arguments: &Arguments) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(Failed::from)
        .and_then(|runtime| runtime.block_on(bounded(arguments)));
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("warmline get {}: {}", arguments.url, chain(error.as_ref()));
            ExitCode::FAILURE
        }
    }
}

async fn bounded(arguments: &Arguments) -> Result<bool, Failed> {
    let limit = Duration::from_secs(arguments.timeout);
    timeout(limit, get(arguments.url.clone()))
        .await
        .map_err(|_| format!("no complete answer within {limit:?} (--timeout)"))?
}

/// Prints the body; whether the status was 2xx.
async fn get(url: Uri) -> Result<bool, Failed> {
    let connector = HttpsConnectorBuilder::new()
        .with_provider_and_native_roots(rustls::crypto::aws_lc_rs::default_provider())?
        .https_or_http()
        .enable_http1()
        .build();
    let client = Client::builder(TokioExecutor::new()).build::<_, Empty<Bytes>>(connector);
    let mut response = client.get(url).await?;
    while let Some(frame) = response.frame().await {
        if let Ok(data) = frame?.into_data() {
            io::stdout().write_all(&data)?;
        }
    }
    io::stdout().flush()?;
    if !response.status().is_success() {
        eprintln!("warmline get: {}", response.status());
    }
    Ok(response.status().is_success())
}

/// An address without a scheme is often no URI at all: said before anything else about it.
fn url(text: &str) -> Result<Uri, String> {
    let Some((scheme, _)) = text.split_once("://") else {
        return Err(format!("the URL has no scheme: write http://{text} or https://{text}"));
    };
    if !["http", "https"].iter().any(|served| scheme.eq_ignore_ascii_case(served)) {
        return Err(format!("{scheme}:// is not served: write http:// or https://"));
    }
    text.parse().map_err(|error: http::uri::InvalidUri| error.to_string())
}

fn seconds(text: &str) -> Result<u64, String> {
    let seconds = text.parse().ok().filter(|seconds| *seconds > 0);
    seconds.ok_or_else(|| "write whole seconds, 1 or more".into())
}

fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
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
    fn a_request_may_take_one_second_or_more_but_not_none() {
        for text in ["0", "-1", "1.5", "", "5s"] {
            assert!(seconds(text).is_err_and(|error| error.contains("1 or more")), "{text}");
        }
        assert_eq!(seconds("1"), Ok(1));
    }
}
