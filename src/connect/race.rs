//! TCP connections to several addresses, of which the first to answer wins (RFC 8305 section 5), under the cap: each
//! socket has a place.

use std::{
    collections::VecDeque,
    io,
    net::{IpAddr, SocketAddr},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use futures_util::future::{BoxFuture, pending, poll_fn};
use tokio::{io::Interest, net::TcpStream, time::sleep_until};

use super::{
    ConnectError,
    addresses::{Addresses, FailureKind},
    resolve::{FamilyAnswer, Resolved, by_turns},
};
use crate::socket;

/// The longest time from one address's turn to the next (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// The shortest time from one address's turn to the next, where there are many addresses.
const NEXT_ADDRESS_SOONEST: Duration = Duration::from_millis(10);

/// The most sockets of one race at a time; if more addresses have their turn, the oldest socket is closed.
const MAX_SOCKETS: usize = 8;

/// The conditions of a race. `S` is a place under the cap for one more socket than the dial itself has.
pub(super) struct RaceConditions<'a, S> {
    /// The endpoint's port.
    pub port: u16,
    /// The time at which the race ends, won or not.
    pub deadline: Instant,
    /// The memory of the endpoint's addresses.
    pub addresses: &'a Addresses,
    /// A function that gives a place for one more socket, if one is free.
    pub spare: &'a (dyn Fn() -> Option<S> + Sync),
}

/// A race without a winner.
#[derive(Debug)]
pub(super) enum RaceError {
    /// Each address failed.
    Failed(ConnectError),
    /// The time was over before each address had failed.
    Late,
}

/// A socket that is being connected to an address.
struct ConnectingSocket<S> {
    address: SocketAddr,
    begun: Instant,
    stream: TcpStream,
    /// The place under the cap that the socket takes; `None` for the place of the dial itself.
    place: Option<S>,
}

/// The addresses of a dial: those being tried, and those that wait for their turn.
struct Race<'a, S> {
    conditions: RaceConditions<'a, S>,
    waiting: VecDeque<IpAddr>,
    /// The addresses of the other family, while DNS has not answered for it.
    late: Option<BoxFuture<'static, Option<FamilyAnswer>>>,
    trying: Vec<ConnectingSocket<S>>,
    failed: Vec<(SocketAddr, io::Error)>,
    /// The time from one address's turn to the next.
    gap: Duration,
    /// The time of the next address's turn; if no address waits, the end of the wait for the other family.
    turn: Instant,
}

/// Runs a race: the next address is tried after a failure or when its turn comes; the first to answer wins. Returns the
/// winner's socket and address. Each address's failure or success is noted in the memory of the addresses. Fails if
/// each address has failed, or if the time is over.
pub(super) async fn run<S: Send + 'static>(
    answer: Resolved,
    conditions: RaceConditions<'_, S>,
) -> Result<(TcpStream, SocketAddr), RaceError> {
    let now = Instant::now();
    let waiting = conditions.addresses.in_order(by_turns(&answer.parts), now);
    let gap = gap(conditions.deadline.saturating_duration_since(now), waiting.len());
    let (late, waiting) = (answer.late, waiting.into());
    let race =
        Race { conditions, waiting, late, trying: Vec::new(), failed: Vec::new(), gap, turn: now };
    race.run().await
}

/// An event that a race waits for.
enum RaceEvent {
    Ended(usize, io::Result<()>),
    Heard(Option<FamilyAnswer>),
    Turn,
    Over,
}

impl<S: Send + 'static> Race<'_, S> {
    /// Runs the race to its end: begins with the addresses whose turn it is, and takes the events as they come. Fails
    /// if each address has failed, or if the time is over.
    async fn run(mut self) -> Result<(TcpStream, SocketAddr), RaceError> {
        loop {
            if let Some(won) = self.begin_due(Instant::now()) {
                return Ok(self.win(won));
            }
            if self.trying.is_empty() && self.late.is_none() {
                return Err(self.lose());
            }
            match self.next().await {
                RaceEvent::Ended(index, result) => {
                    if let Some(won) = self.end(index, result) {
                        return Ok(self.win(won));
                    }
                }
                RaceEvent::Heard(part) => self.join(part),
                RaceEvent::Turn if self.waiting.is_empty() => self.late = None,
                RaceEvent::Turn => {}
                RaceEvent::Over => return self.stop(),
            }
        }
    }

    /// Takes a socket that has ended out of the race, and returns it if it has connected.
    fn end(&mut self, index: usize, result: io::Result<()>) -> Option<ConnectingSocket<S>> {
        // The others stay in the order in which they were begun, as the oldest makes way first.
        let socket = self.trying.remove(index);
        match result {
            Ok(()) => Some(socket),
            Err(error) => {
                self.fails(socket.address, error);
                None
            }
        }
    }

    /// Waits for the next event: a socket ended, the other family's addresses were heard, an address's turn came, or
    /// the time is over.
    async fn next(&mut self) -> RaceEvent {
        // While the last addresses are being tried, there is no next turn.
        let has_turn = !self.waiting.is_empty() || self.trying.is_empty();
        let (turn, deadline) = (self.turn.into(), self.conditions.deadline.into());
        let Self { trying, late, .. } = self;
        tokio::select! {
            (index, result) = poll_fn(|cx| poll_any(trying, cx)) => RaceEvent::Ended(index, result),
            part = heard(late) => RaceEvent::Heard(part),
            () = sleep_until(turn), if has_turn => RaceEvent::Turn,
            () = sleep_until(deadline) => RaceEvent::Over,
        }
    }

    /// Begins with each address whose turn it is, if there is a place for its socket; otherwise, the oldest socket
    /// makes way once it had its share of the time. Returns a socket that was about to be ended for want of a place
    /// and has just connected.
    fn begin_due(&mut self, now: Instant) -> Option<ConnectingSocket<S>> {
        while !self.waiting.is_empty() && (self.trying.is_empty() || self.turn <= now) {
            let own_is_free = self.trying.iter().all(|socket| socket.place.is_some());
            let is_full = self.trying.len() >= MAX_SOCKETS;
            let spare = if own_is_free || is_full { None } else { (self.conditions.spare)() };
            if own_is_free || spare.is_some() {
                self.begin(spare, now);
            } else if !is_full && now < self.makes_way() {
                self.turn = self.makes_way();
                return None;
            } else {
                let oldest = self.trying.remove(0);
                if oldest.is_connected() {
                    return Some(oldest);
                }
                self.note(oldest.address, FailureKind::Slow, now);
                drop(oldest.stream);
                self.begin(oldest.place, now);
            }
        }
        None
    }

    /// Returns the time at which the oldest socket is ended for the next address, for want of another place: after its
    /// share of the time.
    fn makes_way(&self) -> Instant {
        let begun = self.trying.first().map_or(self.turn, |oldest| oldest.begun);
        begun + share(begun, self.conditions.deadline, self.waiting.len()).max(self.gap)
    }

    /// Begins to connect to the next address, with this place for its socket, and sets the time of the turn after it.
    /// An address that fails at once counts as failed.
    fn begin(&mut self, place: Option<S>, now: Instant) {
        let Some(ip) = self.waiting.pop_front() else { return };
        let address = SocketAddr::new(ip, self.conditions.port);
        // Counted from turn to turn: a thread that was held up catches up.
        self.turn = (self.turn + self.gap).max(now + NEXT_ADDRESS_SOONEST);
        match socket::begin_to_connect(address) {
            Ok(stream) => self.trying.push(ConnectingSocket { address, begun: now, stream, place }),
            Err(error) => self.fails(address, error),
        }
    }

    /// Notes a failed address: the next one has its turn at once. If none is left, the race waits a little for the
    /// other family.
    fn fails(&mut self, address: SocketAddr, error: io::Error) {
        let now = Instant::now();
        if !ConnectError::is_ours(&error) {
            self.note(address, trouble(&error), now);
        }
        self.failed.push((address, error));
        self.turn = if self.waiting.is_empty() { now + NEXT_ADDRESS } else { now };
    }

    /// Lets the addresses of the other family, which are known now, take turns with those that wait; `None` if none are
    /// known. They are learned, and the time between turns is shared out again.
    fn join(&mut self, part: Option<FamilyAnswer>) {
        self.late = None;
        let Some(part) = part else { return };
        let now = Instant::now();
        let mut waiting = std::mem::take(&mut self.waiting).into_iter();
        let mut all = Vec::new();
        for address in &part.addresses {
            all.push(*address);
            all.extend(waiting.next());
        }
        all.extend(waiting);
        self.conditions.addresses.learn(&[part]);
        self.waiting = self.conditions.addresses.in_order(all, now).into();
        let left = self.conditions.deadline.saturating_duration_since(now);
        self.gap = gap(left, self.waiting.len());
    }

    /// Returns the winner's socket and address, and notes that it answered. The other sockets are closed, each in its
    /// place until then; an address that had its time counts as slow.
    fn win(self, mut won: ConnectingSocket<S>) -> (TcpStream, SocketAddr) {
        let now = Instant::now();
        self.conditions.addresses.answered(won.address.ip());
        for mut loser in self.trying {
            // Timers are not exact, so that half of the gap counts.
            if now.saturating_duration_since(loser.begun) >= self.gap / 2 {
                self.conditions.addresses.failed(loser.address.ip(), FailureKind::Slow, now);
            }
            // The dial's own place goes to the winner; the socket that had it takes the winner's.
            loser.place = loser.place.or_else(|| won.place.take());
            loser.close();
        }
        (won.stream, won.address)
    }

    /// Returns the error of a race in which each address failed; if there was none to try, the text says that no
    /// address is available.
    fn lose(self) -> RaceError {
        let no_address = || ConnectError::Tcp {
            address: SocketAddr::new([0, 0, 0, 0].into(), self.conditions.port),
            error: io::ErrorKind::AddrNotAvailable.into(),
            others: super::error::Others::default(),
        };
        RaceError::Failed(most_telling(self.failed).unwrap_or_else(no_address))
    }

    /// Ends the race because its time is over: fails with [`RaceError::Late`], and each address that is still being
    /// tried counts as slow. An address may have answered at the last moment, and wins.
    fn stop(mut self) -> Result<(TcpStream, SocketAddr), RaceError> {
        if let Some(index) = self.trying.iter().position(ConnectingSocket::is_connected) {
            let won = self.trying.swap_remove(index);
            return Ok(self.win(won));
        }
        self.trying
            .iter()
            .for_each(|socket| self.note(socket.address, FailureKind::Slow, socket.begun));
        Err(RaceError::Late)
    }

    fn note(&self, address: SocketAddr, trouble: FailureKind, now: Instant) {
        self.conditions.addresses.failed(address.ip(), trouble, now);
    }
}

impl<S: Send + 'static> ConnectingSocket<S> {
    fn is_connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Ends the socket in its place: politely if it is connected; if not, dropping the socket tells the peer nothing.
    fn close(self) {
        if self.is_connected() {
            let Self { stream, place, .. } = self;
            socket::reset_when_dropped(&stream, false);
            tokio::spawn(async move {
                socket::close_politely(stream).await;
                drop(place);
            });
        }
    }

    /// Waits until the kernel reports that the socket is connected or has failed; to be called until then.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            if let Some(error) = self.stream.take_error()? {
                return Poll::Ready(Err(error));
            }
            if self.is_connected() {
                return Poll::Ready(Ok(()));
            }
            // Neither: tokio's readiness was wrong.
            let not_yet = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.stream.try_io(Interest::WRITABLE, not_yet);
        }
    }
}

/// Waits for the addresses of the other family; for ever if there is nothing to wait for.
async fn heard(
    late: &mut Option<BoxFuture<'static, Option<FamilyAnswer>>>,
) -> Option<FamilyAnswer> {
    match late {
        Some(late) => late.await,
        None => pending().await,
    }
}

/// Returns the index and result of a socket that has ended; pending while none has.
fn poll_any<S: Send + 'static>(
    trying: &[ConnectingSocket<S>],
    cx: &mut Context<'_>,
) -> Poll<(usize, io::Result<()>)> {
    for (index, socket) in trying.iter().enumerate() {
        if let Poll::Ready(result) = socket.poll(cx) {
            return Poll::Ready((index, result));
        }
    }
    Poll::Pending
}

/// Returns the time from one address's turn to the next: all have theirs within half of the time that is left.
fn gap(time: Duration, addresses: usize) -> Duration {
    (time / 2 / (addresses.max(1) as u32)).clamp(NEXT_ADDRESS_SOONEST, NEXT_ADDRESS)
}

/// Returns a socket's share of the time until the deadline, if this number of addresses waits for it to end.
fn share(begun: Instant, deadline: Instant, waiting: usize) -> Duration {
    deadline.saturating_duration_since(begun) / (waiting as u32 + 1)
}

/// Returns the kind of failure that an error means for the memory of addresses.
fn trouble(error: &io::Error) -> FailureKind {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable => FailureKind::Refused,
        _ => FailureKind::Slow,
    }
}

/// Returns the error of the last failure, with the failures before it; `None` if there was no failure. A machine
/// without IPv6 reports the same for an IPv6 address as for used-up ports, so that the failure of another address is
/// preferred.
fn most_telling(mut failed: Vec<(SocketAddr, io::Error)>) -> Option<ConnectError> {
    let ours = |(_, error): &(_, io::Error)| ConnectError::is_ours(error);
    let last = failed.iter().rposition(|failed| !ours(failed)).or(failed.len().checked_sub(1))?;
    let (address, error) = failed.remove(last);
    let mut error = ConnectError::tcp(address, error);
    if let ConnectError::Tcp { others, .. } = &mut error {
        for (address, error) in &failed {
            others.add(*address, error);
        }
    }
    Some(error)
}

#[cfg(test)]
mod tests;
