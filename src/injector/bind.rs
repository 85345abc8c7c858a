//! Binds the addresses of the injector's two ports.

use std::{io, net::SocketAddr};

use tokio::net::TcpListener;

use crate::socket::{ipv4_instead, lacks_family, listen};

/// Binds a listener to the address. On a machine without IPv6 the address `[::]`, which is for IPv4 and IPv6, becomes
/// `0.0.0.0`.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let bound = match (listen(address), ipv4_instead(address)) {
        (Err(error), Some(instead)) if lacks_family(&error) => listen(instead),
        (bound, _) => bound,
    };
    TcpListener::from_std(bound?)
}
