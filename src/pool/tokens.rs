//! The tokens that a pool hands out: each for a place, a dial or a lease that the pool counts until the token is
//! dropped.

use std::{
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use super::{
    ClientId, ConnectionId, End, EndReason, Pool, Rejection, Reuse, Verdict,
    state::{Collected, Dialled, Leased, WaiterId},
};
use crate::telemetry::ends::{Manner, Side};

/// A request's place among the waiters; the drop of the token leaves the queue.
pub struct Waiter<C: Clone, E> {
    pool: Arc<Pool<C, E>>,
    id: WaiterId,
    thread: usize,
    /// True if the waiter has collected its outcome, or timed out, and so has left the pool.
    left: bool,
}

/// The next step for the task that holds a [`Waiter`].
pub enum WaiterStep<C: Clone, E> {
    /// The order to dial in this place, and to poll on meanwhile: the waiter may get another connection than the one it
    /// dials.
    Dial(Permit<C, E>),
    /// The waiter's connection.
    Leased(Lease<C, E>),
    /// The loss of the waiter's dial, which brought it nothing: [`Waiter::is_queued`] is true, and `queueTimeout`
    /// applies.
    Queued,
    /// The failure of the waiter's own dial, which it may have in common with other waiters; `None` if the dial was
    /// dropped before its end.
    Failed(Option<Arc<E>>),
}

impl<C: Clone, E> Waiter<C, E> {
    pub(super) fn new(pool: Arc<Pool<C, E>>, id: WaiterId, thread: usize) -> Self {
        Self { pool, id, thread, left: false }
    }

    /// Returns the waiter's next step. Must not be called again after [`WaiterStep::Leased`] or [`WaiterStep::Failed`].
    pub fn poll_step(&mut self, cx: &mut Context<'_>) -> Poll<WaiterStep<C, E>> {
        let waker = cx.waker().clone();
        let collected = self.pool.adjust(|state| state.collect(self.id, self.thread, waker));
        match collected {
            Collected::Nothing => Poll::Pending,
            Collected::Queued => Poll::Ready(WaiterStep::Queued),
            Collected::Dial(id) => {
                Poll::Ready(WaiterStep::Dial(Permit::new(Arc::clone(&self.pool), id)))
            }
            Collected::Leased(leased, queued) => {
                self.left = true;
                Poll::Ready(WaiterStep::Leased(self.pool.lease(leased, queued)))
            }
            Collected::Failed(error) => {
                self.left = true;
                Poll::Ready(WaiterStep::Failed(error))
            }
        }
    }

    /// True if the waiter is queued: at the cap, without a dial, so that `queueTimeout` applies.
    #[must_use]
    pub fn is_queued(&self) -> bool {
        self.pool.lock().is_queued(self.id)
    }

    /// Ends the wait because `queueTimeout` is over, if the waiter is still queued; `None` if it is not, and waits on.
    pub fn time_out(&mut self) -> Option<Rejection> {
        let now = Instant::now();
        let queued = self.pool.adjust(|state| state.time_out(self.id, now));
        queued.then(|| {
            self.left = true;
            self.pool.counters.rejections.increment(Rejection::QueueTimeout);
            Rejection::QueueTimeout
        })
    }
}

impl<C: Clone, E> Drop for Waiter<C, E> {
    fn drop(&mut self) {
        if !self.left {
            let now = Instant::now();
            self.pool.change(now, |operation| operation.abandon(self.id));
        }
    }
}

/// The right to dial one connection, which counts as connecting. The drop of an unused permit is a failed dial.
pub struct Permit<C: Clone, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
    used: bool,
}

impl<C: Clone, E> Permit<C, E> {
    pub(super) fn new(pool: Arc<Pool<C, E>>, id: ConnectionId) -> Self {
        Self { pool, id, used: false }
    }

    /// Returns the id that the connection will have.
    #[must_use]
    pub fn id(&self) -> ConnectionId {
        self.id
    }

    /// Ends a dial that succeeded: the connection goes to the first waiters, or is kept idle. If the pool has a newer
    /// generation, the connection closes.
    #[must_use]
    pub fn established(mut self, handle: C, dialled: Dialled, now: Instant) -> Place<C, E> {
        self.used = true;
        self.pool.counters.opened.increment();
        let id = self.id;
        self.pool.change(now, |operation| operation.established(id, handle, dialled));
        Place { pool: Arc::clone(&self.pool), id, free: false }
    }

    /// Takes a place for one more socket of a dial that tries several addresses at once; `None` if no place is free.
    pub fn spare(&self) -> Option<Spare<C, E>> {
        let now = Instant::now();
        let id = self.pool.adjust(|state| state.spare(now))?;
        Some(Spare { pool: Arc::clone(&self.pool), id })
    }

    /// Ends a dial that failed, and frees its place. The waiters for which the dial began get the error.
    pub fn failed(mut self, error: E, now: Instant) {
        self.fail(Some(error), now);
    }

    /// Ends a dial that failed while its socket is still open. Its waiters get the error at once, but the place stays
    /// taken until the returned token is dropped.
    #[must_use]
    pub fn failed_open(mut self, error: E, now: Instant) -> FailedDial<C, E> {
        self.used = true;
        let id = self.id;
        self.pool.change(now, |operation| operation.dial_failed_open(id, error));
        FailedDial { pool: Arc::clone(&self.pool), id }
    }

    fn fail(&mut self, error: Option<E>, now: Instant) {
        self.used = true;
        let id = self.id;
        self.pool.change(now, |operation| operation.dial_failed(id, error));
    }
}

impl<C: Clone, E> Drop for Permit<C, E> {
    fn drop(&mut self) {
        if !self.used {
            self.fail(None, Instant::now());
        }
    }
}

/// The place of a failed dial under the cap; the task that closes the socket drops the token afterwards.
pub struct FailedDial<C: Clone, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
}

impl<C: Clone, E> Drop for FailedDial<C, E> {
    fn drop(&mut self) {
        let (id, now) = (self.id, Instant::now());
        self.pool.change(now, |operation| operation.place_given_back(id));
    }
}

/// A place under the cap for one more socket of a dial; the socket's owner holds the token until the socket is closed.
pub struct Spare<C: Clone, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
}

impl<C: Clone, E> Drop for Spare<C, E> {
    fn drop(&mut self) {
        let (id, now) = (self.id, Instant::now());
        self.pool.change(now, |operation| operation.place_given_back(id));
    }
}

/// The place of an established connection under the cap; the socket's owner holds the token until the socket is closed.
pub struct Place<C: Clone, E> {
    pool: Arc<Pool<C, E>>,
    id: ConnectionId,
    free: bool,
}

impl<C: Clone, E> Place<C, E> {
    /// Notes that HTTP on the connection is over, ended by the side `by`, and that the socket is about to be closed. No
    /// lease begins any more.
    pub fn closing(&self, by: Side, now: Instant) {
        self.pool.change(now, |operation| operation.socket_closing(self.id, by));
    }

    /// Reports, in place of [`Place::closing`], that the kernel has given the connection up: the network no longer
    /// carries it, which says nothing about the upstream.
    pub fn forgotten(&self, now: Instant) {
        self.pool.change(now, |operation| operation.path_forgotten(self.id));
    }

    /// Ends the doubt about the connection ([`Pool::doubt`]), because its peer is alive: it may be leased again.
    pub fn trusted(&self, now: Instant) {
        self.pool.change(now, |operation| operation.trust(self.id));
    }

    /// True if no request has used the connection yet.
    #[must_use]
    pub fn is_unused(&self) -> bool {
        self.pool.lock().is_unused(self.id)
    }

    /// Frees the place, because the socket is closed.
    pub fn socket_ended(mut self, end: End, now: Instant) {
        self.give_back(end, now);
    }

    fn give_back(&mut self, end: End, now: Instant) {
        self.free = true;
        let id = self.id;
        self.pool.change(now, |operation| operation.socket_ended(id, end));
    }
}

impl<C: Clone, E> Drop for Place<C, E> {
    fn drop(&mut self) {
        if !self.free {
            self.give_back(End { by: Side::Us, how: Manner::Reset }, Instant::now());
        }
    }
}

/// A connection for one exchange. A lease ends with a verdict; if it is dropped instead, the connection is unfit.
pub struct Lease<C: Clone, E> {
    /// The connection's number within its pool.
    pub id: ConnectionId,
    /// The number of uses of the connection, this one included.
    pub uses: u64,
    /// The time since the connection was established, at the beginning of the lease.
    pub age: Duration,
    /// The reason for which this lease is, or is not, a reuse.
    pub reuse: Reuse,
    /// The time that the waiter was queued; `None` if it was not.
    pub queued: Option<Duration>,
    pool: Arc<Pool<C, E>>,
    /// The connection's handle; `None` once the lease has ended.
    handle: Option<C>,
}

impl<C: Clone, E> Lease<C, E> {
    pub(super) fn new(pool: Arc<Pool<C, E>>, leased: Leased<C>, queued: Option<Duration>) -> Self {
        let Leased { id, handle, uses, age, reuse } = leased;
        Self { id, uses, age, reuse, queued, pool, handle: Some(handle) }
    }

    /// Returns the connection's handle.
    pub fn handle(&mut self) -> &mut C {
        self.handle.as_mut().expect("a lease holds its handle until it ends")
    }

    /// Makes the connection private to this client, which has authenticated itself on it. No other client may take it,
    /// and it closes once [`Pool::client_left`] says that the client is gone.
    pub fn claim(&self, client: ClientId) {
        self.pool.adjust(|state| state.claim(self.id, client));
    }

    /// Counts another request of the same client on this lease; false if the connection has ended meanwhile.
    pub fn again(&mut self, now: Instant) -> bool {
        let again = self.pool.adjust(|state| state.lease_again(self.id, now));
        if let Some((uses, age)) = again {
            (self.uses, self.age, self.reuse, self.queued) = (uses, age, Reuse::Reused, None);
            self.pool.counters.checkouts.increment(Reuse::Reused);
        }
        again.is_some()
    }

    /// Forgets how long the connection was idle before this lease, so that the lease teaches nothing about the idle
    /// limit: the peer may have ended the connection because of the exchange.
    pub fn forget_idle_time(&self) {
        self.pool.adjust(|state| state.forget_idle_time(self.id));
    }

    /// Ends the lease. The verdict says whether the connection may be leased again.
    pub fn end(mut self, verdict: Verdict, now: Instant) {
        if let Some(handle) = self.handle.take() {
            self.give_back(verdict, now);
            drop(handle);
        }
    }

    fn give_back(&self, verdict: Verdict, now: Instant) {
        self.pool.change(now, |operation| operation.end_lease(self.id, verdict));
    }
}

impl<C: Clone, E> Drop for Lease<C, E> {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            self.give_back(Verdict::Unfit(EndReason::Unfit), Instant::now());
            drop(handle);
        }
    }
}
