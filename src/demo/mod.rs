//! The demo's outside world, all in this process: an origin that demands client certificates, an authority to be thrown
//! away, a client that connects for each request, a network with a round trip, and the words that explain it.
//!
//! What stands between client and origin, Warmline itself, is started by the command line (`cli::demo`).

pub mod authority;
pub mod client;
mod network;
pub mod origin;
pub mod plan;
pub mod report;
pub mod words;

use std::io;

use crate::config;

/// What the origin is called, in its certificate and by its clients.
pub const ORIGIN: &str = "demo.example";
/// What the client certificate says.
pub const APPLICATION: &str = "demo-application";
/// The upstream's name in metrics and log lines.
pub const UPSTREAM: &str = "demo";

/// Why the demo cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Keys or certificates were not made.
    #[error("the throw-away certificates cannot be made: {0}")]
    Certificates(#[from] rcgen::Error),
    /// rustls does not accept what was made.
    #[error("TLS cannot be prepared: {}", crate::tls::words(.0))]
    Tls(#[from] rustls::Error),
    /// No socket, thread or runtime.
    #[error("the demo's origin cannot be started: {0}")]
    Origin(io::Error),
    /// No runtime for the client.
    #[error("the demo's client cannot be started: {0}")]
    Client(io::Error),
    /// The configuration that the demo writes for itself.
    #[error("the demo's own configuration is refused: {0}")]
    Plan(#[from] config::Errors),
    /// A request got no good answer.
    #[error("request {number} to {to}: {why}")]
    Request {
        /// From 1.
        number: usize,
        /// The URL.
        to: http::Uri,
        /// The client's words, or the answer.
        why: String,
    },
}
