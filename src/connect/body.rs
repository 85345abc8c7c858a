//! A request's body on its way up: hyper's own, guarded. It can be parked until the upstream asks for it, stopped
//! when nobody wants the rest, and tells how far it came.

use std::{
    pin::Pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU8, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::time::Sleep;

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
    /// The upstream answered before its end: the rest is not sent.
    Stopped,
}

impl Progress {
    const ALL: [Self; 5] =
        [Self::Parked, Self::Streaming, Self::Complete, Self::Broken, Self::Stopped];
}

/// What a body in flight and its exchange share.
#[derive(Debug)]
pub struct Upload {
    progress: AtomicU8,
    completed: Stamp,
    bytes: AtomicU64,
    /// Who polled while it was parked or streaming; woken when that changes.
    waker: Mutex<Option<Waker>>,
    /// A body whose connection ended while it was parked: not a byte of it was read, so it can go again.
    held: Mutex<Option<Incoming>>,
}

impl Upload {
    fn new(parked: bool) -> Arc<Self> {
        let progress = if parked { Progress::Parked } else { Progress::Streaming };
        Arc::new(Self {
            progress: AtomicU8::new(progress as u8),
            completed: Stamp::default(),
            bytes: AtomicU64::new(0),
            waker: Mutex::new(None),
            held: Mutex::new(None),
        })
    }

    /// How far it came.
    pub fn progress(&self) -> Progress {
        Progress::ALL[usize::from(self.progress.load(Relaxed))]
    }

    /// When all of it had been handed to the connection.
    pub fn completed(&self) -> Option<Instant> {
        self.completed.get()
    }

    /// Bytes of content handed to the connection.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Relaxed)
    }

    /// The upstream asks for it.
    pub fn unpark(&self) {
        self.change(Progress::Parked, Progress::Streaming);
    }

    /// Nobody wants the rest.
    pub fn stop(&self) {
        self.change(Progress::Parked, Progress::Stopped);
        self.change(Progress::Streaming, Progress::Stopped);
    }

    fn change(&self, from: Progress, to: Progress) {
        let changed = self.progress.compare_exchange(from as u8, to as u8, Relaxed, Relaxed);
        if changed.is_ok()
            && let Some(waker) = self.waker.lock().unwrap_or_else(PoisonError::into_inner).take()
        {
            waker.wake();
        }
    }

    fn remember(&self, cx: &Context<'_>) {
        *self.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(cx.waker().clone());
    }
}

/// A request's body.
pub enum RequestBody {
    /// None.
    Empty,
    /// One on its way. Boxed: each connection keeps room for 32 requests in hyper's queue.
    Streaming(Box<Streaming>),
}

/// A body on its way.
pub struct Streaming {
    /// `None` once it was given back.
    incoming: Option<Incoming>,
    upload: Arc<Upload>,
    /// Set while parked, from the first poll on: the head is written then.
    parked_until: Option<Pin<Box<Sleep>>>,
    filter: fn(&mut HeaderMap),
}

impl RequestBody {
    /// Guards a body that is not empty; `filter` drops trailers that must not pass.
    pub fn streaming(
        incoming: Incoming,
        parked: bool,
        filter: fn(&mut HeaderMap),
    ) -> (Self, Arc<Upload>) {
        let upload = Upload::new(parked);
        (Self::guarded(incoming, &upload, filter), upload)
    }

    /// The same body again, if its connection ended while it was parked.
    pub fn again(upload: &Arc<Upload>, filter: fn(&mut HeaderMap)) -> Option<Self> {
        let held = upload.held.lock().unwrap_or_else(PoisonError::into_inner).take();
        held.map(|incoming| Self::guarded(incoming, upload, filter))
    }

    fn guarded(incoming: Incoming, upload: &Arc<Upload>, filter: fn(&mut HeaderMap)) -> Self {
        Self::Streaming(Box::new(Streaming {
            incoming: Some(incoming),
            upload: Arc::clone(upload),
            parked_until: None,
            filter,
        }))
    }
}

impl Streaming {
    /// Whether it waits for the upstream's 100.
    pub fn is_parked(&self) -> bool {
        self.upload.progress() == Progress::Parked
    }

    /// Pending while parked, and for ever once stopped: an error would end the connection, and with it the response.
    fn poll_released(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.upload.remember(cx);
        if self.upload.progress() == Progress::Parked {
            let sleep = || Box::pin(tokio::time::sleep(PARKED_FOR));
            ready!(self.parked_until.get_or_insert_with(sleep).as_mut().poll(cx));
            self.upload.unpark();
        }
        match self.upload.progress() {
            Progress::Stopped => Poll::Pending,
            _ => Poll::Ready(()),
        }
    }

    fn note(&self, frame: &Frame<Bytes>) {
        if let Some(data) = frame.data_ref() {
            self.upload.bytes.fetch_add(data.len() as u64, Relaxed);
        }
    }

    fn complete(&self) {
        self.upload.completed.set(Instant::now());
        self.upload.change(Progress::Streaming, Progress::Complete);
    }
}

impl Body for Streaming {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        ready!(self.poll_released(cx));
        let Some(incoming) = &mut self.incoming else { return Poll::Ready(None) };
        match ready!(Pin::new(incoming).poll_frame(cx)) {
            Some(Ok(mut frame)) => {
                self.note(&frame);
                let last = frame.is_trailers() || self.is_end_stream();
                if let Some(trailers) = frame.trailers_mut() {
                    (self.filter)(trailers);
                }
                if last {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                self.upload.change(Progress::Streaming, Progress::Broken);
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.as_ref().is_none_or(Incoming::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.as_ref().map_or_else(|| SizeHint::with_exact(0), Incoming::size_hint)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        if self.upload.progress() == Progress::Parked {
            let mut held = self.upload.held.lock().unwrap_or_else(PoisonError::into_inner);
            *held = self.incoming.take();
        }
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
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
