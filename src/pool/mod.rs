//! One upstream's connections: a strict cap, one queue, idle ones kept by the purge rule (design, sections 2 and 4).
//!
//! [`state`] decides, purely; this file puts it under a lock, wakes and closes once the lock is released, and hands
//! out the tokens. A [`Permit`] is the right to dial, a [`Place`] lasts as long as the socket, a [`Lease`] as long as
//! the exchange, a [`Waiter`] until it has one. Each gives back on drop what it stands for.

mod connections;
mod idle;
mod purge;
pub mod state;
mod waiters;

use std::{
    net::SocketAddr,
    num::NonZeroU64,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use tokio::sync::Notify;

use crate::{
    label,
    telemetry::{
        Counter, Histogram, Tally,
        ends::{Manner, Side},
    },
};
pub use state::{Census, ConnectionId};
use state::{Collected, Effects, Ended, Found, Leased, State, WaiterId};

/// A pool's numbers, validated; the design's section 2 says what each does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The strict cap: connecting, in use, idle and closing together. At least 1.
    pub max_connections: usize,
    /// How many may be idle; `None` is unlimited, 0 keeps none.
    pub max_idle: Option<usize>,
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

label! {
    /// Why a connection left the pool.
    pub enum EndReason {
        /// Older than `maxAge`, less the jitter.
        Aged = "aged",
        /// Carried `maxRequests`.
        Requests = "requests",
        /// Idle for `idleTimeout`.
        Idle = "idle",
        /// By the purge rule, `maxIdle`, or to make room for a retry.
        Purged = "purged",
        /// The upstream ended it while it was idle.
        PeerClosed = "peer-closed",
        /// Not reusable by the rules of HTTP, or its exchange broke.
        Unfit = "unfit",
        /// Found dead when a request was sent on it.
        Stale = "stale",
        /// Its address is no longer in the name's newest answer.
        Moved = "moved",
        /// Warmline is ending.
        Drained = "drained",
    }
}

label! {
    /// Why a checkout reused a connection, or did not.
    pub enum Reuse {
        /// An idle connection, or one that was just checked in.
        Reused = "reused",
        /// New: reuse was forbidden (a retry).
        Policy = "policy",
        /// New: waited at the cap, then dialled in a freed place.
        Cap = "cap",
        /// New: connections existed, none was idle.
        Busy = "busy",
        /// New: the last one had become too old.
        Aged = "aged",
        /// New: the last one had carried its requests.
        Requests = "requests",
        /// New: the last one had been idle for too long.
        Idle = "idle",
        /// New: the last one was purged.
        Purged = "purged",
        /// New: the upstream had ended the last one.
        PeerClosed = "peer-closed",
        /// New: the last one was not reusable.
        Unfit = "unfit",
        /// New: the last one was found dead at use.
        Stale = "stale",
        /// New: the last one's address was gone from the name's answer.
        Moved = "moved",
        /// New: Warmline is ending and closes what comes back.
        Drained = "drained",
        /// New: there never was one.
        First = "first",
    }
}

impl EndReason {
    /// The same reason, as what it makes of the next checkout.
    const fn as_reuse(self) -> Reuse {
        match self {
            Self::Aged => Reuse::Aged,
            Self::Requests => Reuse::Requests,
            Self::Idle => Reuse::Idle,
            Self::Purged => Reuse::Purged,
            Self::PeerClosed => Reuse::PeerClosed,
            Self::Unfit => Reuse::Unfit,
            Self::Stale => Reuse::Stale,
            Self::Moved => Reuse::Moved,
            Self::Drained => Reuse::Drained,
        }
    }
}

label! {
    /// Why a checkout was refused.
    pub enum Rejection {
        /// `maxQueue` waiters stand at the cap already.
        QueueFull = "queue-full",
        /// It stood at the cap for `queueTimeout`.
        QueueTimeout = "queue-timeout",
    }
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
    /// Why its last checkout did, or did not, reuse.
    pub last_reuse: Option<Reuse>,
}

/// A pool at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Connections by phase.
    pub census: Census,
    /// Waiters at the cap, without a dial.
    pub queued: usize,
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
    /// A connection or a waiter may be gone.
    ended: Notify,
}

impl<C, E> Pool<C, E> {
    /// An empty pool for this many threads; the name appears in log lines.
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
            ended: Notify::new(),
        })
    }

    /// Takes an idle connection, or a place in the queue. `fresh` takes no used connection (a retry).
    pub fn check_out(
        self: &Arc<Self>,
        now: Instant,
        thread: usize,
        fresh: bool,
    ) -> Result<Checkout<C, E>, Rejection> {
        let found = self.change(|state, effects| state.check_out(now, thread, fresh, effects));
        match found {
            Ok(Found::Leased(leased)) => Ok(Checkout::Leased(self.lease(leased, None))),
            Ok(Found::Waits(id)) => {
                Ok(Checkout::Waits(Waiter { pool: Arc::clone(self), id, thread, left: false }))
            }
            Err(rejection) => {
                self.counters.rejections.increment(rejection);
                Err(rejection)
            }
        }
    }

    /// Purges and closes what is due, for as long as it is polled.
    pub async fn maintain(&self) {
        loop {
            let rearmed = self.rearmed.notified();
            let now = Instant::now();
            let deadline = self.change(|state, effects| {
                state.tick(now, effects);
                state.next_deadline()
            });
            match deadline {
                Some(at) => tokio::select! {
                    () = tokio::time::sleep_until(at.into()) => {}
                    () = rearmed => {}
                },
                None => rearmed.await,
            }
        }
    }

    /// The end has begun: closes what is idle, and from now on whatever is checked in.
    pub fn drain(&self) {
        self.change(State::drain);
    }

    /// Waits until no connection is left and nobody waits.
    pub async fn emptied(&self) {
        loop {
            let ended = self.ended.notified();
            if self.lock().is_empty() {
                return;
            }
            ended.await;
        }
    }

    /// What there is at this moment.
    #[must_use]
    pub fn snapshot(&self, now: Instant) -> Snapshot {
        let state = self.lock();
        Snapshot { census: state.census(), queued: state.queued(), connections: state.views(now) }
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
        Lease {
            id: leased.id,
            uses: leased.uses,
            age: leased.age,
            reuse: leased.reuse,
            queued,
            pool: Arc::clone(self),
            handle: Some(leased.handle),
        }
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
        let result = operation(&mut self.lock(), &mut effects);
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
        self.ended.notify_waiters();
    }

    fn report(&self, ended: &Ended) {
        self.counters.closed.increment(ended.reason);
        tracing::info!(
            target: "warmline::connection",
            upstream = %self.name,
            conn = ended.id,
            uses = ended.uses,
            age = ?ended.age,
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

/// A place in the queue; dropping it leaves the queue.
pub struct Waiter<C, E> {
    pool: Arc<Pool<C, E>>,
    id: WaiterId,
    thread: usize,
    /// It has its outcome, and is no longer in the queue.
    left: bool,
}

/// What a waiter is told.
pub enum Step<C, E> {
    /// Dial, in this place; then go on waiting: the connection may go to another, and another's may come here.
    Dial(Permit<C, E>),
    /// Here it is.
    Leased(Lease<C, E>),
    /// The waiter's own dial failed; `None` when it was dropped half-way.
    Failed(Option<E>),
}

impl<C, E> Waiter<C, E> {
    /// The next thing to do. After [`Step::Leased`] and [`Step::Failed`] there is none.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step<C, E>> {
        let waker = cx.waker().clone();
        let collected = self.pool.change(|state, _| state.collect(self.id, self.thread, waker));
        match collected {
            Collected::Nothing => Poll::Pending,
            Collected::Dial(id) => {
                Poll::Ready(Step::Dial(Permit { pool: Arc::clone(&self.pool), id, used: false }))
            }
            Collected::Leased(leased, queued) => {
                self.left = true;
                Poll::Ready(Step::Leased(self.pool.lease(leased, queued)))
            }
            Collected::Failed(error) => {
                self.left = true;
                Poll::Ready(Step::Failed(error))
            }
        }
    }

    /// Whether it stands at the cap without a dial, so that `queueTimeout` concerns it.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.pool.lock().is_queued(self.id)
    }

    /// `queueTimeout` is over: if it still stands at the cap it leaves, and is told so.
    pub fn time_out(&mut self) -> Option<Rejection> {
        let queued = self.pool.change(|state, _| state.time_out(self.id));
        queued.then(|| {
            self.left = true;
            self.pool.counters.rejections.increment(Rejection::QueueTimeout);
            Rejection::QueueTimeout
        })
    }
}

impl<C, E> Drop for Waiter<C, E> {
    fn drop(&mut self) {
        if !self.left {
            let now = Instant::now();
            self.pool.change(|state, effects| state.abandon(self.id, now, effects));
        }
    }
}

/// The right to dial one connection: it counts as connecting. Dropped unused, it has failed.
pub struct Permit<C, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
    used: bool,
}

impl<C, E> Permit<C, E> {
    /// The name that the connection will have.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The dial succeeded: the handle goes to the oldest waiter, or is kept. `jitter` is in 0.0..1.0.
    #[must_use]
    pub fn established(
        mut self,
        handle: C,
        peer: SocketAddr,
        now: Instant,
        jitter: f64,
    ) -> Place<C, E> {
        self.used = true;
        self.pool.counters.opened.increment();
        let id = self.id;
        self.pool.change(|state, effects| {
            state.established(id, handle, peer, now, jitter, effects);
        });
        Place { pool: Arc::clone(&self.pool), id, free: false }
    }

    /// The dial failed.
    pub fn failed(mut self, error: E, now: Instant) {
        self.fail(Some(error), now);
    }

    fn fail(&mut self, error: Option<E>, now: Instant) {
        self.used = true;
        let id = self.id;
        self.pool.change(|state, effects| state.dial_failed(id, error, now, effects));
    }
}

impl<C, E> Drop for Permit<C, E> {
    fn drop(&mut self) {
        if !self.used {
            self.fail(None, Instant::now());
        }
    }
}

/// An established connection's place under the cap; whoever owns the socket holds it until the socket is closed.
pub struct Place<C, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
    free: bool,
}

impl<C, E> Place<C, E> {
    /// The socket is closed.
    pub fn socket_ended(mut self, end: End, now: Instant) {
        self.give_back(end, now);
    }

    fn give_back(&mut self, end: End, now: Instant) {
        self.free = true;
        let id = self.id;
        self.pool.change(|state, effects| state.socket_ended(id, end, now, effects));
    }
}

impl<C, E> Drop for Place<C, E> {
    fn drop(&mut self) {
        if !self.free {
            self.give_back(End { by: Side::Us, how: Manner::Reset }, Instant::now());
        }
    }
}

/// A connection for one exchange. It ends in one of three ways: checked in, discarded (also by drop), pool gone.
pub struct Lease<C, E> {
    /// The connection's name within its pool.
    pub id: ConnectionId,
    /// Uses, this one included.
    pub uses: u64,
    /// Since it was established.
    pub age: Duration,
    /// Why it is, or is not, a reused one.
    pub reuse: Reuse,
    /// How long the waiter stood at the cap.
    pub queued: Option<Duration>,
    pool: Arc<Pool<C, E>>,
    /// `None` once the lease has ended.
    handle: Option<C>,
}

impl<C, E> Lease<C, E> {
    /// The connection.
    pub fn handle(&mut self) -> &mut C {
        self.handle.as_mut().expect("a lease holds its handle until it ends")
    }

    /// The exchange is over and the connection fit for another.
    pub fn check_in(mut self, now: Instant) {
        if let Some(handle) = self.handle.take() {
            let id = self.id;
            self.pool.change(|state, effects| state.check_in(id, handle, now, effects));
        }
    }

    /// The connection must not be used again.
    pub fn discard(mut self, reason: EndReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: EndReason) {
        if let Some(handle) = self.handle.take() {
            let id = self.id;
            self.pool.change(|state, effects| state.discard(id, reason, effects));
            drop(handle);
        }
    }
}

impl<C, E> Drop for Lease<C, E> {
    fn drop(&mut self) {
        self.end(EndReason::Unfit);
    }
}
