//! Questions to the kernel about one TCP connection by `sock_diag`, as `ss` asks them. `TCP_INFO` and `SIOCOUTQ` would
//! tell the same, but have no safe interface.

use std::{
    io::{self, Read as _},
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicU32, Ordering::Relaxed},
};

use socket2::{Domain, Protocol, Socket, Type};

/// The family `AF_NETLINK`, and its protocol `NETLINK_SOCK_DIAG`.
const NETLINK: i32 = 16;
const SOCK_DIAG: i32 = 4;
/// The type of a question, and of its answer: `SOCK_DIAG_BY_FAMILY`.
const BY_FAMILY: u16 = 20;
/// The flag `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// The length of a question: `nlmsghdr` and `inet_diag_req_v2`.
const QUESTION: usize = 16 + 56;
/// The offset of `idiag_wqueue` in an answer: behind `nlmsghdr`, four bytes, the addresses, and two numbers.
const UNACKNOWLEDGED: usize = 16 + 4 + 48 + 8;

/// The number of failures in a row after which the kernel is seldom asked. Where the kernel's module for this is
/// missing, each question makes the kernel look for the module.
const ENOUGH: u32 = 8;
/// The number of questions of which one is asked then. Other failures pass: a shortage of descriptors, for example.
const SELDOM: u32 = 64;
/// The number of questions without an answer since the last answer, including those that were not asked.
static UNANSWERED: AtomicU32 = AtomicU32::new(0);

/// Returns the number of bytes that were sent on a connection of this process, in its network namespace, and are not
/// acknowledged; `None` if the kernel does not tell.
pub(crate) fn unacknowledged(local: SocketAddr, peer: SocketAddr) -> Option<u32> {
    match told(&UNANSWERED, || ask(&question(local, peer)))? {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            tracing::debug!(%local, %peer, %error, "the kernel tells nothing of a connection");
            None
        }
    }
}

/// Asks, and counts the question unless it is answered; `None` if the kernel is not asked this time. Questions of other
/// threads that are on their way have not failed, and do not count.
fn told<T>(unanswered: &AtomicU32, ask: impl FnOnce() -> io::Result<T>) -> Option<io::Result<T>> {
    let told = is_asked(unanswered.load(Relaxed)).then(ask);
    if let Some(Ok(_)) = told {
        unanswered.store(0, Relaxed);
    } else {
        unanswered.fetch_add(1, Relaxed);
    }
    told
}

/// True if the kernel is asked after so many questions without an answer.
fn is_asked(unanswered: u32) -> bool {
    unanswered < ENOUGH || unanswered.is_multiple_of(SELDOM)
}

/// Returns the message that asks for one connection, by its addresses.
fn question(local: SocketAddr, peer: SocketAddr) -> Vec<u8> {
    let (family, scope) = match local {
        SocketAddr::V4(_) => (2, 0),
        SocketAddr::V6(local) => (10, local.scope_id()),
    };
    let header = [
        &(QUESTION as u32).to_ne_bytes()[..],
        &BY_FAMILY.to_ne_bytes(),
        &REQUEST.to_ne_bytes(),
        &[0; 8],
    ];
    let any_state = u32::MAX.to_ne_bytes();
    let (local_ip, peer_ip) = (address(local.ip()), address(peer.ip()));
    let connection = [
        &[family, 6, 0, 0][..],
        &any_state,
        &local.port().to_be_bytes(),
        &peer.port().to_be_bytes(),
        &local_ip,
        &peer_ip,
        &scope.to_ne_bytes(),
        // The cookie "any": the addresses suffice.
        &[0xff; 8],
    ];
    [header.concat(), connection.concat()].concat()
}

/// Returns an address as the question has it: IPv4 in the first four bytes, the rest zero.
fn address(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => {
            let mut bytes = [0; 16];
            bytes[..4].copy_from_slice(&ip.octets());
            bytes
        }
        IpAddr::V6(ip) => ip.octets(),
    }
}

/// Sends a question and reads its answer, which is there as soon as the question has been sent. Fails if the kernel has
/// no such socket, or refuses.
fn ask(question: &[u8]) -> io::Result<u32> {
    let socket = Socket::new(Domain::from(NETLINK), Type::DGRAM, Some(Protocol::from(SOCK_DIAG)))?;
    socket.set_nonblocking(true)?;
    socket.send(question)?;
    let mut answer = [0; 256];
    let length = (&socket).read(&mut answer)?;
    read(&answer[..length])
}

/// Returns the number of unacknowledged bytes that an answer tells. Fails if the answer is an error of the kernel, or
/// cut short.
fn read(answer: &[u8]) -> io::Result<u32> {
    let kind = answer.get(4..).and_then(<[u8]>::first_chunk).copied().map(u16::from_ne_bytes);
    let bytes = answer.get(UNACKNOWLEDGED..).and_then(<[u8]>::first_chunk).copied();
    match (kind, bytes) {
        (Some(BY_FAMILY), Some(bytes)) => Ok(u32::from_ne_bytes(bytes)),
        _ => Err(io::Error::other("it refuses the question")),
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::Write as _,
        net::{TcpListener, TcpStream},
        time::Duration,
    };

    use socket2::SockRef;

    use super::*;

    fn told(stream: &TcpStream) -> Option<u32> {
        unacknowledged(stream.local_addr().expect("bound"), stream.peer_addr().expect("connected"))
    }

    #[test]
    fn fault_08_the_kernel_tells_how_much_of_what_was_sent_is_not_acknowledged() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let Ok(listener) = TcpListener::bind(address) else { continue };
            SockRef::from(&listener).set_recv_buffer_size(4096).expect("a socket option");
            let mut sender =
                TcpStream::connect(listener.local_addr().expect("bound")).expect("it accepts");
            let (peer, _) = listener.accept().expect("a connection");
            assert_eq!(told(&sender), Some(0));
            sender.set_write_timeout(Some(Duration::from_millis(50))).expect("a socket option");
            let mut sent = 0;
            while let Ok(count) = sender.write(&[b'x'; 4096]) {
                sent += count;
            }
            // A part of the bytes fits the peer's small window, but not all.
            let left = told(&sender).expect("it is told") as usize;
            assert!(0 < left && left < sent, "{left} of {sent}");
            drop(peer);
        }
    }

    #[test]
    fn fault_08_after_failures_in_a_row_the_kernel_is_asked_again_now_and_then() {
        let asked: Vec<_> = (0..200).filter(|unanswered| is_asked(*unanswered)).collect();
        assert_eq!(asked, [0, 1, 2, 3, 4, 5, 6, 7, 64, 128, 192]);
    }

    #[test]
    fn fault_08_questions_on_their_way_at_the_same_time_count_as_no_failures() {
        /// Asks while this number of other questions is on its way, and returns the number of questions that were asked.
        fn asked(unanswered: &AtomicU32, others: u32) -> u32 {
            let mut count = 0;
            let _ = super::told(unanswered, || {
                count = 1 + others.checked_sub(1).map_or(0, |others| asked(unanswered, others));
                Ok(())
            });
            count
        }
        let unanswered = AtomicU32::new(0);
        assert_eq!(asked(&unanswered, 3 * ENOUGH), 3 * ENOUGH + 1);
        assert_eq!(unanswered.load(Relaxed), 0);
        for _ in 0..ENOUGH {
            let failed = super::told(&unanswered, || Err::<(), _>(io::Error::other("no module")));
            assert!(failed.is_some_and(|failed| failed.is_err()));
        }
        assert!(super::told(&unanswered, || Ok(())).is_none(), "so many failures are enough");
    }

    #[test]
    fn fault_08_of_a_connection_that_is_none_the_kernel_tells_nothing() {
        let none = SocketAddr::from(([127, 0, 0, 1], 9));
        assert!(ask(&question(none, none)).is_err());
        for answer in [&[][..], &[0; 16], &[20; 40], &[0; 256]] {
            assert!(read(answer).is_err());
        }
    }
}
