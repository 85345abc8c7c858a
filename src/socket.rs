//! Socket options, and the polite way to end a connection.

mod diagnosis;

use std::{
    io,
    mem::MaybeUninit,
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

pub(crate) use diagnosis::unacknowledged;

/// The longest time of a polite close: the last bytes that are sent, and the wait for the peer's FIN.
pub(crate) const CLOSE_TIME: Duration = Duration::from_secs(1);
/// The pause in accepting after an error of this machine, such as a shortage of descriptors.
pub(crate) const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// The most bytes that a closing connection reads and discards.
const DRAIN_BYTES: usize = 64 * 1024;
/// The most of those bytes that are read at once.
const DRAIN_CHUNK: usize = 4096;
/// The longest time in which a connection, whose request was answered before its end, reads and discards the rest: the
/// same as nginx's `lingering_time`.
const REST_TIME: Duration = Duration::from_secs(30);
/// The longest pause within the rest of a request: the same as nginx's `lingering_timeout`.
const REST_SILENCE: Duration = Duration::from_secs(5);
/// The most bytes of the rest of a request that are read.
const REST_BYTES: usize = 256 * 1024 * 1024;
/// The most of those bytes that are read at once.
const REST_CHUNK: usize = 16 * 1024;
/// The number of connections that the kernel holds until they are accepted.
pub(crate) const BACKLOG: u32 = 1024;
/// The time after which the kernel probes a silent connection, and the time between two probes.
const KEEPALIVE: Duration = Duration::from_mins(1);
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(75);
/// The same two times for a connection that is suspected to be dead; the kernel takes nothing shorter.
const PROBE: Duration = Duration::from_secs(1);
/// The time within which the kernel ends a probed connection whose peer does not acknowledge: its timers may be late by
/// an eighth.
pub(crate) const PROBE_TIME: Duration = Duration::from_millis(1_250);

/// Opens a listening socket, which does not block. Fails if the kernel refuses the address, which may be taken.
pub(crate) fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    if address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED) {
        // Makes one socket serve both families, whatever the machine's default is.
        socket.set_only_v6(false)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG.cast_signed())?;
    Ok(socket.into())
}

/// Returns the IPv4 address to listen on where `[::]` cannot be bound because the machine has no IPv6; `None` for other
/// addresses.
#[must_use]
pub(crate) fn ipv4_instead(address: SocketAddr) -> Option<SocketAddr> {
    let all = address.ip() == IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    all.then(|| SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), address.port()))
}

/// True if an address cannot be bound because the machine lacks its family: EAFNOSUPPORT, EADDRNOTAVAIL.
#[must_use]
pub(crate) fn lacks_family(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::AFNOSUPPORT)
        || error.kind() == io::ErrorKind::AddrNotAvailable
}

/// Begins to connect. The socket becomes writable once the attempt has succeeded or failed; its drop resets it.
pub(crate) fn begin_to_connect(address: SocketAddr) -> io::Result<TcpStream> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_linger(Some(Duration::ZERO))?;
    match socket.connect(&address.into()) {
        Err(error) if error.raw_os_error() != Some(Errno::INPROGRESS.raw_os_error()) => Err(error),
        _ => TcpStream::from_std(socket.into()),
    }
}

/// Sets whether the drop of a connection resets it, or ends it with FIN as usual. After a FIN the peer may hold the
/// connection for as long as it likes; after a reset the connection is gone at once.
pub(crate) fn reset_when_dropped(stream: &TcpStream, resets: bool) {
    if let Err(error) = SockRef::from(stream).set_linger(resets.then_some(Duration::ZERO)) {
        tracing::debug!(%error, "a socket does not take how it is to end");
    }
}

/// Sets the options of every connection: small writes are sent at once, and the kernel notices peers that vanished.
/// Fails if the kernel refuses one.
pub(crate) fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_keepalive(&keepalive(KEEPALIVE, KEEPALIVE_INTERVAL))
}

fn keepalive(time: Duration, interval: Duration) -> TcpKeepalive {
    TcpKeepalive::new().with_time(time).with_interval(interval)
}

/// Makes the kernel end a connection on which sent bytes stay unacknowledged for so long; zero restores the kernel's
/// own limit. A peer that acknowledges but has no room for more counts as gone, too: so the time must not be short once
/// the peer has acknowledged something and is sent more than fits its window. Fails if the kernel refuses.
pub(crate) fn set_unacknowledged_limit(stream: &TcpStream, limit: Duration) -> io::Result<()> {
    SockRef::from(stream).set_tcp_user_timeout(Some(limit))
}

/// Makes the kernel probe the peer of a connection that has been silent for a second, and end the connection with an
/// error within [`PROBE_TIME`] if the peer does not acknowledge.
pub(crate) fn probe(stream: &TcpStream) -> io::Result<()> {
    set_unacknowledged_limit(stream, PROBE)?;
    let socket = SockRef::from(stream);
    // The interval is set first: the other option may send the first probe at once, and the wait after that probe is
    // the interval of that moment.
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_interval(PROBE))?;
    socket.set_tcp_keepalive(&TcpKeepalive::new().with_time(PROBE))
}

/// Restores the options that [`probe`] has changed. Fails if the kernel refuses.
pub(crate) fn end_probe(stream: &TcpStream) -> io::Result<()> {
    SockRef::from(stream).set_tcp_keepalive(&keepalive(KEEPALIVE, KEEPALIVE_INTERVAL))?;
    set_unacknowledged_limit(stream, Duration::ZERO)
}

/// Reads bytes that have arrived, also those of which the runtime has not told yet; 0 is the peer's FIN. Fails with
/// `WouldBlock` if nothing has arrived.
pub(crate) fn read_arrived(stream: &TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    io::Read::read(&mut &*SockRef::from(stream), buffer)
}

/// True if bytes have arrived that are not read yet, also if the runtime has not told of them yet.
pub(crate) fn has_arrived_bytes(stream: &TcpStream) -> bool {
    let mut byte = [MaybeUninit::uninit()];
    SockRef::from(stream).peek(&mut byte).is_ok_and(|count| count > 0)
}

/// Accepts the next connection of a listening socket that does not block; `None` once the kernel's backlog is empty.
pub(crate) fn accept_waiting(listener: &TcpListener) -> Option<TcpStream> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true).ok()?;
                return TcpStream::from_std(stream).ok();
            }
            // This one was given up by its client; others may wait behind it.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(_) => return None,
        }
    }
}

/// Ends a connection with FIN, reads and discards what the peer still sends, within bounds, and closes. Resets the
/// connection if the peer's FIN does not come within the bounds. Returns true if the connection was not reset.
pub(crate) async fn close_politely(stream: TcpStream) -> bool {
    close_politely_by(stream, Instant::now() + CLOSE_TIME).await
}

/// Does the same as [`close_politely`], until a deadline of the caller's.
pub(crate) async fn close_politely_by(mut stream: TcpStream, deadline: Instant) -> bool {
    let ended = stream.shutdown().await.is_ok()
        && discard_until_fin(&stream, &Bounds::nothing_due(deadline)).await;
    close(stream, ended)
}

/// Does the same as [`close_politely`] for a peer whose message was answered before its end, and gives the peer more
/// time: a peer that sends its rest before it reads the answer would lose the answer to a reset. After `hurry` has
/// completed, only [`CLOSE_TIME`] is left.
pub(crate) async fn close_behind_rest(
    mut stream: TcpStream,
    hurry: impl Future<Output = ()>,
) -> bool {
    let bounds = Bounds::rest_due(Instant::now());
    let hurried = async {
        hurry.await;
        sleep(CLOSE_TIME).await;
    };
    let ended = stream.shutdown().await.is_ok()
        && tokio::select! {
            ended = discard_until_fin(&stream, &bounds) => ended,
            () = hurried => false,
        };
    close(stream, ended)
}

/// Closes a connection: politely if the peer has ended its side, else by a reset. Returns true if it was not reset.
fn close(stream: TcpStream, ended: bool) -> bool {
    if !ended {
        reset(stream);
    }
    ended
}

/// Closes a connection by a reset.
pub(crate) fn reset(stream: TcpStream) {
    reset_when_dropped(&stream, true);
    drop(stream);
}

/// The bounds on what a closing connection still reads.
struct Bounds {
    bytes: usize,
    /// The most bytes that are read at once.
    chunk: usize,
    /// The longest wait for the next byte.
    silence: Duration,
    deadline: Instant,
}

impl Bounds {
    /// Makes the bounds for a peer that has sent its whole message.
    fn nothing_due(deadline: Instant) -> Self {
        Self { bytes: DRAIN_BYTES, chunk: DRAIN_CHUNK, silence: CLOSE_TIME, deadline }
    }

    /// Makes the bounds for a peer that is in the middle of a message.
    fn rest_due(now: Instant) -> Self {
        let deadline = now + REST_TIME;
        Self { bytes: REST_BYTES, chunk: REST_CHUNK, silence: REST_SILENCE, deadline }
    }
}

/// Reads until the peer's FIN; false if it did not come within the bounds.
async fn discard_until_fin(stream: &TcpStream, bounds: &Bounds) -> bool {
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

/// Reads and discards the bytes that have arrived; true at the peer's FIN, false once more have come than `left`
/// allows. The buffer is only made now, because the connections of a crowd that was refused all wait in
/// [`discard_until_fin`], and each would hold one.
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
        for (left, peer_ends) in [(CLOSE_TIME * 20, true), (Duration::ZERO, false)] {
            let ours = TcpStream::connect(address).await.expect("it accepts");
            let (peer, _) = listener.accept().await.expect("a connection");
            let kept = (!peer_ends).then_some(peer);
            assert_eq!(close_politely_by(ours, Instant::now() + left).await, peer_ends);
            drop(kept);
        }
    }
}
