//! Addresses that take no connection and give no answer, like those behind a firewall that drops packets.

use std::net::SocketAddr;

use socket2::{Domain, SockAddr, Socket, Type};

use super::kernel::{self, SYN_SENT};

/// An address that takes no connection and gives no answer, because its listener's backlog is full.
pub struct Silent {
    /// The address.
    pub address: SocketAddr,
    /// The listener, and the sockets that fill its backlog.
    _sockets: Vec<Socket>,
}

impl Silent {
    /// Listens on this address, whose port may be in use on other addresses.
    pub fn at(address: SocketAddr) -> Self {
        let new = || Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
        let listener = new();
        listener.set_reuse_address(true).expect("an option");
        listener.bind(&SockAddr::from(address)).expect("a free address");
        listener.listen(0).expect("it listens");
        let address =
            listener.local_addr().ok().and_then(|own| own.as_socket()).expect("its address");
        let mut sockets = vec![listener];
        while Self::waiting(&[address]) == [0] {
            let client = new();
            client.set_nonblocking(true).expect("an option");
            let _ = client.connect(&SockAddr::from(address));
            sockets.push(client);
        }
        sockets.pop();
        Self { address, _sockets: sockets }
    }

    /// Counts, for each of these addresses, the sockets of this machine that wait for its answer (`SYN_SENT`).
    pub fn waiting(addresses: &[SocketAddr]) -> Vec<usize> {
        let sockets = kernel::sockets(&[SYN_SENT]);
        let waiting = |address: &SocketAddr| {
            sockets.iter().filter(|socket| SocketAddr::from(socket.peer) == *address).count()
        };
        addresses.iter().map(waiting).collect()
    }
}
