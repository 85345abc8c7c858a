//! The plan: a whole configuration, validated and immutable.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Credentials;
use crate::{telemetry::log, upstream};

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
    /// True if each answer tells in its `Proxy-Status` field which connection it came by.
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
