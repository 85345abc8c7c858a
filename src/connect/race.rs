//! TCP to the first of several addresses that answers (RFC 8305 section 5), under the cap: each socket has a place.

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
    addresses::{Addresses, Trouble},
    resolve::{Answer, Part, by_turns},
};
use crate::socket;

/// The time for which one address may keep the next from being tried (RFC 8305 section 5).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// The same where there are many.
const NEXT_ADDRESS_SOONEST: Duration = Duration::from_millis(10);

/// Sockets of one race at once; where more addresses have their turn, the oldest makes way.
const AT_ONCE: usize = 8;

/// The conditions of a race. `S` is a place under the cap for one more socket than the dial itself has.
pub struct Course<'a, S> {
    /// The endpoint's port.
    pub port: u16,
    /// The end of the race, won or not.
    pub deadline: Instant,
    /// The memory of the endpoint's addresses.
    pub addresses: &'a Addresses,
    /// Gives a place for one more socket, if one is free.
    pub spare: &'a (dyn Fn() -> Option<S> + Sync),
}

/// A race without a winner.
#[derive(Debug)]
pub enum Lost {
    /// Each address failed.
    Failed(ConnectError),
    /// The time was over first.
    Late,
}

/// A socket on its way to an address.
struct Attempt<S> {
    address: SocketAddr,
    begun: Instant,
    stream: TcpStream,
    /// The place that it takes; `None` is the one that the dial itself has.
    place: Option<S>,
}

/// The addresses of a dial: those that are tried, and those that wait for their turn.
struct Race<'a, S> {
    course: Course<'a, S>,
    waiting: VecDeque<IpAddr>,
    /// The other family's addresses, where they are not known yet.
    late: Option<BoxFuture<'static, Option<Part>>>,
    trying: Vec<Attempt<S>>,
    failed: Vec<(SocketAddr, io::Error)>,
    /// The time from one address's turn to the next.
    gap: Duration,
    /// The next address's turn; where none is left, the end of the wait for the late ones.
    turn: Instant,
}

/// Runs a race: the next address is tried after a failure, or when it has its turn; the first that answers wins.
pub async fn run<S: Send + 'static>(
    answer: Answer,
    course: Course<'_, S>,
) -> Result<(TcpStream, SocketAddr), Lost> {
    let now = Instant::now();
    let waiting = course.addresses.in_order(by_turns(&answer.parts), now);
    let gap = gap(course.deadline.saturating_duration_since(now), waiting.len());
    let (late, waiting) = (answer.late, waiting.into());
    let race =
        Race { course, waiting, late, trying: Vec::new(), failed: Vec::new(), gap, turn: now };
    race.run().await
}

/// An event that a race waits for.
enum Event {
    Ended(usize, io::Result<()>),
    Heard(Option<Part>),
    Turn,
    Over,
}

impl<S: Send + 'static> Race<'_, S> {
    async fn run(mut self) -> Result<(TcpStream, SocketAddr), Lost> {
        loop {
            if let Some(won) = self.begin_due(Instant::now()) {
                return Ok(self.win(won));
            }
            if self.trying.is_empty() && self.late.is_none() {
                return Err(self.lose());
            }
            match self.next().await {
                Event::Ended(index, result) => {
                    let attempt = self.trying.swap_remove(index);
                    match result {
                        Ok(()) => return Ok(self.win(attempt)),
                        Err(error) => self.fails(attempt.address, error),
                    }
                }
                Event::Heard(part) => self.join(part),
                Event::Turn if self.waiting.is_empty() => self.late = None,
                Event::Turn => {}
                Event::Over => return self.stop(),
            }
        }
    }

    async fn next(&mut self) -> Event {
        // While the last addresses are tried, nothing has a turn.
        let has_turn = !self.waiting.is_empty() || self.trying.is_empty();
        let (turn, deadline) = (self.turn.into(), self.course.deadline.into());
        let Self { trying, late, .. } = self;
        tokio::select! {
            (index, result) = poll_fn(|cx| poll_any(trying, cx)) => Event::Ended(index, result),
            part = heard(late) => Event::Heard(part),
            () = sleep_until(turn), if has_turn => Event::Turn,
            () = sleep_until(deadline) => Event::Over,
        }
    }

    /// Begins with the address that has its turn, if it can have a place. Gives back one that was about to make way for it
    /// and has just connected.
    fn begin_due(&mut self, now: Instant) -> Option<Attempt<S>> {
        while !self.waiting.is_empty() && (self.trying.is_empty() || self.turn <= now) {
            let own_is_free = self.trying.iter().all(|attempt| attempt.place.is_some());
            let is_full = self.trying.len() >= AT_ONCE;
            let spare = if own_is_free || is_full { None } else { (self.course.spare)() };
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
                self.note(oldest.address, Trouble::Slow, now);
                drop(oldest.stream);
                self.begin(oldest.place, now);
            }
        }
        None
    }

    /// Computes when the oldest attempt makes way for the next address, for want of another place: after its share of the time.
    fn makes_way(&self) -> Instant {
        let begun = self.trying.first().map_or(self.turn, |oldest| oldest.begun);
        begun + share(begun, self.course.deadline, self.waiting.len()).max(self.gap)
    }

    fn begin(&mut self, place: Option<S>, now: Instant) {
        let Some(ip) = self.waiting.pop_front() else { return };
        let address = SocketAddr::new(ip, self.course.port);
        // From turn to turn: a thread that was held up catches up.
        self.turn = (self.turn + self.gap).max(now + NEXT_ADDRESS_SOONEST);
        match socket::begin_to_connect(address) {
            Ok(stream) => self.trying.push(Attempt { address, begun: now, stream, place }),
            Err(error) => self.fails(address, error),
        }
    }

    /// Notes a failed address: the next has its turn at once. Where none is left, the late ones are waited for a little.
    fn fails(&mut self, address: SocketAddr, error: io::Error) {
        let now = Instant::now();
        if !ConnectError::is_ours(&error) {
            self.note(address, trouble(&error), now);
        }
        self.failed.push((address, error));
        self.turn = if self.waiting.is_empty() { now + NEXT_ADDRESS } else { now };
    }

    /// Lets the other family's addresses, which are there now, take turns with those that wait.
    fn join(&mut self, part: Option<Part>) {
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
        self.course.addresses.learn(&[part]);
        self.waiting = self.course.addresses.in_order(all, now).into();
        let left = self.course.deadline.saturating_duration_since(now);
        self.gap = gap(left, self.waiting.len());
    }

    /// Takes the winner out; the others close, each in its place until then.
    fn win(self, mut won: Attempt<S>) -> (TcpStream, SocketAddr) {
        let now = Instant::now();
        self.course.addresses.answered(won.address.ip());
        for mut loser in self.trying {
            // Turns are not exact.
            if now.saturating_duration_since(loser.begun) >= self.gap / 2 {
                self.course.addresses.failed(loser.address.ip(), Trouble::Slow, now);
            }
            // The dial's own place goes to the connection that it made.
            loser.place = loser.place.or_else(|| won.place.take());
            loser.close();
        }
        (won.stream, won.address)
    }

    fn lose(self) -> Lost {
        let no_address = || ConnectError::Tcp {
            address: SocketAddr::new([0, 0, 0, 0].into(), self.course.port),
            error: io::ErrorKind::AddrNotAvailable.into(),
            others: super::error::Others::default(),
        };
        Lost::Failed(most_telling(self.failed).unwrap_or_else(no_address))
    }

    /// Ends the race for want of time; an address may have answered at the last moment.
    fn stop(mut self) -> Result<(TcpStream, SocketAddr), Lost> {
        if let Some(index) = self.trying.iter().position(Attempt::is_connected) {
            let won = self.trying.swap_remove(index);
            return Ok(self.win(won));
        }
        self.trying
            .iter()
            .for_each(|attempt| self.note(attempt.address, Trouble::Slow, attempt.begun));
        Err(Lost::Late)
    }

    fn note(&self, address: SocketAddr, trouble: Trouble, now: Instant) {
        self.course.addresses.failed(address.ip(), trouble, now);
    }
}

impl<S: Send + 'static> Attempt<S> {
    fn is_connected(&self) -> bool {
        self.stream.peer_addr().is_ok()
    }

    /// Ends it in its place: as a connection, if it became one, else nobody has heard of it.
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

    /// Waits for the kernel's word on whether the socket is connected; it comes once.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            std::task::ready!(self.stream.poll_write_ready(cx))?;
            if let Some(error) = self.stream.take_error()? {
                return Poll::Ready(Err(error));
            }
            if self.is_connected() {
                return Poll::Ready(Ok(()));
            }
            // Neither: the readiness was not meant.
            let not_yet = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            let _ = self.stream.try_io(Interest::WRITABLE, not_yet);
        }
    }
}

/// Waits for the other family's addresses; where they are known, for ever.
async fn heard(late: &mut Option<BoxFuture<'static, Option<Part>>>) -> Option<Part> {
    match late {
        Some(late) => late.await,
        None => pending().await,
    }
}

fn poll_any<S: Send + 'static>(
    trying: &[Attempt<S>],
    cx: &mut Context<'_>,
) -> Poll<(usize, io::Result<()>)> {
    for (index, attempt) in trying.iter().enumerate() {
        if let Poll::Ready(result) = attempt.poll(cx) {
            return Poll::Ready((index, result));
        }
    }
    Poll::Pending
}

/// Computes the time from one address's turn to the next: all have theirs in half of the time that there is.
fn gap(time: Duration, addresses: usize) -> Duration {
    (time / 2 / (addresses.max(1) as u32)).clamp(NEXT_ADDRESS_SOONEST, NEXT_ADDRESS)
}

/// Computes an attempt's part of the time that is left, where so many addresses wait until it is over.
fn share(begun: Instant, deadline: Instant, waiting: usize) -> Duration {
    deadline.saturating_duration_since(begun) / (waiting as u32 + 1)
}

fn trouble(error: &io::Error) -> Trouble {
    use io::ErrorKind::{ConnectionRefused, HostUnreachable, NetworkUnreachable};
    match error.kind() {
        ConnectionRefused | HostUnreachable | NetworkUnreachable => Trouble::Refused,
        _ => Trouble::Slow,
    }
}

/// Picks the last failure, and tells those before it. But a machine without IPv6 says of such an address what it also says when its ports
/// are used up: what another address answered is nearer to the truth.
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
