//! A client's connection: the state that its listener and its exchanges share.
//!
//! Its phases, in HTTP/1.1, with the deadline that counts in each (`limit` in `listener/connection.rs` is this table in
//! code). The deadline of one exchange is a type of its own, [`Alarm`]: once it has rung there is none until it is set
//! again.
//!
//! | phase | begins when | moved by | deadline | then |
//! |---|---|---|---|---|
//! | `Idle` | the connection was accepted | `new` | `limits.idleTimeout`, or sooner the time of a rest | it closes, or rests (`listener/rest.rs`) |
//! | `Idle` | all of a response is written | `flushed`, the listener's stream | the same | the same |
//! | `Header` | the first byte of a request came | `header_begins`, the listener's stream | `limits.headerTimeout` | 408, and it closes |
//! | `AwaitingResponse` | the request's header is complete | `exchange_begins`, the proxy | the exchange's alarm: `timeouts.response`, or `timeouts.idle` of an upload | the exchange is polled, and decides |
//! | `Body` | the response's header was handed to hyper | `body_begins`, the proxy | `timeouts.idle` without a byte, 10 s for Warmline's own answers; 1 s if the client has ended its side | it is reset |
//! | `Flushing` | all of the response was handed to hyper | `body_ends`, the proxy | the same | the same |
//!
//! Deadlines of `Idle` and `Header` count from the phase's beginning. Beside the phase's own deadline, upstream
//! connections that are kept for the client's authentication have theirs (`kept_until`), and the drain ends the
//! connection in its time (`follow_drain` in `listener/connection.rs`).
//!
//! Deadlines are stamps: setting one wakes nothing. The connection's one timer sleeps until the nearest deadline that
//! it has seen, looks again, and only then acts or says that a deadline has passed.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use super::Alarm;
use crate::{
    drain::Drain,
    pool::{ClientId, EndReason, Verdict},
    stamp::Stamp,
    upstream::{Lease, Upstream},
};

/// The longest pause within a response once the client has ended its side.
const GONE_AFTER: Duration = Duration::from_secs(1);

/// The time without a request after which a client in the middle of an authentication handshake loses its upstream
/// connection, as other requests may wait for the place.
pub(super) const AUTHENTICATION_PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// The phase of a client connection; the table at the top of this file says what each means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Between requests.
    Idle,
    /// A request's header has begun.
    Header,
    /// A request waits for its response.
    AwaitingResponse,
    /// A response is on its way.
    Body,
    /// All of a response is handed over, and not yet written.
    Flushing,
}

impl Phase {
    const ALL: [Self; 5] =
        [Self::Idle, Self::Header, Self::AwaitingResponse, Self::Body, Self::Flushing];
}

/// The stored length of a body that comes in chunks.
const CHUNKED: u64 = u64::MAX;

/// The oddities that the stream found in a request line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RequestLine {
    /// The number of bytes that were escaped as `%XX`.
    pub escaped: u32,
    /// The position of a `#` in the line, counted from 1; 0 without one.
    pub fragment: u32,
    /// True if the request is OPTIONS of a URL without a path, which asks about the whole server.
    pub whole_server: bool,
}

impl RequestLine {
    const WHOLE_SERVER: u64 = 1 << 63;

    /// Packs the values into one word. Both numbers are below 2^31, as hyper takes no longer line.
    fn to_word(self) -> u64 {
        let whole_server = if self.whole_server { Self::WHOLE_SERVER } else { 0 };
        whole_server | u64::from(self.fragment) << 32 | u64::from(self.escaped)
    }

    /// Unpacks the values from their word.
    fn of_word(word: u64) -> Self {
        let numbers = word & !Self::WHOLE_SERVER;
        Self {
            escaped: numbers as u32,
            fragment: (numbers >> 32) as u32,
            whole_server: word & Self::WHOLE_SERVER != 0,
        }
    }
}

/// The state of one client connection, shared by its listener and its exchanges.
pub struct Client {
    /// A number that no other client connection of this process has.
    pub id: ClientId,
    /// The client's address.
    pub address: SocketAddr,
    /// The drain of the listener that accepted the connection.
    pub drain: Drain,
    /// The number of exchanges that have begun.
    exchanges: AtomicU64,
    /// The length in bytes of the newest request's body; [`CHUNKED`] if the body comes in chunks.
    body: AtomicU64,
    /// The next exchange's [`RequestLine`] in one word; 0 for a plain line.
    line: AtomicU64,
    /// Upstreams that may have connections that serve this client alone.
    owning: Mutex<Vec<Arc<Upstream>>>,
    /// The upstream connections on which the client is in the middle of an authentication handshake.
    kept: Mutex<Vec<AuthenticationLease>>,
    /// True if `kept` is not empty.
    keeps: AtomicBool,
    /// The time at which the next of the kept connections is to be given up.
    kept_until: Stamp,
    phase: AtomicU8,
    /// The time at which the phase began.
    since: Stamp,
    /// The time at which a byte was last read or written.
    last_io: Stamp,
    /// The alarm of the current exchange, in [`Phase::AwaitingResponse`].
    pub alarm: Alarm,
    /// The longest time without a byte, in microseconds, in [`Phase::Body`] and [`Phase::Flushing`].
    idle_limit: AtomicU64,
    /// The time of the client's FIN, while the stream holds it back.
    fin_held: Stamp,
    /// The time at which a FIN was found behind bytes that hyper does not read yet.
    fin_behind: Stamp,
    /// True if all of the newest request has come.
    whole: AtomicBool,
    /// True if hyper may have grown its read buffer for this client.
    bulky: AtomicBool,
    /// True if the client takes no more bytes at the moment.
    blocked: AtomicBool,
    /// True if the stream is to look at the socket for a reset.
    look_wanted: AtomicBool,
    /// True if the answer began before the request was read to its end.
    unread: AtomicBool,
    /// True once the time for the drain is over.
    aborting: AtomicBool,
    /// True if no byte of a body moved for too long.
    stuck: AtomicBool,
    /// True if the response broke off: the connection must end with RST, so that the client does not take the response
    /// for whole.
    broken: AtomicBool,
}

/// An upstream connection that waits for the client's next request, and counts as in use until then: only the client,
/// the connection's own end or [`AUTHENTICATION_PAUSE_LIMIT`] may come between two messages of an authentication
/// handshake.
pub(super) struct AuthenticationLease {
    upstream: Arc<Upstream>,
    until: Instant,
    /// The connection; `None` once it was given up. Boxed, as it is rare, and the future that takes it lives as long as
    /// its exchange.
    pub(super) lease: Option<Box<Lease>>,
}

impl Client {
    /// Creates the state of a connection that was just accepted.
    pub fn new(address: SocketAddr, drain: Drain, now: Instant) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let client = Self {
            id: NEXT.fetch_add(1, Relaxed),
            exchanges: AtomicU64::new(0),
            body: AtomicU64::new(0),
            line: AtomicU64::new(0),
            owning: Mutex::default(),
            kept: Mutex::default(),
            keeps: AtomicBool::new(false),
            kept_until: Stamp::default(),
            address,
            drain,
            phase: AtomicU8::new(Phase::Idle as u8),
            since: Stamp::default(),
            last_io: Stamp::default(),
            alarm: Alarm::default(),
            idle_limit: AtomicU64::new(0),
            fin_held: Stamp::default(),
            fin_behind: Stamp::default(),
            whole: AtomicBool::new(false),
            bulky: AtomicBool::new(false),
            blocked: AtomicBool::new(false),
            look_wanted: AtomicBool::new(false),
            unread: AtomicBool::new(false),
            aborting: AtomicBool::new(false),
            stuck: AtomicBool::new(false),
            broken: AtomicBool::new(false),
        };
        client.since.set(now);
        client
    }

    /// Returns the current phase.
    pub fn phase(&self) -> Phase {
        Phase::ALL[usize::from(self.phase.load(Relaxed))]
    }

    /// Returns the time at which the current phase began; never `None` for a client that was made with [`Client::new`].
    pub fn since(&self) -> Option<Instant> {
        self.since.get()
    }

    /// Notes that a byte was read or written.
    pub fn note_io(&self, now: Instant) {
        self.last_io.set(now);
    }

    /// Returns the time at which a byte was last read or written; `None` before the first.
    pub fn last_io(&self) -> Option<Instant> {
        self.last_io.get()
    }

    /// Notes that the first byte of a request came.
    pub fn header_begins(&self, now: Instant) {
        self.enter(Phase::Header, now);
    }

    /// Keeps what the stream found in the next exchange's request line.
    pub fn note_line(&self, line: RequestLine) {
        self.line.store(line.to_word(), Relaxed);
    }

    /// Returns, once, what the stream found in the request line of the exchange that has just begun.
    pub fn take_line(&self) -> RequestLine {
        match self.line.load(Relaxed) {
            0 => RequestLine::default(),
            word => {
                self.line.store(0, Relaxed);
                RequestLine::of_word(word)
            }
        }
    }

    /// Returns the number of exchanges so far, and the length of the newest one's request body, `None` if that comes in
    /// chunks.
    pub fn newest_exchange(&self) -> (u64, Option<u64>) {
        let body = Some(self.body.load(Relaxed)).filter(|body| *body != CHUNKED);
        (self.exchanges.load(Relaxed), body)
    }

    /// Notes that a request's header is complete, with the length of its body, or `None` if the body comes in chunks.
    /// Counts the exchange, and clears the alarm of the one before.
    pub fn exchange_begins(&self, now: Instant, body: Option<u64>) {
        self.body.store(body.unwrap_or(CHUNKED), Relaxed);
        self.whole.store(body == Some(0), Relaxed);
        self.alarm.clear();
        self.exchanges.fetch_add(1, Relaxed);
        self.enter(Phase::AwaitingResponse, now);
    }

    /// True before the connection's first exchange.
    pub fn is_new(&self) -> bool {
        self.exchanges.load(Relaxed) == 0
    }

    /// Notes whether hyper may have grown its read buffer for this client.
    pub fn set_bulky(&self, bulky: bool) {
        self.bulky.store(bulky, Relaxed);
    }

    /// True if hyper may have grown its read buffer for this client.
    pub fn is_bulky(&self) -> bool {
        self.bulky.load(Relaxed)
    }

    /// True if the newest exchange is this connection's first.
    pub fn is_first_exchange(&self) -> bool {
        self.exchanges.load(Relaxed) == 1
    }

    /// Notes that connections of this upstream may serve this client alone: they are closed when the client's
    /// connection ends.
    pub fn note_own_connections(&self, upstream: &Arc<Upstream>) {
        let mut owning = self.owning.lock().unwrap_or_else(PoisonError::into_inner);
        if !owning.iter().any(|known| Arc::ptr_eq(known, upstream)) {
            owning.push(Arc::clone(upstream));
        }
    }

    /// Keeps an upstream connection, which counts as in use, for the client's next request to this upstream; for
    /// [`AUTHENTICATION_PAUSE_LIMIT`] at most.
    pub(super) fn keep(&self, upstream: Arc<Upstream>, mut lease: Lease, now: Instant) {
        lease.handle().release(now);
        let kept = AuthenticationLease {
            upstream,
            until: now + AUTHENTICATION_PAUSE_LIMIT,
            lease: Some(Box::new(lease)),
        };
        self.change_kept(|all| all.push(kept));
    }

    /// Takes the upstream connection that the next request to this upstream has to use; `None` if none was kept. Its
    /// lease is `None` if the connection was given up meanwhile.
    pub(super) fn take_kept(&self, upstream: &Arc<Upstream>) -> Option<AuthenticationLease> {
        if !self.keeps.load(Relaxed) {
            return None;
        }
        self.change_kept(|all| {
            let index = all.iter().position(|kept| Arc::ptr_eq(&kept.upstream, upstream))?;
            Some(all.swap_remove(index))
        })
    }

    /// Returns the time at which [`Client::let_go`] has something to do; `None` if no connection is kept.
    pub fn kept_until(&self) -> Option<Instant> {
        self.kept_until.get()
    }

    /// Closes the upstream connections on which the client has not continued its authentication within
    /// [`AUTHENTICATION_PAUSE_LIMIT`].
    #[cold]
    pub fn let_go(&self, now: Instant) {
        let overdue: Vec<_> = self.change_kept(|all| {
            let overdue = all.iter_mut().filter(|kept| kept.until <= now);
            overdue.filter_map(|kept| kept.lease.take()).collect()
        });
        for lease in overdue {
            lease.end(Verdict::Unfit(EndReason::Authenticated), now);
        }
    }

    /// Gives up every upstream connection that is kept for this client or serves it alone, as the client gets no
    /// further request through: the close of its own connection may take a while.
    #[cold]
    pub fn leave(&self) {
        for lease in self.change_kept(std::mem::take).into_iter().filter_map(|kept| kept.lease) {
            lease.end(Verdict::Unfit(EndReason::Authenticated), Instant::now());
        }
        let mut owning = self.owning.lock().unwrap_or_else(PoisonError::into_inner);
        for upstream in owning.drain(..) {
            upstream.pool().client_left(self.id);
        }
    }

    /// Changes the list of kept upstream connections under its lock, and computes anew whether there are any and when
    /// the next is to be given up. Returns what `change` does.
    fn change_kept<T>(&self, change: impl FnOnce(&mut Vec<AuthenticationLease>) -> T) -> T {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = change(&mut kept);
        self.keeps.store(!kept.is_empty(), Relaxed);
        let waiting = kept.iter().filter(|kept| kept.lease.is_some());
        match waiting.map(|kept| kept.until).min() {
            Some(until) => self.kept_until.set(until),
            None => self.kept_until.clear(),
        }
        changed
    }

    /// Sets the longest time without a byte in the response that is about to begin.
    pub(super) fn set_idle_limit(&self, limit: Duration) {
        let micros = u64::try_from(limit.as_micros()).unwrap_or(u64::MAX);
        self.idle_limit.store(micros, Relaxed);
    }

    /// Notes that a response was handed to hyper.
    pub fn body_begins(&self, now: Instant) {
        self.enter(Phase::Body, now);
    }

    /// Notes that all of the response was handed to hyper.
    pub fn body_ends(&self) {
        self.phase.store(Phase::Flushing as u8, Relaxed);
    }

    /// Notes that everything handed to hyper is written: if that includes a whole response, the response is complete.
    pub fn flushed(&self) {
        if self.phase() == Phase::Flushing {
            // The clock is not read again: the last write was just now.
            self.since.copy(&self.last_io);
            self.phase.store(Phase::Idle as u8, Relaxed);
        }
    }

    /// True if a FIN from the client must be held back, as the response's body goes on (RFC 9112 section 9.6).
    pub fn holds_fin(&self) -> bool {
        matches!(self.phase(), Phase::Body | Phase::Flushing)
    }

    /// Notes that the stream holds back a FIN, which came at this time.
    pub fn set_fin_held(&self, at: Instant) {
        self.fin_held.set(at);
    }

    /// True if the client has ended its side while a response goes on.
    pub fn is_fin_held(&self) -> bool {
        self.fin_held.get().is_some()
    }

    /// Returns true if a FIN was held back and need not be any longer; the call ends the holding, so that only the
    /// first caller gets true.
    pub fn release_fin(&self) -> bool {
        let released = self.is_fin_held() && !self.holds_fin();
        if released {
            self.fin_held.clear();
        }
        released
    }

    /// Notes that all of the newest request has come.
    pub(super) fn set_whole(&self) {
        self.whole.store(true, Relaxed);
    }

    /// Takes the news of a FIN behind bytes that hyper does not read yet: a next request, or a part of one. Before all of
    /// the request has come the FIN is ignored; while a response goes on, its time is noted. Before the response it means
    /// that the client has given its request up: returns true, as hyper concludes where it reads the FIN itself.
    #[cold]
    pub fn note_fin_behind(&self, now: Instant) -> bool {
        if !self.whole.load(Relaxed) {
            return false;
        }
        if self.holds_fin() && self.fin_behind.get().is_none() {
            self.fin_behind.set(now);
        }
        self.phase() == Phase::AwaitingResponse
    }

    /// Notes whether the client takes no more bytes at the moment.
    pub fn set_blocked(&self, blocked: bool) {
        self.blocked.store(blocked, Relaxed);
    }

    /// Asks the stream to look for a reset at hyper's next flush.
    pub fn want_look(&self) {
        self.look_wanted.store(true, Relaxed);
    }

    /// Returns true if a look was asked for; the call clears the request, so that only the first caller gets true.
    pub fn take_look(&self) -> bool {
        self.look_wanted.load(Relaxed) && self.look_wanted.swap(false, Relaxed)
    }

    /// Notes that the answer begins before the request was read to its end.
    pub fn set_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// True if the client may still be sending a request that was answered before its end.
    pub fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    fn enter(&self, phase: Phase, now: Instant) {
        self.since.set(now);
        self.phase.store(phase as u8, Relaxed);
    }

    /// Returns the time at which a body that moves no byte for `limit` is given up.
    pub fn idle_deadline(&self, limit: Duration) -> Instant {
        let last = self.last_io.get().max(self.since.get());
        last.unwrap_or_else(Instant::now) + limit
    }

    /// Returns the time at which a response is given up unless a byte moves, in [`Phase::Body`] and
    /// [`Phase::Flushing`].
    pub fn body_deadline(&self) -> Instant {
        let idle = self.idle_deadline(Duration::from_micros(self.idle_limit.load(Relaxed)));
        self.departure().map_or(idle, |departure| departure.min(idle))
    }

    /// Returns the time at which a client that has ended its side counts as gone, or `None` if its side is open: a
    /// closed socket shows no more than its FIN until something is sent to it. A client that takes bytes slowly does
    /// not count as gone.
    fn departure(&self) -> Option<Instant> {
        let behind = || self.fin_behind.get().filter(|_| self.whole.load(Relaxed));
        let ended = self.fin_held.get().or_else(behind).filter(|_| !self.blocked.load(Relaxed))?;
        let moved = self.last_io.get().map_or(ended, |moved| moved.max(ended));
        Some(moved + GONE_AFTER)
    }

    /// True if the client counts as gone at this time.
    pub fn has_left(&self, now: Instant) -> bool {
        self.departure().is_some_and(|departure| departure <= now)
    }

    /// Notes that the time for the drain is over: the exchange in flight ends.
    pub fn abort(&self) {
        self.aborting.store(true, Relaxed);
    }

    /// True once the time for the drain is over.
    pub fn aborting(&self) -> bool {
        self.aborting.load(Relaxed)
    }

    /// Notes that no byte of a body moved for `timeouts.idle`.
    pub fn set_stuck(&self) {
        self.stuck.store(true, Relaxed);
    }

    /// True if no byte of a body moved for `timeouts.idle`.
    pub fn is_stuck(&self) -> bool {
        self.stuck.load(Relaxed)
    }

    /// Notes that the response broke off.
    pub fn set_broken(&self) {
        self.broken.store(true, Relaxed);
    }

    /// True if the response broke off.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Relaxed)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.leave();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_of_phases_has_them_all_in_order_and_names_functions_that_exist() {
        let source = include_str!("client.rs");
        let rows = source.lines().filter_map(|line| line.strip_prefix("//! | `"));
        let mut phases = Vec::new();
        for row in rows {
            let names: Vec<_> = row.split('`').collect();
            phases.push(names[0].to_owned());
            let mover = names[2];
            assert!(source.contains(&format!(" fn {mover}(")), "{mover}");
        }
        phases.dedup();
        assert_eq!(phases, Phase::ALL.map(|phase| format!("{phase:?}")));
    }

    #[test]
    fn fault_35_a_client_that_ended_its_side_is_gone_after_a_second_in_which_it_would_take_bytes() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let begun = Instant::now();
        let client = Client::new(address, Drain::default(), begun);
        let millis = |after: u64| begun + Duration::from_millis(after);
        let deadline = || {
            let left = client.body_deadline().saturating_duration_since(begun);
            // A stamp is only exact to the microsecond.
            (left + Duration::from_millis(1)).as_secs()
        };
        client.set_idle_limit(Duration::from_mins(1));
        client.body_begins(begun);
        assert!(deadline() == 60 && !client.has_left(millis(70_000)));
        client.set_fin_held(millis(3_000));
        assert_eq!(deadline(), 4);
        assert!(!client.has_left(millis(3_900)) && client.has_left(millis(4_100)));
        client.note_io(millis(5_000));
        assert_eq!(deadline(), 6);
        assert!(!client.has_left(millis(5_900)));
        client.set_blocked(true);
        assert!(deadline() == 65 && !client.has_left(millis(66_000)));
    }
    #[test]
    fn fault_35_a_fin_behind_unread_bytes_counts_once_all_of_the_request_has_come() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let now = Instant::now();
        let later = now + Duration::from_secs(2);
        let client = Client::new(address, Drain::default(), now);
        assert!(!client.note_fin_behind(now), "between requests hyper reads it");
        client.exchange_begins(now, Some(5));
        assert!(!client.note_fin_behind(now), "the rest of the body may come before it");
        client.set_whole();
        assert!(client.note_fin_behind(now), "nobody waits for the response");
        client.exchange_begins(now, Some(0));
        assert!(client.note_fin_behind(now));
        client.set_idle_limit(Duration::from_mins(1));
        client.body_begins(now);
        assert!(!client.has_left(later));
        assert!(!client.note_fin_behind(now) && client.has_left(later));
        // Bytes of the next request came before the FIN, too.
        client.exchange_begins(now, None);
        client.set_idle_limit(Duration::from_mins(1));
        client.body_begins(now);
        assert!(!client.has_left(later));
    }
}
