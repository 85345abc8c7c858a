//! The two ports' addresses.

use std::{io, net::SocketAddr};

use tokio::net::{TcpListener, TcpSocket};

use crate::socket::{ipv4_instead, lacks_family};

/// Connections that wait to be accepted: API servers make one for each review under way.
const BACKLOG: u32 = 1024;

/// Bound; where the machine has no IPv6, `[::]`, which is for both families, is for IPv4 alone.
pub(super) fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match (listen(address), ipv4_instead(address)) {
        (Err(error), Some(instead)) if lacks_family(&error) => listen(instead),
        (bound, _) => bound,
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // The one before us may have left connections behind that wait for their end.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}
