//! The plan: a whole configuration, validated and immutable.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use super::Credentials;
use crate::{telemetry::log, upstream};

/// A whole configuration, validated and immutable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Worker threads, at least 1.
    pub threads: usize,
    /// The log's settings.
    pub log: log::Settings,
    /// Where metrics and health listen.
    pub metrics: Vec<Bind>,
    /// Where administration listens; loopback only.
    pub admin: Vec<Bind>,
    /// Bound on finishing exchanges in flight at the end.
    pub drain: Duration,
    /// Upstreams without whose warm connections the start is not over.
    pub required_upstreams: Vec<String>,
    /// Upstreams at an address to which no server name (SNI) goes, though nobody wrote `serverName: none`.
    pub unnamed_upstreams: Vec<String>,
    /// Where applications come in. The upstreams' own ports are not among them.
    pub listeners: Vec<Listener>,
    /// The destinations.
    pub upstreams: Vec<Arc<upstream::Settings>>,
    /// The certificates and keys that they use.
    pub credentials: Credentials,
}

/// One listener of the plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Loopback, unless `allowNonLoopback` was set.
    pub binds: Vec<Bind>,
    /// Whether answers say in their heads what they came by.
    pub explain: bool,
    /// Bounds on what the application may send and hold.
    pub limits: ListenerLimits,
}

/// An address to listen on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bind {
    /// The address.
    pub address: SocketAddr,
    /// A default bind skips a family that the machine lacks; one that the user wrote is an error
    /// then.
    pub written: bool,
}

/// Bounds on what the application may send and hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerLimits {
    /// Bytes of a request's header section.
    pub header_bytes: usize,
    /// Fields of a request's header section.
    pub header_fields: usize,
    /// From the first byte of a header to its end.
    pub header_timeout: Duration,
    /// How long a client connection may be idle between requests.
    pub idle_timeout: Duration,
    /// Client connections at once; above it we stop accepting.
    pub connections: usize,
}
