//! A request's body on its way to the upstream: hyper's body in a wrapper. The body can be parked until the upstream
//! asks for it, stopped when the rest is not wanted any more, and sent again as long as all that was read of it is
//! held. The wrapper also tells how far the body came, and which side holds it up.

mod hold;

use std::{
    mem,
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

use hold::{Hold, Replay};

use crate::stamp::Stamp;

/// The longest time for which a body waits for the upstream's 100 (RFC 9110 section 10.1.1 asks for a bound).
pub const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// The progress of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Progress {
    /// The body waits for the upstream's 100.
    Parked,
    /// The body is on its way.
    Streaming,
    /// All of the body was handed to the connection.
    Complete,
    /// The client broke the body off.
    ClientAborted,
    /// The upstream's answer was complete before the body's end: the rest is not sent.
    Stopped,
}

impl Progress {
    const ALL: [Self; 5] =
        [Self::Parked, Self::Streaming, Self::Complete, Self::ClientAborted, Self::Stopped];
}

/// The state of a body, shared by the connection that sends it and the exchange. The body itself is here: when the
/// connection that it was sent on is gone, what was held of it and the rest can be sent on another.
#[derive(Debug)]
pub struct Upload {
    progress: AtomicU8,
    /// True if the connection would take more of the body, and the client has yet to send that.
    awaited: AtomicBool,
    completed: Stamp,
    source: Mutex<Source>,
}

/// The source of a body's frames, and what is held of them.
#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// Removes trailers that must not pass.
    filter: fn(&mut HeaderMap),
    /// True if something was taken from `incoming`.
    begun: bool,
    /// True if nothing is left in `incoming`.
    ended: bool,
    /// True if the client's FIN came: whatever `incoming` does not have yet will not come.
    finished: bool,
    hold: Hold,
    replay: Replay,
    /// The number of times that the body was sent again: a [`Streaming`] of an earlier turn gets nothing more.
    turn: u32,
    /// The waker of the task that polled the body last; woken when the progress changes.
    waker: Option<Waker>,
    /// The end of the parking. Set at the first poll, as the request's head is written then.
    parked_until: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// Returns how far the body came.
    pub fn progress(&self) -> Progress {
        Progress::ALL[usize::from(self.progress.load(Relaxed))]
    }

    /// Returns the time at which all of the body had been handed to the connection, or `None` before that.
    pub fn completed(&self) -> Option<Instant> {
        self.completed.get()
    }

    /// True if the client has to send the next bytes: the connection would take them.
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed)
    }

    /// Ends the parking: the upstream asks for the body.
    pub fn unpark(&self) {
        self.change(Progress::Parked, Progress::Streaming);
    }

    /// Notes that the client's FIN came behind all that was read of the body. If that is not the body's end, the body
    /// is broken; the connection finds out when it has taken the rest.
    pub fn finish(&self) {
        let mut source = self.source();
        if !mem::replace(&mut source.finished, true) {
            let waker = source.waker.take();
            drop(source);
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Stops the body: the rest is not wanted any more.
    pub fn stop(&self) {
        self.change(Progress::Parked, Progress::Stopped);
        self.change(Progress::Streaming, Progress::Stopped);
    }

    /// Drops what is held of the body, as it will not be sent again.
    pub fn release(&self) {
        self.source().hold.release();
    }

    /// Returns the same body from its beginning, for another connection, or `None` unless all that was read of it is
    /// held. The connection that had the body before gets nothing more.
    pub fn again(self: &Arc<Self>) -> Option<RequestBody> {
        let mut source = self.source();
        if matches!(self.progress(), Progress::ClientAborted | Progress::Stopped) {
            return None;
        }
        source.begin_again()?;
        self.shift(Progress::Complete, Progress::Streaming);
        self.completed.clear();
        if source.is_over() {
            self.complete();
        }
        let turn = source.turn;
        drop(source);
        Some(RequestBody::Streaming(Streaming { upload: Arc::clone(self), turn }))
    }

    /// Changes the progress if it is `from`, and then wakes the task that polled the body last.
    fn change(&self, from: Progress, to: Progress) {
        if self.shift(from, to) {
            let waker = self.source().waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Changes the progress if it is `from`, and wakes no task; returns true if it did.
    fn shift(&self, from: Progress, to: Progress) -> bool {
        self.progress.compare_exchange(from as u8, to as u8, Relaxed, Relaxed).is_ok()
    }

    fn complete(&self) {
        self.completed.set(Instant::now());
        self.shift(Progress::Streaming, Progress::Complete);
    }

    fn source(&self) -> MutexGuard<'_, Source> {
        self.source.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source {
    /// Makes the next frames those that were read before, from the first on, for a new turn; `None`, without a change,
    /// if they are not all held.
    fn begin_again(&mut self) -> Option<()> {
        if self.begun {
            self.replay = self.hold.replay()?;
        }
        self.turn += 1;
        (self.waker, self.parked_until) = (None, None);
        Some(())
    }

    /// Pending while the body is parked, and for ever once it is stopped: an error would end the connection, and with
    /// it the response.
    fn poll_released(&mut self, upload: &Upload, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        if upload.progress() == Progress::Parked {
            let sleep = || Box::pin(tokio::time::sleep(CONTINUE_TIMEOUT));
            ready!(self.parked_until.get_or_insert_with(sleep).as_mut().poll(cx));
            upload.shift(Progress::Parked, Progress::Streaming);
        }
        match upload.progress() {
            Progress::Stopped => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// Reads the next frame: first the frames to send again, then those that come from the client; `None` at the end.
    /// Fails if the client's connection or framing broke, or if the client's FIN came within the body.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(frame) = self.replay.next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut next = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(next) => next.map(|frame| frame.map_err(BodyError::Read)),
            Poll::Pending if self.finished => Some(Err(BodyError::Finished)),
            Poll::Pending => return Poll::Pending,
        };
        self.begun = true;
        match &mut next {
            Some(Ok(frame)) => self.take(frame),
            Some(Err(_)) => {}
            None => self.ended = true,
        }
        Poll::Ready(next)
    }

    /// Notes a frame that the client sent: filters trailers, keeps a copy while the body can be sent again, and notes
    /// the body's end.
    fn take(&mut self, frame: &mut Frame<Bytes>) {
        self.ended = frame.is_trailers() || self.incoming.is_end_stream();
        if let Some(trailers) = frame.trailers_mut() {
            (self.filter)(trailers);
        }
        self.hold.keep(frame);
    }

    fn is_over(&self) -> bool {
        self.replay.is_empty() && (self.ended || self.incoming.is_end_stream())
    }

    /// Returns the bounds of the number of content bytes that are left, those to send again included; the rest of a body
    /// that was stopped counts, too.
    fn size_hint(&self) -> SizeHint {
        let (again, rest) = (self.replay.len(), self.incoming.size_hint());
        let mut hint = SizeHint::new();
        hint.set_lower(again + rest.lower());
        if let Some(upper) = rest.upper() {
            hint.set_upper(again + upper);
        }
        hint
    }
}

/// The reason why a request's body broke off.
#[derive(Debug, thiserror::Error)]
pub enum BodyError {
    /// The client's connection broke, or its framing did.
    #[error(transparent)]
    Read(hyper::Error),
    /// The client ended its side.
    #[error("the client ended its side of the connection within its request")]
    Finished,
}

/// A request's body.
pub enum RequestBody {
    /// The request has no body.
    Empty,
    /// The request has a body on its way. Kept small, as each connection has room for 32 requests in hyper's queue.
    Streaming(Streaming),
}

/// A body on its way over one connection.
pub struct Streaming {
    upload: Arc<Upload>,
    /// The turn of this connection among those that the body was given to.
    turn: u32,
}

impl RequestBody {
    /// Wraps a body that is not empty. If `held`, the body can be sent again as long as it is not too long; `parked`
    /// makes it wait for the upstream's 100; `filter` removes trailers that must not pass.
    pub fn streaming(
        incoming: Incoming,
        parked: bool,
        held: bool,
        filter: fn(&mut HeaderMap),
    ) -> (Self, Arc<Upload>) {
        let progress = if parked { Progress::Parked } else { Progress::Streaming };
        let source = Source {
            hold: Hold::new(held, incoming.size_hint().lower()),
            incoming,
            filter,
            begun: false,
            ended: false,
            finished: false,
            replay: Replay::default(),
            turn: 0,
            waker: None,
            parked_until: None,
        };
        let upload = Arc::new(Upload {
            progress: AtomicU8::new(progress as u8),
            awaited: AtomicBool::new(false),
            completed: Stamp::default(),
            source: Mutex::new(source),
        });
        (Self::Streaming(Streaming { upload: Arc::clone(&upload), turn: 0 }), upload)
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let upload = &*self.upload;
        let mut source = upload.source();
        if source.turn != self.turn {
            return Poll::Pending;
        }
        ready!(source.poll_released(upload, cx));
        let next = source.poll_next(cx);
        upload.awaited.store(next.is_pending(), Relaxed);
        let next = ready!(next);
        match &next {
            Some(Err(_)) => {
                upload.shift(Progress::Streaming, Progress::ClientAborted);
            }
            Some(Ok(_)) if !source.is_over() => {}
            Some(Ok(_)) | None => upload.complete(),
        }
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        self.upload.source().is_over()
    }

    fn size_hint(&self) -> SizeHint {
        self.upload.source().size_hint()
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Streaming(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming(body) => body.size_hint(),
        }
    }
}
