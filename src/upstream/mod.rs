//! stub

use std::time::Duration;

use crate::{connect, pool, tls};

/// One named destination, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `[a-z0-9-]{1,63}`; the metrics' label.
    pub name: String,
    /// Hosts that route here, lower case, without a port; `"*"` takes all others. Never empty: defaults to the endpoint's host.
    pub hosts: Vec<String>,
    /// A loopback port of its own, where any Host is taken.
    pub port: Option<u16>,
    /// Where to dial.
    pub endpoint: connect::Endpoint,
    /// Everything about TLS.
    pub tls: tls::Settings,
    /// The pool's numbers.
    pub pool: pool::Settings,
    /// Bounds on connecting.
    pub connect: connect::Limits,
    /// From the whole request written to the end of the final header.
    pub response_timeout: Duration,
    /// No byte either way during a body.
    pub idle_timeout: Duration,
    /// Retries after the first try.
    pub max_retries: u32,
}
