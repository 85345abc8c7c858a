//! A network with a round trip, simulated between an accepted socket and its server.
//!
//! Every byte and every end arrives half a round trip after it left, in both directions. The round trip of TCP's own
//! handshake cannot be delayed here, because the kernel has already made it: the client's first bytes wait for it
//! instead.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, duplex},
    net::TcpStream,
    sync::mpsc,
    task::yield_now,
    time::{Instant, sleep_until},
};

/// The most bytes of one simulated packet.
const PACKET: usize = 16 * 1024;
/// The most packets under way in one direction; beyond them the sender waits.
const UNDER_WAY: usize = 64;

/// The unit of tokio's timers, which round up: waiting by them alone would make every way longer than asked for.
const TICK: Duration = Duration::from_millis(1);

/// A simulated packet: its time of arrival and its bytes; empty bytes are the end.
type Packet = (Instant, Bytes);

/// Puts the network before this socket; returns the far end, which the server reads and writes.
pub(super) fn distant(near: TcpStream, round_trip: Duration) -> DuplexStream {
    let (far, ours) = duplex(PACKET);
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = tokio::io::split(ours);
    let delay = round_trip / 2;
    tokio::spawn(async move {
        wait_until(Instant::now() + round_trip).await;
        carry(near_reads, far_writes, delay).await;
    });
    tokio::spawn(carry(far_reads, near_writes, delay));
    far
}

async fn carry(from: impl AsyncRead + Unpin, to: impl AsyncWrite + Unpin, delay: Duration) {
    let (departing, arriving) = mpsc::channel(UNDER_WAY);
    tokio::join!(depart(from, departing, delay), arrive(arriving, to));
}

/// Reads bytes and sends them as packets that arrive after `delay`, until the end or an error (sent as an empty
/// packet), or until the receiver is gone.
async fn depart(mut from: impl AsyncRead + Unpin, packets: mpsc::Sender<Packet>, delay: Duration) {
    loop {
        let mut packet = BytesMut::with_capacity(PACKET);
        let read = from.read_buf(&mut packet).await.unwrap_or(0);
        let sent = packets.send((Instant::now() + delay, packet.freeze())).await;
        if read == 0 || sent.is_err() {
            return;
        }
    }
}

/// Writes each packet at its time of arrival, in order, until the end, which it passes on, or until the receiver is
/// gone.
async fn arrive(mut packets: mpsc::Receiver<Packet>, mut to: impl AsyncWrite + Unpin) {
    while let Some((at, packet)) = packets.recv().await {
        wait_until(at).await;
        if packet.is_empty() {
            // A peer that is gone already needs no end.
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&packet).await.is_err() {
            return;
        }
    }
}

/// Waits until this time: sleeps until one tick before, and yields for the rest.
async fn wait_until(at: Instant) {
    sleep_until(at.checked_sub(TICK).unwrap_or(at)).await;
    while Instant::now() < at {
        yield_now().await;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use super::*;

    const ROUND_TRIP: Duration = Duration::from_millis(10);

    /// Connects a client's socket to the far end of a network before its server.
    async fn pair() -> (TcpStream, DuplexStream) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (accepted, _) = listener.accept().await.unwrap();
        (client, distant(accepted, ROUND_TRIP))
    }

    #[tokio::test]
    async fn the_first_answer_takes_two_round_trips_and_the_next_one_more() {
        let begun = Instant::now();
        let (mut client, mut server) = pair().await;
        let mut byte = [0];
        for trips in [2, 3] {
            client.write_all(b"?").await.unwrap();
            server.read_exact(&mut byte).await.unwrap();
            server.write_all(b"!").await.unwrap();
            client.read_exact(&mut byte).await.unwrap();
            assert!(begun.elapsed() >= ROUND_TRIP * trips, "{trips}: {:?}", begun.elapsed());
        }
    }

    #[tokio::test]
    async fn every_byte_arrives_in_order_and_so_does_the_end() {
        let (mut client, mut server) = pair().await;
        let sent: Vec<u8> = (0..1_000_000_u32).map(|n| n.to_le_bytes()[n as usize % 3]).collect();
        let mut received = Vec::new();
        let upload = async {
            client.write_all(&sent).await.unwrap();
            client.shutdown().await.unwrap();
        };
        let ((), read) = tokio::join!(upload, server.read_to_end(&mut received));
        assert_eq!(read.unwrap(), sent.len());
        assert!(received == sent, "the bytes differ");

        drop(server);
        assert_eq!(client.read(&mut [0]).await.unwrap(), 0, "the server's end arrives too");
    }
}
