//! Socket options, and the polite way to end a connection ("Handshakes, sessions and key exchange" in docs/design.md).

mod diagnosis;

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    time::Duration,
};

use rustix::io::Errno;
use socket2::{Domain, Protocol, SockRef, Socket, TcpKeepalive, Type};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    time::{Instant, sleep, timeout_at},
};

pub use diagnosis::unacknowledged;

use crate::telemetry::ends::Manner;

/// How long a polite close may take in all: what is said last, and the wait for the peer's FIN.
pub const CLOSE_TIME: Duration = Duration::from_secs(1);
/// How many bytes a closing connection reads and throws away.
const DRAIN_BYTES: usize = 64 * 1024;
/// How many at once.
const DRAIN_CHUNK: usize = 4096;
/// Time in which a connection whose request was answered before its end reads the rest, and throws it away: as nginx's
/// `lingering_time`.
const REST_TIME: Duration = Duration::from_secs(30);
/// The longest pause within that: as nginx's `lingering_timeout`.
const REST_SILENCE: Duration = Duration::from_secs(5);
/// Bytes that are read of it.
const REST_BYTES: usize = 256 * 1024 * 1024;
/// Bytes of it that are read at once.
const REST_CHUNK: usize = 16 * 1024;
/// Connections that the kernel holds until they are accepted.
pub const BACKLOG: u32 = 1024;
/// How long a silent connection stays unexamined by the kernel, and how long it waits for each answer.
const KEEPALIVE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
/// Both while a connection is probed; the kernel takes no shorter time.
const PROBE: Duration = Duration::from_secs(1);
/// The time within which the kernel has ended a connection whose probe was not acknowledged: its timers may be late by an
/// eighth.
pub const PROBE_TIME: Duration = Duration::from_millis(1_250);

/// Listens, without blocking whoever accepts.
pub fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // One socket for both families, whatever the machine's default.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.cast_signed())?;
    Ok(socket.into())
}

/// `[::]` is for both families: without IPv6, IPv4 is left of it.
#[must_use]
pub fn ipv4_instead(address: SocketAddr) -> Option<SocketAddr> {
    let all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    all.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

/// Whether an address cannot be bound for want of its family: EAFNOSUPPORT (97), EADDRNOTAVAIL.
#[must_use]
pub fn lacks_family(error: &io::Error) -> bool {
    error.raw_os_error() == Some(97) || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Begins to connect; the socket is writable once that is over, well or badly. Dropped, it is reset.
pub fn begin_to_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => TcpStream::from_std(socket.into()),
    }
}

/// Has the connection reset when it is dropped, or, as usual, end with FIN. The peer of one that ends with FIN may hold it
/// for as long as it likes; by a reset it is gone at once.
pub fn reset_when_dropped(stream: &TcpStream, resets: bool) {
    if let Err(error) = SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO)) {
        tracing::debug!(%error, "a socket does not take how it is to end");
    }
}

/// Sends small writes at once, and lets the kernel find peers that vanished.
pub fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&keepalive(KEEPALIVE, KEEPALIVE_INTERVAL))
}

fn keepalive(time: Duration, interval: Duration) -> TcpKeepalive {
    TcpKeepalive::new().with_time(time).with_interval(interval)
}

/// Has the kernel end a connection on which bytes that were sent stay unacknowledged for so long; zero: as late as it does
/// by itself. A peer that acknowledges, and has no room for more, counts as gone too: the time must not be short once a peer
/// has acknowledged something and is sent more than fits any window.
pub fn set_patience(stream: &TcpStream, patience: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(patience))
}

/// Has the kernel probe the peer of a connection that has been silent for a second, and end the connection with an error
/// within [`PROBE_TIME`] if the peer does not acknowledge.
pub fn probe(stream: &TcpStream) -> io::Result<()> {
    set_patience(stream, PROBE)?;
    let socket = SockRef::from(stream);
    // First: the other option may have the first probe sent at once, and the wait behind it is the interval of that moment.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_interval(PROBE))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE))
}

/// Ends what [`probe`] began.
pub fn end_probe(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&keepalive(KEEPALIVE, KEEPALIVE_INTERVAL))?;
    set_patience(stream, Duration::ZERO)
}

/// Ends with FIN, reads what still comes, within bounds, and closes; resets what was not read to its end.
pub async fn close_politely(stream: TcpStream) -> Manner {
    close_politely_by(stream, Instant::now() + CLOSE_TIME).await
}

/// The same where part of the time is spent.
pub async fn close_politely_by(mut stream: TcpStream, deadline: Instant) -> Manner {
    let ended =
        stream.shutdown().await.is_ok() && drain(&stream, &Bounds::nothing_due(deadline)).await;
    close(stream, ended)
}

/// The same for a peer whose message was answered before its end: a peer that sends the rest before it reads the answer
/// would lose the answer to a RST. Once `hurry` is over there is no more time than for any other connection.
pub async fn close_behind_rest(mut stream: TcpStream, hurry: impl Future<Output = ()>) -> Manner {
    let bounds = Bounds::rest_due(Instant::now());
    let hurried = async {
        hurry.await;
        sleep(CLOSE_TIME).await;
    };
    let ended = stream.shutdown().await.is_ok()
        && tokio::select! {
            ended = drain(&stream, &bounds) => ended,
            () = hurried => false,
        };
    close(stream, ended)
}

/// Closes, politely if the peer has ended its side.
fn close(stream: TcpStream, ended: bool) -> Manner {
    if ended {
        return Manner::Polite;
    }
    reset(stream);
    Manner::Reset
}

/// Closes with RST.
pub fn reset(stream: TcpStream) {
    reset_when_dropped(&stream, true);
    drop(stream);
}

/// Bounds on the bytes that a closing connection still reads.
struct Bounds {
    bytes: usize,
    /// Bytes that are read at once.
    chunk: usize,
    /// The longest wait for the next byte.
    silence: Duration,
    deadline: Instant,
}

impl Bounds {
    /// For a peer that owes nothing.
    fn nothing_due(deadline: Instant) -> Self {
        Self { bytes: DRAIN_BYTES, chunk: DRAIN_CHUNK, silence: CLOSE_TIME, deadline }
    }

    /// For a peer that is in the middle of a message.
    fn rest_due(now: Instant) -> Self {
        let deadline = now + REST_TIME;
        Self { bytes: REST_BYTES, chunk: REST_CHUNK, silence: REST_SILENCE, deadline }
    }
}

/// Reads until the peer's FIN; false if it did not come within the bounds.
async fn drain(stream: &TcpStream, bounds: &Bounds) -> bool {
    let mut left = bounds.bytes;
    loop {
        let until = bounds.deadline.min(Instant::now() + bounds.silence);
        if !matches!(timeout_at(until, stream.readable()).await, Ok(Ok(()))) {
            return false;
        }
        match read_all(stream, bounds.chunk, &mut left) {
            Ok(ended) => return ended,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return false,
        }
    }
}

/// Reads what is there and throws it away; true at the peer's FIN, false once more came than is left. The room for it is made
/// only now: a crowd whose connections are refused waits here, and each of them would hold it.
fn read_all(stream: &TcpStream, chunk: usize, left: &mut usize) -> io::Result<bool> {
    let mut buffer = vec![0; chunk];
    loop {
        match stream.try_read(&mut buffer)? {
            0 => return Ok(true),
            read if read <= *left => *left -= read,
            _ => return Ok(false),
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    #[tokio::test]
    async fn a_close_waits_for_the_peer_until_its_deadline_and_no_longer() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        for (left, peer_ends, how) in
            [(CLOSE_TIME * 20, true, Manner::Polite), (Duration::ZERO, false, Manner::Reset)]
        {
            let ours = TcpStream::connect(address).await.expect("it accepts");
            let (peer, _) = listener.accept().await.expect("a connection");
            let kept = (!peer_ends).then_some(peer);
            assert_eq!(close_politely_by(ours, Instant::now() + left).await, how);
            drop(kept);
        }
    }
}
