//! The two ports' addresses.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::socket::{ipv4_instead, lacks_family};

/// Bound; where the machine has no IPv6, `[::]`, which is for both families, is for IPv4 alone.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match (TcpListener::bind(address).await, ipv4_instead(address)) {
        (Err(error), Some(instead)) if lacks_family(&error) => TcpListener::bind(instead).await,
        (bound, _) => bound,
    }
}
