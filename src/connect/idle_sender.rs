//! The sender of requests of an idle connection, shared by handle and driver: kept between exchanges, and given up
//! while the connection rests.

use std::{
    mem::replace,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Waker,
    time::{Duration, Instant},
};

use hyper::client::conn::http1::SendRequest;
use tokio::sync::oneshot;

use super::RequestBody;

type Sender = SendRequest<RequestBody>;
/// A channel that closes once the driver has given up HTTP on the connection.
pub(super) type DriverGone = oneshot::Receiver<()>;

/// The time without an exchange after which a connection may rest, and the interval at which the driver checks. Waking
/// takes some microseconds, so this may be short. Connections check at different moments: where many free their memory
/// all at once, mimalloc keeps that memory.
pub(super) const REST_DELAY: Duration = Duration::from_millis(500);

/// A connection's sender of requests between exchanges.
pub(super) struct IdleSender {
    state: Mutex<SenderState>,
    /// True if the driver is to find out whether the peer is alive.
    doubted: AtomicBool,
}

enum SenderState {
    /// The sender is ready, since this time.
    Free(Sender, DriverGone, Instant),
    /// The sender is with an exchange, or HTTP is over.
    Taken,
    /// The connection rests and has no sender, since this time; the waker wakes its driver.
    Resting(Waker, DriverGone, Instant),
    /// An exchange waits at this channel for the sender that the driver is about to make.
    Wanted(oneshot::Sender<Sender>),
}

/// The error for a connection on which HTTP is over.
#[derive(Debug, thiserror::Error)]
#[error("connection closed")]
pub struct Closed;

/// The things that an exchange needs of its connection, for itself alone.
pub(super) struct TakenSender {
    pub(super) sender: SenderSource,
    pub(super) gone: DriverGone,
    /// The end of the last exchange; before the first, the time at which the connection was opened.
    pub(super) since: Instant,
}

/// The state in which an exchange finds the sender.
pub(super) enum SenderSource {
    /// The sender is ready.
    Sender(Sender),
    /// The connection rested: its sender comes through this channel once the driver is awake.
    Waking(oneshot::Receiver<Sender>),
}

impl IdleSender {
    pub(super) fn new(sender: Sender, gone: DriverGone, now: Instant) -> Self {
        let state = Mutex::new(SenderState::Free(sender, gone, now));
        Self { state, doubted: AtomicBool::new(false) }
    }

    /// Makes the driver find out whether the peer is alive: now if the connection rests, else once it does.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Relaxed);
        if let SenderState::Resting(driver, ..) = &*self.lock() {
            driver.wake_by_ref();
        }
    }

    /// True if the driver is to find out whether the peer is alive.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Relaxed)
    }

    /// Ends the doubt: the peer is alive.
    pub(super) fn trust(&self) {
        self.doubted.store(false, Relaxed);
    }

    /// Takes the sender for an exchange, or wakes the driver of a connection that rests; fails if HTTP is over.
    pub(super) fn take(&self) -> Result<TakenSender, Closed> {
        let mut state = self.lock();
        match replace(&mut *state, SenderState::Taken) {
            SenderState::Free(sender, gone, since) => {
                Ok(TakenSender { sender: SenderSource::Sender(sender), gone, since })
            }
            SenderState::Resting(driver, gone, since) => {
                let (sender, waking) = oneshot::channel();
                *state = SenderState::Wanted(sender);
                driver.wake();
                Ok(TakenSender { sender: SenderSource::Waking(waking), gone, since })
            }
            SenderState::Taken | SenderState::Wanted(_) => Err(Closed),
        }
    }

    /// Returns the sender after an exchange that left the connection fit for another.
    pub(super) fn give_back(&self, sender: Sender, gone: DriverGone, now: Instant) {
        *self.lock() = SenderState::Free(sender, gone, now);
    }

    /// Returns true if the connection is to rest from now on, and drops the sender then: after [`REST_DELAY`] without
    /// an exchange, if hyper is between exchanges and all that it held is written.
    pub(super) fn rest(&self, now: Instant, flushed: bool, driver: &Waker) -> bool {
        let mut state = self.lock();
        match replace(&mut *state, SenderState::Taken) {
            SenderState::Free(sender, gone, since)
                if flushed
                    && sender.is_ready()
                    && now.saturating_duration_since(since) >= REST_DELAY =>
            {
                *state = SenderState::Resting(driver.clone(), gone, since);
                true
            }
            other => {
                *state = other;
                false
            }
        }
    }

    /// Returns the channel of the exchange that wants the resting connection, if there is one: the driver must send it
    /// a sender. Otherwise remembers the waker of the driver.
    pub(super) fn poll_wanted(&self, driver: &Waker) -> Option<oneshot::Sender<Sender>> {
        let mut state = self.lock();
        match replace(&mut *state, SenderState::Taken) {
            SenderState::Wanted(waiting) => return Some(waiting),
            SenderState::Resting(_, gone, since) => {
                *state = SenderState::Resting(driver.clone(), gone, since);
            }
            other => *state = other,
        }
        None
    }

    /// Ends the use of the connection, as HTTP on it is over: an exchange that waits for a sender gets an error, as do
    /// later ones.
    pub(super) fn close(&self) {
        let mut state = self.lock();
        if matches!(*state, SenderState::Resting(..) | SenderState::Wanted(_)) {
            *state = SenderState::Taken;
        }
    }

    fn lock(&self) -> MutexGuard<'_, SenderState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
