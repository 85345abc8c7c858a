//! The two ports' addresses.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use tokio::net::TcpListener;

/// Bound; where the machine has no IPv6, `[::]`, which is for both families, is for IPv4 alone.
pub(super) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    match TcpListener::bind(address).await {
        Err(error) if lacks_family(&error) && address.ip() == Ipv6Addr::UNSPECIFIED => {
            let all = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            TcpListener::bind(SocketAddr::new(all, address.port())).await
        }
        bound => bound,
    }
}

/// EAFNOSUPPORT (97), EADDRNOTAVAIL.
fn lacks_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(97) || error.kind() == io::ErrorKind::AddrNotAvailable
}
