//! The making and driving of connections to upstreams: dial, handshake, HTTP.

pub mod addresses;
pub mod body;
pub mod connection;
pub mod dial;
mod error;
mod fate;
pub mod handshake;
mod harmless;
mod idle_sender;
pub mod meter;
mod race;
pub mod resolve;
mod tcp;

use std::{fmt, net::IpAddr, time::Duration};

pub use addresses::Addresses;
pub use body::RequestBody;
pub use connection::{Connection, ConnectionControl, Driver, StaleCheck};
pub use error::{ConnectError, ended_with};
pub use fate::{Fate, PriorUse, Suspect};
pub use handshake::Dialled;
pub use idle_sender::Closed;
pub use resolve::{NameFault, Resolver};

/// A host and port to dial: one entry of `endpoints`, as written.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct HostPort {
    /// A name or an IP address.
    pub host: EndpointHost,
    /// The TCP port.
    pub port: u16,
}

/// The host part of an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum EndpointHost {
    /// A DNS name in lower case, resolved at connect time.
    Name(String),
    /// An address, used as it is.
    Address(IpAddr),
}

/// The spelling of field names on a connection.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum HeaderCase {
    /// The sender's spelling, in both directions.
    Kept,
    /// Lower case, in both directions.
    #[default]
    Lower,
    /// `Content-Length` to the upstream, lower case to the client.
    Title,
}

/// The time limits on making one connection, which takes no longer than both together, a second handshake included.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// The limit on name resolution and TCP, for all addresses of one dial.
    pub connect: Duration,
    /// The limit on the TLS handshake.
    pub handshake: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connect: Duration::from_secs(5), handshake: Duration::from_secs(5) }
    }
}

impl fmt::Display for EndpointHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => f.write_str(name),
            Self::Address(IpAddr::V4(address)) => write!(f, "{address}"),
            Self::Address(IpAddr::V6(address)) => write!(f, "[{address}]"),
        }
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.host, self.port)
    }
}
