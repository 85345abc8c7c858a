//! A request's body on its way up: hyper's own, guarded. It can be parked until the upstream asks for it, stopped
//! when nobody wants the rest, sent again as long as all that was read of it is held, and tells how far it came, and
//! who holds it up.

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

/// How long a body waits for the upstream's 100 (RFC 9110 section 10.1.1 wants a bound).
pub const PARKED_FOR: Duration = Duration::from_secs(1);

/// How far a request's body came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Progress {
    /// It waits for the upstream's 100.
    Parked,
    /// It is on its way.
    Streaming,
    /// All of it was handed to the connection.
    Complete,
    /// The application broke it off.
    Broken,
    /// The upstream's answer was over before its end: the rest is not sent.
    Stopped,
}

impl Progress {
    const ALL: [Self; 5] =
        [Self::Parked, Self::Streaming, Self::Complete, Self::Broken, Self::Stopped];
}

/// What a body in flight and its exchange share. The body itself is here: when the connection that it was sent on is
/// gone, what was held of it and the rest can be sent on another.
#[derive(Debug)]
pub struct Upload {
    progress: AtomicU8,
    /// True if the connection would take more of it, and the application has yet to send that.
    awaited: AtomicBool,
    completed: Stamp,
    source: Mutex<Source>,
}

/// Where a body comes from.
#[derive(Debug)]
struct Source {
    incoming: Incoming,
    /// Drops trailers that must not pass.
    filter: fn(&mut HeaderMap),
    /// Something was taken from `incoming`.
    begun: bool,
    /// Nothing is left in `incoming`.
    ended: bool,
    /// The application's FIN came: what `incoming` does not have yet will not come.
    finished: bool,
    hold: Hold,
    replay: Replay,
    /// How often it was sent again: an earlier [`Streaming`] gets nothing more.
    turn: u32,
    /// Who polled while it was parked or streaming; woken when that changes.
    waker: Option<Waker>,
    /// Set while parked, from the first poll on: the head is written then.
    parked_until: Option<Pin<Box<Sleep>>>,
}

impl Upload {
    /// How far it came.
    pub fn progress(&self) -> Progress {
        Progress::ALL[usize::from(self.progress.load(Relaxed))]
    }

    /// When all of it had been handed to the connection.
    pub fn completed(&self) -> Option<Instant> {
        self.completed.get()
    }

    /// True if the application owes the next bytes: the connection would take them.
    pub fn is_awaited(&self) -> bool {
        self.awaited.load(Relaxed)
    }

    /// The upstream asks for it.
    pub fn unpark(&self) {
        self.change(Progress::Parked, Progress::Streaming);
    }

    /// Tells it that the application's FIN came behind all that was read of it. If that is not the body's end, the body
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

    /// Nobody wants the rest.
    pub fn stop(&self) {
        self.change(Progress::Parked, Progress::Stopped);
        self.change(Progress::Streaming, Progress::Stopped);
    }

    /// It will not be sent again: what is held of it goes.
    pub fn release(&self) {
        self.source().hold.release();
    }

    /// The same body from its beginning, for another connection, if all that was read of it is still held; whoever
    /// had it before gets nothing more.
    pub fn again(self: &Arc<Self>) -> Option<RequestBody> {
        let mut source = self.source();
        if matches!(self.progress(), Progress::Broken | Progress::Stopped) {
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

    fn change(&self, from: Progress, to: Progress) {
        if self.shift(from, to) {
            let waker = self.source().waker.take();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }

    /// Changes it, and wakes nobody.
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
    fn begin_again(&mut self) -> Option<()> {
        if self.begun {
            self.replay = self.hold.replay()?;
        }
        self.turn += 1;
        (self.waker, self.parked_until) = (None, None);
        Some(())
    }

    /// Pending while parked, and for ever once stopped: an error would end the connection, and with it the response.
    fn poll_released(&mut self, upload: &Upload, cx: &mut Context<'_>) -> Poll<()> {
        match &mut self.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            None => self.waker = Some(cx.waker().clone()),
        }
        if upload.progress() == Progress::Parked {
            let sleep = || Box::pin(tokio::time::sleep(PARKED_FOR));
            ready!(self.parked_until.get_or_insert_with(sleep).as_mut().poll(cx));
            upload.shift(Progress::Parked, Progress::Streaming);
        }
        match upload.progress() {
            Progress::Stopped => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    /// The next frame: first what is sent again, then what comes.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
        if let Some(frame) = self.replay.next() {
            return Poll::Ready(Some(Ok(frame)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let mut next = match Pin::new(&mut self.incoming).poll_frame(cx) {
            Poll::Ready(next) => next.map(|frame| frame.map_err(Broken::Read)),
            Poll::Pending if self.finished => Some(Err(Broken::Finished)),
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

/// A break in a request's body.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The application's connection broke, or its framing did.
    #[error(transparent)]
    Read(hyper::Error),
    /// The application ended its side.
    #[error("the client ended its side of the connection within its request")]
    Finished,
}

/// A request's body.
pub enum RequestBody {
    /// None.
    Empty,
    /// One on its way. Small: each connection keeps room for 32 requests in hyper's queue.
    Streaming(Streaming),
}

/// A body on its way, for one connection.
pub struct Streaming {
    upload: Arc<Upload>,
    /// Which of those that the body was given to in turn.
    turn: u32,
}

impl RequestBody {
    /// Guards a body that is not empty: `held`, it can be sent again as long as it is not too long; `filter` drops trailers
    /// that must not pass.
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
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
                upload.shift(Progress::Streaming, Progress::Broken);
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
    type Error = Broken;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Broken>>> {
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
