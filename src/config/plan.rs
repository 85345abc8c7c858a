//! The plan: a whole configuration, validated and immutable.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Credentials;
use crate::{telemetry::log, upstream};

/// The default addresses of metrics and health: every address of the pod, IPv4 too.
pub(super) const METRICS_BIND: &[&str] = &["[::]:13320"];
/// The default address of administration: loopback only.
pub(super) const ADMIN_BIND: &[&str] = &["127.0.0.1:13321"];
/// The default addresses of traffic: both loopback families, because many machines resolve `localhost` to `::1` first.
pub(super) const LISTENER_BIND: &[&str] = &["127.0.0.1:13301", "[::1]:13301"];

/// A whole configuration, validated and immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The number of worker threads, at least 1.
    pub threads: usize,
    /// The log's settings.
    pub log: log::Settings,
    /// The addresses that metrics and health are served on.
    pub metrics: Vec<Bind>,
    /// The addresses that administration is served on; loopback only.
    pub admin: Vec<Bind>,
    /// The time that exchanges in flight have to finish once the drain has begun.
    pub drain: Duration,
    /// The names of the upstreams whose warm connections must exist before the process is ready.
    pub required_upstreams: Vec<String>,
    /// The names of the upstreams whose endpoint is an address, so that no server name (SNI) is sent, although the
    /// document does not say `serverName: none`.
    pub unnamed_upstreams: Vec<String>,
    /// The listeners for applications. The upstreams' own ports are not among them.
    pub listeners: Vec<Listener>,
    /// The destinations.
    pub upstreams: Vec<Arc<upstream::Settings>>,
    /// The certificates and keys of the upstreams.
    pub credentials: Credentials,
}

/// A listener of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// The addresses; loopback only, unless `allowNonLoopback` was set.
    pub binds: Vec<Bind>,
    /// True if the `Proxy-Status` field of each answer says which connection it came by.
    pub explain: bool,
    /// Bounds on what the application may send and hold.
    pub limits: ListenerLimits,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// True if the user wrote the address. On a machine without its address family, a default address is skipped, and a
    /// written one is an error.
    pub written: bool,
}

/// Bounds on what the application may send and hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLimits {
    /// The most bytes of a request's header section.
    pub header_bytes: usize,
    /// The most fields of a request's header section.
    pub header_fields: usize,
    /// The most time from the first byte of a request's header section to its end.
    pub header_timeout: Duration,
    /// The most time that a client connection may be idle between requests.
    pub idle_timeout: Duration,
    /// The most client connections at once; above that number none is accepted.
    pub connections: usize,
}

impl Plan {
    /// Makes a plan that serves operators at these addresses, and nobody else, with the default settings.
    pub(crate) fn new(metrics: Vec<Bind>, admin: Vec<Bind>, log: log::Settings) -> Self {
        Self {
            threads: 1,
            log,
            metrics,
            admin,
            drain: Duration::from_secs(25),
            required_upstreams: Vec::new(),
            unnamed_upstreams: Vec::new(),
            listeners: Vec::new(),
            upstreams: Vec::new(),
            credentials: Credentials::default(),
        }
    }
}

impl Listener {
    /// Makes a listener on these addresses, with the default settings.
    pub(super) fn new(binds: Vec<Bind>) -> Self {
        Self { binds, explain: false, limits: ListenerLimits::default() }
    }
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            header_bytes: 32 * 1024,
            header_fields: 100,
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(5),
            connections: 4096,
        }
    }
}

/// Makes default addresses, not marked as written by the user.
pub(super) fn default_binds(addresses: &[&str]) -> Vec<Bind> {
    let parse = |text: &&str| text.parse().expect("the defaults are addresses; a test reads them");
    addresses.iter().map(|text| Bind { address: parse(text), written: false }).collect()
}
