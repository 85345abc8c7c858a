//! One upstream's connections: a strict cap, one queue, idle ones kept by the purge rule (design, sections 2 and 4).
//!
//! [`state`] decides, purely; this file puts it under a lock, wakes and closes once the lock is released, and hands
//! out the [`tokens`]. A [`Permit`] is the right to dial, a [`Place`] lasts as long as the socket, a [`Lease`] as long as
//! the exchange, a [`Waiter`] until it has one. Each gives back on drop what it stands for.

mod connections;
mod idle;
mod ids;
mod learned;
mod pace;
mod purge;
mod reasons;
mod refill;
mod sharing;
pub mod state;
#[cfg(test)]
mod tests;
mod tokens;
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
pub use state::{Advanced, Census, ConnectionId, PROOF, PROOF_TIME};
use state::{Effects, Ended, Found, Leased, State, Wanted};
pub use tokens::{FailedDial, Lease, Permit, Place, Spare, Step, Waiter};

use crate::telemetry::{
    Counter, Histogram, Tally,
    ends::{Manner, Side},
    log::{self, seconds},
};

/// A pool's numbers, validated; the design's section 2 says what each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Who may take a used connection.
    pub sharing: Sharing,
    /// The strict cap: connecting, in use, idle and closing together. At least 1.
    pub max_connections: usize,
    /// How many may be idle; `None` is unlimited, 0 keeps none.
    pub max_idle: Option<usize>,
    /// How many are kept idle, or dialled if need be; above [`Settings::max_idle`], below the cap. 0 keeps none warm.
    pub min_idle: usize,
    /// The period of the purge rule; zero keeps none idle.
    pub purge_delay: Duration,
    /// How long one may be idle; zero: no limit.
    pub idle_timeout: Duration,
    /// How old one may become, before jitter; zero: no limit.
    pub max_age: Duration,
    /// Requests per connection; `None` is unlimited.
    pub max_requests: Option<NonZeroU64>,
    /// How many may wait without a dial of their own.
    pub max_queue: usize,
    /// How long one may wait without a dial of its own.
    pub queue_timeout: Duration,
}

/// How a connection's socket ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Who ended it.
    pub by: Side,
    /// How.
    pub how: Manner,
}

/// A connection's phase, as people see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectionPhase {
    /// Being dialled.
    Connecting,
    /// Leased.
    Active,
    /// Ready.
    Idle,
    /// Being closed politely.
    Closing,
}

/// A connection, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionView {
    /// Its name within the pool.
    pub id: ConnectionId,
    /// Its phase.
    pub phase: ConnectionPhase,
    /// Since it was established, or since its dial began.
    pub age: Duration,
    /// Requests so far.
    pub uses: u64,
    /// The address behind it, once established.
    pub peer: Option<SocketAddr>,
    /// Under which generation it shook hands; 0 before.
    pub generation: u64,
    /// The thread that dials and drives it.
    pub thread: usize,
    /// Why its last checkout did, or did not, reuse.
    pub last_reuse: Option<Reuse>,
}

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections by phase.
    pub census: Census,
    /// Connections of older generations than this are not leased any more.
    pub generation: u64,
    /// Waiters at the cap, without a dial.
    pub queued: usize,
    /// Idle connections that no one is given until their peers are proven alive.
    pub doubted: usize,
    /// Each connection, oldest first.
    pub connections: Vec<ConnectionView>,
}

/// What the pool has counted.
#[derive(Debug)]
pub struct Counters {
    /// Connections established.
    pub opened: Counter,
    /// Connections gone, by reason.
    pub closed: Tally<EndReason>,
    /// Leases handed out, by why they reuse or do not.
    pub checkouts: Tally<Reuse>,
    /// Checkouts refused.
    pub rejections: Tally<Rejection>,
    /// How long waiters stood at the cap.
    pub queue_wait: Histogram,
}

/// One upstream's pool. `C` is a connection's handle: dropping it closes the connection. `E` is why a dial failed.
pub struct Pool<C, E> {
    name: String,
    state: Mutex<State<C, E, Waker>>,
    counters: Counters,
    /// [`Pool::maintain`] must look at its deadline again.
    rearmed: Notify,
    /// [`Pool::wanted`] must look whether the warm floor lacks a connection.
    lacking: Notify,
    /// A connection or a waiter may have come or gone.
    changed: Notify,
    /// The number of tasks that wait for `changed`. Without any, a request takes no lock of tokio to wake none. Each is
    /// counted before it takes the state's lock, so that whoever changes the state after its look counts it.
    watchers: AtomicUsize,
}

/// A task's part of [`Pool`]'s count of watchers.
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

impl<C, E> Pool<C, E> {
    /// An empty pool for threads 0 up to, not including, `threads`; the name appears in log lines.
    #[must_use]
    pub fn new(name: &str, settings: Settings, threads: usize) -> Arc<Self> {
        let counters = Counters {
            opened: Counter::default(),
            closed: Tally::default(),
            checkouts: Tally::default(),
            rejections: Tally::default(),
            queue_wait: Histogram::new(&[1_000, 5_000, 25_000, 100_000, 500_000, 2_500_000]),
        };
        Arc::new(Self {
            name: name.to_owned(),
            state: Mutex::new(State::new(settings, threads)),
            counters,
            rearmed: Notify::new(),
            lacking: Notify::new(),
            changed: Notify::new(),
            watchers: AtomicUsize::new(0),
        })
    }

    /// Takes an idle connection, or a place in the queue.
    pub fn check_out(
        self: &Arc<Self>,
        now: Instant,
        ask: Ask,
    ) -> Result<Checkout<C, E>, Rejection> {
        match self.change(|state, effects| state.check_out(now, ask, effects)) {
            Ok(Found::Leased(leased)) => Ok(Checkout::Leased(self.lease(leased, None))),
            Ok(Found::Waits(id)) => {
                Ok(Checkout::Waits(Waiter::new(Arc::clone(self), id, ask.thread)))
            }
            Err(rejection) => {
                self.counters.rejections.increment(rejection);
                Err(rejection)
            }
        }
    }

    /// A client connection is gone: what belongs to it closes, if in use once that is over. That is what it used with
    /// [`Sharing::Never`], and what it claimed ([`Lease::claim`]). A dial that it leaves behind is anybody's.
    pub fn client_left(&self, client: ClientId) {
        self.change(|state, effects| state.client_left(client, effects));
    }

    /// Purges and closes what is due, for as long as it is polled.
    pub async fn maintain(&self) {
        loop {
            let rearmed = self.rearmed.notified();
            let now = Instant::now();
            match self.change(|state, effects| state.tick(now, effects)) {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = rearmed => {}
                },
                None => rearmed.await,
            }
        }
    }

    /// Waits until the warm floor lacks a connection, and gives the right to dial it; for one caller at a time, that
    /// asks again at once. While dials fail, or their connections end at once, the next comes later and later.
    /// `thread` will dial, `jitter` is in 0.0..1.0.
    pub async fn wanted(self: &Arc<Self>, thread: usize, jitter: f64) -> Permit<C, E> {
        loop {
            let lacking = self.lacking.notified();
            let now = Instant::now();
            match self.change(|state, _| state.want(now, thread, jitter)) {
                Wanted::Dial(id) => return Permit::new(Arc::clone(self), id),
                Wanted::After(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = lacking => {}
                },
                Wanted::Nothing => lacking.await,
            }
        }
    }

    /// Waits until as many connections as the warm floor wants were there at once.
    pub async fn warmed(&self) {
        self.comes_to(State::is_warm).await;
    }

    /// Whether as many are there now that have lasted for [`PROOF`] or carried a request.
    pub fn is_proven(&self, now: Instant) -> bool {
        self.lock().is_proven(now)
    }

    /// The end has begun: closes what is idle, and from now on what is checked in while nobody waits.
    pub fn drain(&self) {
        self.change(State::drain);
    }

    /// Closes what is idle, and keeps on serving; says how many those are.
    pub fn flush(&self) -> usize {
        self.change(State::flush)
    }

    /// Closes what is idle to addresses that are lost.
    pub fn close_idle_to(&self, lost: impl Fn(IpAddr) -> bool) {
        self.change(|state, effects| state.close_idle_to(lost, effects));
    }

    /// Waits until there is a connection.
    pub async fn inhabited(&self) {
        self.comes_to(|state| state.census().total() > 0).await;
    }

    /// Doubts the idle connections to an address at which bytes that were sent at that time were never acknowledged. No one is
    /// given one of them that has carried nothing since, unless [`Place::trusted`] says within [`PROOF_TIME`] that its peer
    /// is alive. Names those connections.
    pub fn doubt(&self, peer: SocketAddr, sent: Instant, now: Instant) -> Vec<ConnectionId> {
        self.change(|state, effects| state.doubt(peer, sent, now, effects))
    }

    /// Sockets are short: closes the older half of what is idle, but not the newest, and nothing while others are closing.
    pub fn relieve(&self) {
        self.change(State::relieve);
    }

    /// Takes the end back; true if one had begun.
    pub fn resume(&self) -> bool {
        self.change(|state, _| state.resume())
    }

    /// A new generation: connections of older ones close with this reason, the idle ones now, those in use when they
    /// are checked in; so do dials of older ones that finish later, and the waiter dials again.
    pub fn advance(&self, generation: u64, reason: EndReason, now: Instant) -> Advanced {
        self.change(|state, effects| state.advance(generation, reason, now, effects))
    }

    /// Other numbers, from now on; closes only what they leave no room for.
    pub fn reconfigure(&self, settings: Settings, now: Instant) {
        self.change(|state, effects| state.reconfigure(settings, now, effects));
    }

    /// Waits until no connection is left and nobody waits.
    pub async fn emptied(&self) {
        self.comes_to(State::is_empty).await;
    }

    /// Waits until it was drained and nothing is left.
    pub async fn drained(&self) {
        self.comes_to(State::is_drained).await;
    }

    /// Whether it was drained and nothing is left.
    #[must_use]
    pub fn is_drained(&self) -> bool {
        self.lock().is_drained()
    }

    async fn comes_to(&self, condition: impl Fn(&State<C, E, Waker>) -> bool) {
        let _watching = Watching::counted_in(&self.watchers);
        loop {
            let changed = self.changed.notified();
            if condition(&self.lock()) {
                return;
            }
            changed.await;
        }
    }

    /// Connections by phase, without a look at each.
    #[must_use]
    pub fn census(&self) -> Census {
        self.lock().census()
    }

    /// What there is at this moment.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let mut snapshot = self.snapshot_with(|state| state.views(now));
        // Without the lock, which requests want.
        snapshot.connections.sort_unstable_by_key(|view| view.id);
        snapshot
    }

    /// The same without the connections, at a price that does not grow with their number.
    #[must_use]
    pub fn counts(&self) -> Snapshot {
        self.snapshot_with(|_| Vec::new())
    }

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

    /// How long the upstream lets connections be idle, less a margin, as far as it is known. The lower of this and
    /// [`Settings::idle_timeout`] is in force.
    pub fn learned(&self) -> Option<Learned> {
        self.lock().learned()
    }

    /// Whether the upstream was seen to close idle connections so often, and at any time, that requests which could not
    /// be sent again get new ones ([`Reuse::Risky`]).
    pub fn closes_at_any_time(&self) -> bool {
        self.lock().closes_at_any_time()
    }

    /// What was counted so far.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }

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

    /// Changes the state under the lock, then, without it, does what follows from the change.
    fn change<R>(
        &self,
        operation: impl FnOnce(&mut State<C, E, Waker>, &mut Effects<C, Waker>) -> R,
    ) -> R {
        let mut effects = Effects::default();
        let mut state = self.lock();
        let result = operation(&mut state, &mut effects);
        let lacking = state.tells_of_lack();
        drop(state);
        if lacking {
            self.lacking.notify_one();
        }
        self.follow_up(effects);
        result
    }

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
        if self.watchers.load(Relaxed) > 0 {
            self.changed.notify_waiters();
        }
    }

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

/// What a checkout gives.
pub enum Checkout<C, E> {
    /// A connection.
    Leased(Lease<C, E>),
    /// A place in the queue.
    Waits(Waiter<C, E>),
}
