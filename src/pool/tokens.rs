//! The tokens that a pool hands out. Each stands for something that is counted, and gives it back on drop.

use std::{
    net::SocketAddr,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    ClientId, ConnectionId, End, EndReason, KeepAlive, Pool, Rejection, Reuse,
    state::{Collected, Dialled, Leased, WaiterId},
};
use crate::telemetry::ends::{Manner, Side};

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
    /// It stands at the cap again: its dial was of no use. [`Waiter::is_queued`], and `queueTimeout` concerns it.
    Queued,
    /// The waiter's own dial failed; `None` when it was dropped half-way.
    Failed(Option<E>),
}

impl<C, E> Waiter<C, E> {
    pub(super) fn new(pool: Arc<Pool<C, E>>, id: WaiterId, thread: usize) -> Self {
        Self { pool, id, thread, left: false }
    }

    /// The next thing to do. After [`Step::Leased`] and [`Step::Failed`] there is none.
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<Step<C, E>> {
        let waker = cx.waker().clone();
        let collected = self.pool.change(|state, _| state.collect(self.id, self.thread, waker));
        match collected {
            Collected::Nothing => Poll::Pending,
            Collected::Queued => Poll::Ready(Step::Queued),
            Collected::Dial(id) => Poll::Ready(Step::Dial(Permit::new(Arc::clone(&self.pool), id))),
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
        let now = Instant::now();
        let queued = self.pool.change(|state, _| state.time_out(self.id, now));
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
    pub(super) fn new(pool: Arc<Pool<C, E>>, id: ConnectionId) -> Self {
        Self { pool, id, used: false }
    }

    /// The name that the connection will have.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// The dial succeeded: the handle goes to the oldest waiter, or is kept. `generation` is the one under whose
    /// identity and trust it shook hands: if the pool is further by now, the connection closes. `jitter` is in 0.0..1.0.
    #[must_use]
    pub fn established(
        mut self,
        handle: C,
        generation: u64,
        peer: SocketAddr,
        now: Instant,
        jitter: f64,
    ) -> Place<C, E> {
        self.used = true;
        self.pool.counters.opened.increment();
        let id = self.id;
        let dialled = Dialled { generation, peer, now, jitter };
        self.pool.change(|state, effects| state.established(id, handle, dialled, effects));
        Place { pool: Arc::clone(&self.pool), id, free: false }
    }

    /// Takes a place for one more socket, for a dial that tries several addresses at once.
    pub fn spare(&self) -> Option<Spare<C, E>> {
        let now = Instant::now();
        let id = self.pool.change(|state, _| state.spare(now))?;
        Some(Spare { pool: Arc::clone(&self.pool), id })
    }

    /// The dial failed.
    pub fn failed(mut self, error: E, now: Instant) {
        self.fail(Some(error), now);
    }

    /// The dial failed, and its socket is still open: the waiter is told at once, and the place stays taken until the
    /// returned token is dropped.
    #[must_use]
    pub fn failed_open(mut self, error: E, now: Instant) -> FailedDial<C, E> {
        self.used = true;
        let id = self.id;
        self.pool.change(|state, effects| state.dial_failed_open(id, error, now, effects));
        FailedDial { pool: Arc::clone(&self.pool), id }
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

/// A failed dial's place under the cap; whoever closes the socket drops it once that is done.
pub struct FailedDial<C, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
}

impl<C, E> Drop for FailedDial<C, E> {
    fn drop(&mut self) {
        let (id, now) = (self.id, Instant::now());
        self.pool.change(|state, effects| state.place_given_back(id, now, effects));
    }
}

/// A place under the cap for one more socket of a dial; whoever owns the socket holds it until the socket is closed.
pub struct Spare<C, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
}

impl<C, E> Drop for Spare<C, E> {
    fn drop(&mut self) {
        let (id, now) = (self.id, Instant::now());
        self.pool.change(|state, effects| state.place_given_back(id, now, effects));
    }
}

/// An established connection's place under the cap; whoever owns the socket holds it until the socket is closed.
pub struct Place<C, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
    free: bool,
}

impl<C, E> Place<C, E> {
    /// HTTP on the connection is over, ended by this side; the socket is about to be closed. No lease begins any more.
    pub fn closing(&self, by: Side, now: Instant) {
        self.pool.change(|state, effects| state.socket_closing(self.id, by, now, effects));
    }

    /// Ends the doubt about the connection ([`Pool::doubt`]), whose peer is alive: it may be leased again.
    pub fn trusted(&self, now: Instant) {
        self.pool.change(|state, effects| state.trust(self.id, now, effects));
    }

    /// Whether nobody has leased it yet.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.pool.lock().is_unused(self.id)
    }

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
    pub(super) fn new(pool: Arc<Pool<C, E>>, leased: Leased<C>, queued: Option<Duration>) -> Self {
        let Leased { id, handle, uses, age, reuse } = leased;
        Self { id, uses, age, reuse, queued, pool, handle: Some(handle) }
    }

    /// The connection.
    pub fn handle(&mut self) -> &mut C {
        self.handle.as_mut().expect("a lease holds its handle until it ends")
    }

    /// Makes the connection the property of this client, which authenticated itself on it. No one else may take it, and it closes once
    /// [`Pool::client_left`] says that the client is gone.
    pub fn claim(&self, client: ClientId) {
        self.pool.change(|state, _| state.claim(self.id, client));
    }

    /// Goes on with another request of the same client; false if the connection has ended meanwhile.
    pub fn again(&mut self, now: Instant) -> bool {
        let again = self.pool.change(|state, _| state.lease_again(self.id, now));
        if let Some((uses, age)) = again {
            (self.uses, self.age, self.reuse, self.queued) = (uses, age, Reuse::Reused, None);
            self.pool.counters.checkouts.increment(Reuse::Reused);
        }
        again.is_some()
    }

    /// The exchange is over and the connection fit for another; `hint` is what its response's `Keep-Alive` announced.
    pub fn check_in(mut self, now: Instant, hint: Option<KeepAlive>) {
        if let Some(handle) = self.handle.take() {
            let id = self.id;
            self.pool.change(|state, effects| state.check_in(id, handle, hint, now, effects));
        }
    }

    /// The peer may have ended it for the exchange's sake: nothing is learned of how long it lets connections be idle.
    pub fn teaches_nothing(&self) {
        self.pool.change(|state, _| state.teaches_nothing(self.id));
    }

    /// The connection must not be used again.
    pub fn discard(mut self, reason: EndReason) {
        self.end(reason);
    }

    fn end(&mut self, reason: EndReason) {
        if let Some(handle) = self.handle.take() {
            let (id, now) = (self.id, Instant::now());
            self.pool.change(|state, effects| state.discard(id, reason, now, effects));
            drop(handle);
        }
    }
}

impl<C, E> Drop for Lease<C, E> {
    fn drop(&mut self) {
        self.end(EndReason::Unfit);
    }
}
