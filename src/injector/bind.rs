//! The two ports' addresses.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::socket::{ipv4_instead, lacks_family, listen};

/// Bound; where the machine has no IPv6, `[::]`, which is for both families, is for IPv4 alone.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match (listen(address), ipv4_instead(address)) {
        (Err(error), Some(instead)) if lacks_family(&error) => listen(instead),
        (bound, _) => bound,
    };
    TcpListener::from_std(bound?)
}
