//! The kernel's TCP sockets in some states, asked for as `ss` does: `/proc/net/tcp` lists every socket of the machine,
//! and takes the longer the more of them other processes have left behind.

use std::{
    io::Read as _,
    net::{Ipv4Addr, SocketAddrV4},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The family `AF_NETLINK`, and its protocol `NETLINK_SOCK_DIAG`.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
/// The type of a question, and of each part of its answer: `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// The type of the last part, `NLMSG_DONE`.
const DONE: u16 = 3;
/// The flags `NLM_F_REQUEST` and `NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// The length of a question: `nlmsghdr` and `inet_diag_req_v2`.
const QUESTION: usize = 16 + 56;
/// The offset of the ports in a part of the answer: behind `nlmsghdr` and four bytes.
const PORTS: usize = 16 + 4;

/// The states of a TCP socket, by the kernel's numbers.
pub const ESTABLISHED: u32 = 1;
pub const SYN_SENT: u32 = 2;
pub const CLOSE_WAIT: u32 = 8;

/// A TCP socket of this machine.
pub struct TcpSocket {
    /// The address of the side that this socket belongs to.
    pub local: SocketAddrV4,
    /// The address of the other side.
    pub peer: SocketAddrV4,
}

/// Returns the IPv4 sockets of this machine that are in one of the states.
pub fn sockets(states: &[u32]) -> Vec<TcpSocket> {
    let domain = Domain::from(NETLINK);
    let kernel = Socket::new(domain, Type::DGRAM, Some(Protocol::from(SOCK_DIAG)));
    let kernel = kernel.expect("a socket to the kernel");
    kernel.send(&question(states)).expect("the kernel takes the question");
    let (mut found, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let length = (&kernel).read(&mut buffer).expect("the kernel answers");
        let mut rest = &buffer[..length];
        while let Some(size) = number(rest, 0) {
            let (part, others) = rest.split_at((size as usize).next_multiple_of(4));
            match u16::from_ne_bytes([part[4], part[5]]) {
                BY_FAMILY => found.push(socket(part)),
                DONE => return found,
                kind => panic!("the kernel's answer is of type {kind}"),
            }
            rest = others;
        }
    }
}

fn question(states: &[u32]) -> Vec<u8> {
    let (inet, tcp) = (2, 6);
    let states = states.iter().fold(0_u32, |all, state| all | 1 << state);
    [
        &(QUESTION as u32).to_ne_bytes()[..],
        &BY_FAMILY.to_ne_bytes(),
        &DUMP.to_ne_bytes(),
        &[0; 8],
        &[inet, tcp, 0, 0],
        &states.to_ne_bytes(),
        // Of any addresses.
        &[0; 48],
    ]
    .concat()
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().copied().map(u32::from_ne_bytes)
}

fn socket(part: &[u8]) -> TcpSocket {
    let port_at = |at: usize| u16::from_be_bytes([part[at], part[at + 1]]);
    let ip_at = |at: usize| Ipv4Addr::new(part[at], part[at + 1], part[at + 2], part[at + 3]);
    TcpSocket {
        local: SocketAddrV4::new(ip_at(PORTS + 4), port_at(PORTS)),
        peer: SocketAddrV4::new(ip_at(PORTS + 20), port_at(PORTS + 2)),
    }
}
