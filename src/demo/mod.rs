//! The demo's surroundings, all in this process: an origin that demands client certificates, a throw-away authority, a
//! client that connects for each request, a network with a round trip, and the texts that explain them.
//!
//! Warmline itself, between client and origin, is started by the command line (`cli::demo`).

pub mod authority;
pub mod client;
mod network;
pub mod origin;
pub mod plan;
pub mod report;
pub mod words;

use std::io;

use crate::config;

/// The origin's DNS name, in its certificate and in the Host of requests.
pub const ORIGIN: &str = "demo.example";
/// The common name of the client certificate.
pub const APPLICATION: &str = "demo-application";
/// The upstream's name in metrics and log lines.
pub const UPSTREAM: &str = "demo";

/// The reasons for which the demo cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys or certificates could not be made.
    #[error("the throw-away certificates cannot be made: {0}")]
    Certificates(#[from] rcgen::Error),
    /// rustls does not accept the certificates that were made.
    #[error("TLS cannot be prepared: {}", crate::tls::words(.0))]
    Tls(#[from] rustls::Error),
    /// The origin's socket, thread or runtime could not be made.
    #[error("the demo's origin cannot be started: {0}")]
    Origin(io::Error),
    /// The client's runtime could not be made.
    #[error("the demo's client cannot be started: {0}")]
    Client(io::Error),
    /// The configuration that the demo writes for itself was refused.
    #[error("the demo's own configuration is refused: {0}")]
    Plan(#[from] config::Errors),
    /// A request got no response, or one that is not 2xx.
    #[error("request {number} to {to}: {why}")]
    Request {
        /// The number of the request, from 1.
        number: usize,
        /// The URL.
        to: http::Uri,
        /// The client's error, or the response.
        why: String,
    },
}
