//! The pool of connections to one upstream: a strict cap, one queue, and idle connections that the purge rule keeps
//! ("The pool" in docs/design.md).
//!
//! [`state`] decides, as a pure state machine. This file puts it under a lock, wakes waiters and drops handles once the
//! lock is released, and hands out the [`tokens`]. A [`Permit`] is the right to dial, a [`Place`] lasts as long as the
//! socket, a [`Lease`] as long as the exchange, a [`Waiter`] until the request has a lease. The drop of a token gives
//! back what the pool has counted for it.

#![allow(
    clippy::redundant_closure_for_method_calls,
    reason = "the path of a method of `Operation`, which has a lifetime, is not general enough"
)]

mod connections;
mod ids;
mod learned;
mod pace;
mod purge;
mod reasons;
mod refill;
mod room;
mod sharing;
pub mod state;
mod streams;
#[cfg(test)]
mod tests;
mod tokens;
mod verdict;
mod waiters;

use std::{
    net::{IpAddr, SocketAddr},
    num::NonZeroU64,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    task::Waker,
    time::{Duration, Instant},
};

use tokio::sync::Notify;

pub use ids::ClientId;
pub use learned::{KeepAlive, Learned, Source};
pub use reasons::{EndReason, Rejection, Reuse};
pub use sharing::{Ask, DEFAULT_URGENCY, Sharing};
pub use state::{Advanced, Census, ConnectionId, Dialled, PROOF_TIME, PROVEN_AGE};
use state::{CheckoutOutcome, Effects, Ended, Leased, Operation, State, WarmStep};
pub use tokens::{FailedDial, Lease, Permit, Place, Spare, Waiter, WaiterStep};
pub use verdict::Verdict;

use crate::{
    counted,
    telemetry::{
        Counter, Histogram, Tally,
        ends::{Manner, Side},
        log::{self, seconds},
    },
};

/// The validated settings of a pool, from the upstream's configuration ("The pool" in docs/design.md).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The rule by which requests may take used connections (`reuse`).
    pub sharing: Sharing,
    /// The strict cap on connecting, active, idle and closing connections together (`maxConnections`). At least 1.
    pub max_connections: usize,
    /// The most connections that may be idle (`maxIdle`); `None`: no limit, 0: none is kept.
    pub max_idle: Option<usize>,
    /// The warm floor: the number of connections that are kept idle, and dialled if they are missing (`minIdle`). Wins
    /// over [`Settings::max_idle`], but not over the cap. 0: no floor.
    pub min_idle: usize,
    /// The period of the purge rule (`purgeDelay`); zero: no connection is kept idle but for the warm floor.
    pub purge_delay: Duration,
    /// The longest time that a connection may be idle (`idleTimeout`); zero: no limit.
    pub idle_timeout: Duration,
    /// The greatest age of a connection, before jitter (`maxAge`); zero: no limit.
    pub max_age: Duration,
    /// The most requests that a connection may carry (`maxRequests`); `None`: no limit.
    pub max_requests: Option<NonZeroU64>,
    /// The most waiters that may be queued: at the cap, without a dial (`maxQueue`).
    pub max_queue: usize,
    /// The longest time that a waiter may be queued, at the cap and without a dial (`queueTimeout`).
    pub queue_timeout: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sharing: Sharing::Always,
            max_connections: 100,
            max_idle: None,
            min_idle: 0,
            purge_delay: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(55),
            max_age: Duration::from_hours(1),
            max_requests: None,
            max_queue: 1024,
            queue_timeout: Duration::from_secs(5),
        }
    }
}

/// The end of a connection's socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// The side that ended it.
    pub by: Side,
    /// The manner of the end: politely, or by a reset, for instance.
    pub how: Manner,
}

/// A connection's phase, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionPhase {
    /// The dial is under way.
    Connecting,
    /// The connection is leased.
    Active,
    /// The connection is ready for a checkout.
    Idle,
    /// The connection is being closed politely, and still takes its place under the cap.
    Closing,
}

/// A description of a connection, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// The connection's number within its pool.
    pub id: ConnectionId,
    /// The connection's phase.
    pub phase: ConnectionPhase,
    /// The time since the connection was established; before that, since its dial began.
    pub age: Duration,
    /// The number of requests that the connection has carried, a running one included.
    pub uses: u64,
    /// The address at the other end; `None` before the connection is established.
    pub peer: Option<SocketAddr>,
    /// The generation of certificates that the handshake used; 0 before the connection is established.
    pub generation: u64,
    /// The number of the worker thread that dialled and drives the connection.
    pub thread: usize,
    /// The reason for which the last checkout of this connection was, or was not, a reuse; `None` before the first.
    pub last_reuse: Option<Reuse>,
}

/// The state of a pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The number of connections in each phase.
    pub census: Census,
    /// The newest generation. Connections of older ones are not leased any more.
    pub generation: u64,
    /// The number of queued waiters: at the cap, without a dial.
    pub queued: usize,
    /// The number of idle connections that no request is given until their peers are proven alive.
    pub doubted: usize,
    /// A description of each connection, oldest first.
    pub connections: Vec<ConnectionView>,
}

counted! {
    /// The counts of what happened in a pool since it was made.
    pub struct Counters, copied as CountersSnapshot {
        /// The number of connections that were established.
        pub opened: Counter,
        /// The number of connections that have ended, by reason.
        pub closed: Tally<EndReason>,
        /// The number of leases, by the reason for which each is, or is not, a reuse.
        pub checkouts: Tally<Reuse>,
        /// The number of checkouts that were refused, by reason.
        pub rejections: Tally<Rejection>,
        /// The times that waiters were queued, of those that were queued and then got a connection.
        pub queue_wait: Histogram,
    }
}

/// The pool of one upstream. `C` is a connection's handle, which is cheap to clone: the drop of the last clone closes the
/// connection. `E` is the error of a failed dial.
pub struct Pool<C, E> {
    name: String,
    state: Mutex<State<C, E, Waker>>,
    counters: Counters,
    /// The signal for [`Pool::maintain`] to look at its deadline again.
    rearmed: Notify,
    /// The signal for [`Pool::wanted`] to look again whether the warm floor lacks a connection.
    lacking: Notify,
    /// The signal that the drain has begun.
    draining: Notify,
    /// The signal that a connection or a waiter may have come or gone.
    changed: Notify,
    /// The number of tasks that wait for `changed`. While it is 0, a request skips tokio's lock. A task counts itself
    /// before it takes the state's lock for its first look, so that every later change of the state finds it counted.
    watchers: AtomicUsize,
}

/// A task's share in [`Pool`]'s count of watchers, taken back on drop.
struct Watching<'a>(&'a AtomicUsize);

impl<'a> Watching<'a> {
    fn counted_in(watchers: &'a AtomicUsize) -> Self {
        watchers.fetch_add(1, Relaxed);
        Self(watchers)
    }
}

impl Drop for Watching<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl<C: Clone, E> Pool<C, E> {
    /// Makes an empty pool for the worker threads 0 up to, not including, `threads`; the name appears in log lines. A
    /// connection is expected to allow `streams` streams at a time, at least 1.
    #[must_use]
    pub fn new(name: &str, settings: Settings, streams: u32, threads: usize) -> Arc<Self> {
        let counters = Counters {
            opened: Counter::default(),
            closed: Tally::default(),
            checkouts: Tally::default(),
            rejections: Tally::default(),
            queue_wait: Histogram::new(&[1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000]),
        };
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(State::new(settings, streams, threads)),
            counters,
            rearmed: Notify::new(),
            lacking: Notify::new(),
            draining: Notify::new(),
            changed: Notify::new(),
            watchers: AtomicUsize::new(0),
        })
    }

    /// Leases a connection with room, or makes the request a waiter. Refuses, and counts that, if the queue is full, or
    /// too slow for the request.
    pub fn check_out(
        self: &Arc<Self>,
        now: Instant,
        ask: Ask,
    ) -> Result<Checkout<C, E>, Rejection> {
        match self.change(now, |operation| operation.check_out(ask)) {
            Ok(CheckoutOutcome::Leased(leased)) => Ok(Checkout::Leased(self.lease(leased, None))),
            Ok(CheckoutOutcome::Waits(id)) => {
                Ok(Checkout::Waits(Waiter::new(Arc::clone(self), id, ask.thread)))
            }
            Err(rejection) => {
                self.counters.rejections.increment(rejection);
                Err(rejection)
            }
        }
    }

    /// Closes the connections that belong to a client that is gone, those in use once they are checked in: those that
    /// the client used under [`Sharing::Never`], and those that it claimed ([`Lease::claim`]). A dial that was begun
    /// for the client goes to other waiters.
    pub fn client_left(&self, client: ClientId) {
        self.change(Instant::now(), |operation| operation.client_left(client));
    }

    /// Purges, and closes connections that have expired, whenever that is due. Never returns; one task polls it.
    pub async fn maintain(&self) {
        loop {
            let rearmed = self.rearmed.notified();
            let now = Instant::now();
            match self.change(now, |operation| operation.tick()) {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = rearmed => {}
                },
                None => rearmed.await,
            }
        }
    }

    /// Waits until the warm floor lacks a connection, and returns the right to dial it, whose place is taken. For one
    /// caller at a time, who calls again at once. While dials fail, or their connections end at once, the pauses
    /// between permits grow. `thread` is the worker thread that will dial; `jitter`, in 0.0..1.0, shortens the next
    /// pause.
    pub async fn wanted(self: &Arc<Self>, thread: usize, jitter: f64) -> Permit<C, E> {
        loop {
            let lacking = self.lacking.notified();
            let now = Instant::now();
            match self.adjust(|state| state.want(now, thread, jitter)) {
                WarmStep::Dial(id) => return Permit::new(Arc::clone(self), id),
                WarmStep::After(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = lacking => {}
                },
                WarmStep::Nothing => lacking.await,
            }
        }
    }

    /// Waits until there are as many connections as the warm floor wants, or returns at once if there ever were.
    pub async fn warmed(&self) {
        self.until(State::is_warm).await;
    }

    /// True if the warm floor is filled with connections that have lasted for [`PROVEN_AGE`] or carried a request.
    pub fn is_proven(&self, now: Instant) -> bool {
        self.lock().is_proven(now)
    }

    /// Begins the drain: closes all idle connections now, and from now on those that are checked in while no request
    /// waits.
    pub fn drain(&self) {
        self.change(Instant::now(), |operation| operation.drain());
        self.draining.notify_waiters();
    }

    /// Closes all idle connections while the pool keeps on serving; returns their number.
    pub fn flush(&self) -> usize {
        self.change(Instant::now(), |operation| operation.flush())
    }

    /// Closes the idle connections to the addresses for which `lost` is true; those with room beside open streams close
    /// once these have ended.
    pub fn close_idle_to(&self, lost: impl Fn(IpAddr) -> bool) {
        self.change(Instant::now(), |operation| operation.close_idle_to(lost));
    }

    /// Waits until there is a connection in any phase, a dial included.
    pub async fn until_has_connection(&self) {
        self.until(|state| state.census().total() > 0).await;
    }

    /// Doubts the idle connections to an address at which bytes, sent at the time `sent`, were never acknowledged, but
    /// for those that became idle after that time. No request is given a doubted connection, which closes unless
    /// [`Place::trusted`] says within [`PROOF_TIME`] that its peer is alive. Returns the doubted connections.
    pub fn doubt(&self, peer: SocketAddr, sent: Instant, now: Instant) -> Vec<ConnectionId> {
        self.change(now, |operation| operation.doubt(peer, sent))
    }

    /// Closes the older half of the idle connections, because the process is short of sockets; but never the newest
    /// one, and none while other connections are closing.
    pub fn close_older_half(&self) {
        self.change(Instant::now(), |operation| operation.close_older_half());
    }

    /// Ends a drain, so that connections are kept idle again; returns true if there was a drain.
    pub fn resume(&self) -> bool {
        self.adjust(State::resume)
    }

    /// Puts a new generation in force; one that is not newer than the pool's changes nothing. Connections of older ones
    /// close with this reason: the idle ones now, those in use when they are checked in, and dials that finish later at
    /// once; their waiters then dial again. With [`EndReason::Reconfigured`] the pool also forgets all that it learned
    /// of the upstream's idle limit. Returns how many idle ones were closed, and how many are still in use.
    pub fn advance(&self, generation: u64, reason: EndReason, now: Instant) -> Advanced {
        self.change(now, |operation| operation.advance(generation, reason))
    }

    /// Puts new settings in force, and closes only the connections that no longer fit: the idle ones now, those in use
    /// when they are checked in. Waiters get the room and the places that the new settings allow them.
    pub fn reconfigure(&self, settings: Settings, now: Instant) {
        self.change(now, |operation| operation.reconfigure(settings));
    }

    /// Waits until no place under the cap is taken and no request waits.
    pub async fn emptied(&self) {
        self.until(State::is_empty).await;
    }

    /// Waits until the pool is draining and empty.
    pub async fn drained(&self) {
        loop {
            // Most pools never drain: until then no change of the pool wakes the task that waits here.
            let draining = self.draining.notified();
            if self.lock().is_draining() {
                self.until(|state| !state.is_draining() || state.is_empty()).await;
                if self.is_drained() {
                    return;
                }
            } else {
                draining.await;
            }
        }
    }

    /// True if the pool is draining and empty.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lock().is_drained()
    }

    /// Waits until a condition holds, and checks it after each change of the pool.
    async fn until(&self, condition: impl Fn(&State<C, E, Waker>) -> bool) {
        let _watching = Watching::counted_in(&self.watchers);
        loop {
            let changed = self.changed.notified();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Returns the number of connections in each phase, at a cost that does not grow with their number.
    #[must_use]
    pub fn census(&self) -> Census {
        self.lock().census()
    }

    /// Returns the state of the pool at this moment, with a description of each connection.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut snapshot = self.snapshot_with(|state| state.views(now));
        // Sorted after the lock is released, because requests wait for the lock.
        snapshot.connections.sort_unstable_by_key(|view| view.id);
        snapshot
    }

    /// Returns the state of the pool without the connections, at a cost that does not grow with their number.
    #[must_use]
    pub fn counts(&self) -> Snapshot {
        self.snapshot_with(|_| Vec::new())
    }

    /// Returns the state of the pool at this moment, with what `connections` makes of it under the lock as the
    /// descriptions of connections.
    fn snapshot_with(
        &self,
        connections: impl FnOnce(&State<C, E, Waker>) -> Vec<ConnectionView>,
    ) -> Snapshot {
        let state = self.lock();
        Snapshot {
            census: state.census(),
            generation: state.generation(),
            queued: state.queued(),
            doubted: state.doubted(),
            connections: connections(&state),
        }
    }

    /// Returns how long the upstream lets connections be idle, less a margin; `None` if that is not known. The lower of
    /// this and [`Settings::idle_timeout`] is in force.
    pub fn learned(&self) -> Option<Learned> {
        self.lock().learned()
    }

    /// True if the upstream was seen to close idle connections at any time, and so often that a request which cannot be
    /// sent again is given a new connection ([`Reuse::Risky`]).
    pub fn closes_at_any_time(&self) -> bool {
        self.lock().closes_at_any_time()
    }

    /// Returns the counts since the pool was made.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

    /// Counts a checkout, and the time that it was queued if it was, and makes its token.
    fn lease(self: &Arc<Self>, leased: Leased<C>, queued: Option<Duration>) -> Lease<C, E> {
        self.counters.checkouts.increment(leased.reuse);
        if let Some(wait) = queued {
            self.counters.queue_wait.observe(wait);
        }
        Lease::new(Arc::clone(self), leased, queued)
    }

    fn lock(&self) -> MutexGuard<'_, State<C, E, Waker>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Performs an operation under the lock and then, without the lock, does the follow-up work.
    fn change<R>(
        &self,
        now: Instant,
        operation: impl FnOnce(&mut Operation<'_, C, E, Waker>) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let result = self.locked(|state| operation(&mut state.at(now, &mut effects)));
        self.follow_up(effects);
        self.tell_watchers();
        result
    }

    /// Changes the state under the lock in a way that leaves no follow-up work.
    fn adjust<R>(&self, adjustment: impl FnOnce(&mut State<C, E, Waker>) -> R) -> R {
        let result = self.locked(adjustment);
        self.tell_watchers();
        result
    }

    /// Changes the state under the lock, and wakes the task that dials for the warm floor if a connection is missing
    /// now.
    fn locked<R>(&self, change: impl FnOnce(&mut State<C, E, Waker>) -> R) -> R {
        let mut state = self.lock();
        let result = change(&mut state);
        let lacking = state.reports_shortage();
        drop(state);
        if lacking {
            self.lacking.notify_one();
        }
        result
    }

    /// Does the work that an operation left: drops handles, which closes their connections, wakes waiters, has
    /// [`Pool::maintain`] look at its deadline again, and reports ended connections. The lock must be free.
    fn follow_up(&self, effects: Effects<C, Waker>) {
        let Effects { wake, close, ended, rearm } = effects;
        drop(close);
        wake.into_iter().for_each(Waker::wake);
        if rearm {
            self.rearmed.notify_one();
        }
        for connection in &ended {
            self.report(connection);
        }
    }

    fn tell_watchers(&self) {
        if self.watchers.load(Relaxed) > 0 {
            self.changed.notify_waiters();
        }
    }

    /// Counts an ended connection by its reason, and writes the line about it to the log, if lines of connections are
    /// wanted and the log admits one more.
    fn report(&self, ended: &Ended) {
        self.counters.closed.increment(ended.reason);
        let wanted = tracing::enabled!(target: "warmline::connection", tracing::Level::INFO);
        if !wanted || !log::admits(log::Line::Ordinary) {
            return;
        }
        tracing::info!(
            target: "warmline::connection",
            upstream = %self.name,
            conn = ended.id,
            uses = ended.uses,
            age = seconds(ended.age),
            reason = %ended.reason,
            by = %ended.end.by,
            how = %ended.end.how,
            "connection ended"
        );
    }
}

/// The result of a checkout that was not refused.
pub enum Checkout<C: Clone, E> {
    /// A connection for one exchange.
    Leased(Lease<C, E>),
    /// A place among the waiters.
    Waits(Waiter<C, E>),
}
