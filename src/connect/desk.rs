//! Where handle and driver of an idle connection meet: the sender of requests lies here between exchanges, and is taken
//! away while the connection rests.

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

/// How long a connection is idle before it may rest, and how often it looks. Waking takes some microseconds, so this may
/// be short. Each connection looks at moments of its own: where a crowd frees its memory all at once, mimalloc keeps it.
pub(super) const RESTS_AFTER: Duration = Duration::from_millis(500);

/// A connection's sender of requests, or what is in its place.
pub(super) struct Desk {
    place: Mutex<Place>,
    /// True if the driver is to find out whether the peer is alive.
    doubted: AtomicBool,
}

enum Place {
    /// The sender, since then.
    Free(Sender, Instant),
    /// An exchange has it, or HTTP is over.
    Taken,
    /// There is none: the connection rests, and its driver is woken by this.
    Resting(Waker),
    /// There is none yet: an exchange waits for it here.
    Wanted(oneshot::Sender<Sender>),
}

/// HTTP on the connection is over.
#[derive(Debug, thiserror::Error)]
#[error("connection closed")]
pub struct Closed;

/// What an exchange finds.
pub(super) enum Found {
    /// The sender.
    Sender(Sender),
    /// It comes here, once the driver is awake.
    Waking(oneshot::Receiver<Sender>),
}

impl Desk {
    pub(super) fn new(sender: Sender, now: Instant) -> Self {
        Self { place: Mutex::new(Place::Free(sender, now)), doubted: AtomicBool::new(false) }
    }

    /// Has the driver find out whether the peer is alive: at once where the connection rests, or else when it does.
    pub(super) fn doubt(&self) {
        self.doubted.store(true, Relaxed);
        if let Place::Resting(driver) = &*self.lock() {
            driver.wake_by_ref();
        }
    }

    /// True if the driver is to find that out.
    pub(super) fn is_doubted(&self) -> bool {
        self.doubted.load(Relaxed)
    }

    /// Ends that: the peer is alive.
    pub(super) fn trust(&self) {
        self.doubted.store(false, Relaxed);
    }

    /// An exchange begins.
    pub(super) fn take(&self) -> Result<Found, Closed> {
        let mut place = self.lock();
        match replace(&mut *place, Place::Taken) {
            Place::Free(sender, _) => Ok(Found::Sender(sender)),
            Place::Resting(driver) => {
                let (sender, waking) = oneshot::channel();
                *place = Place::Wanted(sender);
                driver.wake();
                Ok(Found::Waking(waking))
            }
            Place::Taken | Place::Wanted(_) => Err(Closed),
        }
    }

    /// An exchange is over, and the connection fit for another.
    pub(super) fn give_back(&self, sender: Sender, now: Instant) {
        *self.lock() = Place::Free(sender, now);
    }

    /// Whether the connection rests now: the sender goes if it has lain here for long enough, hyper is between exchanges,
    /// and all that it held is written.
    pub(super) fn rest(&self, now: Instant, flushed: bool, driver: &Waker) -> bool {
        let mut place = self.lock();
        let rests = match &*place {
            Place::Free(sender, since) => {
                let idle = now.saturating_duration_since(*since);
                flushed && sender.is_ready() && idle >= RESTS_AFTER
            }
            _ => false,
        };
        if rests {
            *place = Place::Resting(driver.clone());
        }
        rests
    }

    /// Whether an exchange wants the connection that rests: then its driver owes it a sender. Else remembers whom to wake.
    pub(super) fn poll_wanted(&self, driver: &Waker) -> Option<oneshot::Sender<Sender>> {
        let mut place = self.lock();
        match replace(&mut *place, Place::Taken) {
            Place::Wanted(waiting) => return Some(waiting),
            Place::Resting(_) => *place = Place::Resting(driver.clone()),
            other => *place = other,
        }
        None
    }

    /// HTTP is over: whoever waits for a sender is told, and nobody else waits.
    pub(super) fn close(&self) {
        let mut place = self.lock();
        if matches!(*place, Place::Resting(_) | Place::Wanted(_)) {
            *place = Place::Taken;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Place> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
