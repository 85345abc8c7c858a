//! A TCP relay without TLS and without HTTP, on one thread.
//!
//! `relay LISTEN TARGET` is the floor of the benchmark: what carrying bytes between two sockets costs in any case.
//! `relay LISTEN TARGET MILLISECONDS` makes the way to TARGET that long, as a round trip: see `far_way`.

use std::env;
use std::io;
use std::process::ExitCode;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::{Instant, sleep_until};

const USAGE: &str = "usage: relay LISTEN:PORT TARGET:PORT [ROUND-TRIP-MILLISECONDS]";
/// Reads that may be under way in one direction at once.
const UNDER_WAY: usize = 256;
/// A timer of tokio may be this late.
const TIMER_STEP: Duration = Duration::from_millis(2);

#[derive(Clone)]
struct Way {
    listen: String,
    target: String,
    round_trip: Duration,
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(way) = from_arguments() else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    match serve(&way).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("relay: {} cannot be served: {error}", way.listen);
            ExitCode::FAILURE
        }
    }
}

fn from_arguments() -> Option<Way> {
    let mut arguments = env::args().skip(1);
    let listen = arguments.next()?;
    let target = arguments.next()?;
    let milliseconds = arguments.next().map_or(Ok(0), |text| text.parse()).ok()?;
    Some(Way { listen, target, round_trip: Duration::from_millis(milliseconds) })
}

async fn serve(way: &Way) -> io::Result<()> {
    let listener = TcpListener::bind(&way.listen).await?;
    loop {
        let (near, _) = listener.accept().await?;
        let way = way.clone();
        tokio::spawn(async move {
            // An end of one connection is that connection's own affair.
            let _ = relay(near, &way).await;
        });
    }
}

async fn relay(mut near: TcpStream, way: &Way) -> io::Result<()> {
    let accepted = Instant::now();
    let mut far = TcpStream::connect(&way.target).await?;
    near.set_nodelay(true)?;
    far.set_nodelay(true)?;
    if way.round_trip.is_zero() {
        copy_bidirectional(&mut near, &mut far).await?;
    } else {
        far_way(near, far, accepted, way.round_trip).await;
    }
    Ok(())
}

/// Each byte and each end arrives half a round trip after it was sent. Our own kernel answered the SYN at once, so
/// the round trip that TCP's handshake would have taken is made up for by holding what the near side sends first.
async fn far_way(near: TcpStream, far: TcpStream, accepted: Instant, round_trip: Duration) {
    let half = round_trip / 2;
    let (near_reads, near_writes) = near.into_split();
    let (far_reads, far_writes) = far.into_split();
    tokio::join!(
        one_direction(near_reads, far_writes, accepted + round_trip, half),
        one_direction(far_reads, near_writes, accepted, half),
    );
}

async fn one_direction(
    from: OwnedReadHalf,
    to: OwnedWriteHalf,
    not_before: Instant,
    delay: Duration,
) {
    let (depart, arrive) = mpsc::channel(UNDER_WAY);
    tokio::join!(departures(from, depart, not_before, delay), arrivals(arrive, to));
}

async fn departures(
    mut from: OwnedReadHalf,
    depart: mpsc::Sender<(Instant, Vec<u8>)>,
    not_before: Instant,
    delay: Duration,
) {
    loop {
        let mut bytes = Vec::with_capacity(16 * 1024);
        let read = from.read_buf(&mut bytes).await.unwrap_or(0);
        let due = Instant::now().max(not_before) + delay;
        // No bytes stand for the end.
        if depart.send((due, bytes)).await.is_err() || read == 0 {
            return;
        }
    }
}

/// Exact where the timer is not: it rounds up to its own milliseconds.
async fn arrive_at(due: Instant) {
    sleep_until(due - TIMER_STEP).await;
    while Instant::now() < due {
        yield_now().await;
    }
}

async fn arrivals(mut arrive: mpsc::Receiver<(Instant, Vec<u8>)>, mut to: OwnedWriteHalf) {
    while let Some((due, bytes)) = arrive.recv().await {
        arrive_at(due).await;
        let done = if bytes.is_empty() { to.shutdown().await } else { to.write_all(&bytes).await };
        if done.is_err() || bytes.is_empty() {
            return;
        }
    }
}
