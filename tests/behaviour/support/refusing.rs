//! An address that certainly refuses connections; a port that was only free a moment ago may be another test's by now.

use std::net::{Ipv4Addr, SocketAddr};

use socket2::{Domain, SockAddr, Socket, Type};

/// A port on 127.0.0.1 that is bound but does not listen.
pub struct Refusing {
    /// The address.
    pub address: SocketAddr,
    _socket: Socket,
}

impl Refusing {
    /// Binds a free port.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&SockAddr::from(free)).expect("a free port");
        let address = socket.local_addr().ok().and_then(|own| own.as_socket());
        Self { address: address.expect("its address"), _socket: socket }
    }
}
