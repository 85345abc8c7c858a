//! The application's stream under hyper: it stamps bytes, escapes what hyper's `Uri` refuses in a request line, holds
//! back a FIN that comes during a response, and leaves the shutdown to us, and what a request without a readable header
//! is told.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::escape::{Escape, Judged, Noted};
use crate::proxy::{Downstream, Phase, RequestLine};

/// See the module.
pub(super) struct DownstreamStream {
    tcp: TcpStream,
    downstream: Arc<Downstream>,
    escape: Escape,
    /// A byte of the newest request line that no host contains, and its place.
    refused_byte: Option<(u8, u32)>,
    /// The application's FIN came.
    finished: bool,
    /// hyper refused a request's header. Its bare answer is held back: ours says why.
    refused: bool,
}

/// How hyper's own answers begin, whatever the client spoke.
const REFUSAL: &[u8] = b"HTTP/1.1 4";

impl DownstreamStream {
    pub(super) fn new(tcp: TcpStream, downstream: Arc<Downstream>) -> Self {
        let escape = Escape::default();
        Self { tcp, downstream, escape, refused_byte: None, finished: false, refused: false }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.tcp
    }

    /// Whether a refusal of hyper's was held back.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// The byte in the newest request's host for which hyper refused it, and its place in the request line.
    pub(super) fn refused_byte(&self) -> Option<(u8, u32)> {
        self.refused_byte
    }

    fn judged(&self) -> Judged {
        let (count, body) = self.downstream.newest_exchange();
        Judged { count, body, done: self.downstream.phase() == Phase::Idle }
    }

    /// Reads what has come into the buffer; true if that is the application's FIN.
    fn poll_segment(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<bool>> {
        let before = buffer.filled().len();
        loop {
            if self.escape.has_kept() {
                self.give_kept(buffer);
            }
            if buffer.filled().len() > before {
                return Poll::Ready(Ok(false));
            }
            ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
            if buffer.filled().len() == before {
                return Poll::Ready(Ok(true));
            }
            let judged = self.judged();
            let bytes = &buffer.filled()[before..];
            if self.escape.passes(bytes, judged) {
                return Poll::Ready(Ok(false));
            }
            self.escape.keep(bytes);
            buffer.set_filled(before);
            self.note_read();
        }
    }

    #[cold]
    fn give_kept(&mut self, buffer: &mut ReadBuf<'_>) {
        let judged = self.judged();
        self.escape.give(buffer.remaining(), judged, |bytes| buffer.put_slice(bytes));
        if let Some(noted) = self.escape.take_noted() {
            let Noted { escaped, fragment, whole_server, refused } = noted;
            self.downstream.note_line(RequestLine { escaped, fragment, whole_server });
            self.refused_byte = refused;
        }
    }

    fn note_read(&self) {
        let now = Instant::now();
        self.downstream.note_io(now);
        if self.downstream.phase() == Phase::Idle {
            self.downstream.header_begins(now);
        }
    }

    /// True if the application has reset the connection, be it behind bytes that nobody has read.
    #[cold]
    fn is_reset(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        pin!(self.tcp.ready(Interest::ERROR)).poll(&mut cx).is_ready()
    }

    /// Between responses only hyper itself has something to say.
    fn is_refusal(&self, bytes: &[u8]) -> bool {
        matches!(self.downstream.phase(), Phase::Idle | Phase::Header) && bytes.starts_with(REFUSAL)
    }

    /// A FIN in the middle of a response is told when the response is over; the connection asks again then.
    fn poll_finished(&self) -> Poll<io::Result<()>> {
        if self.downstream.holds_fin() {
            if !self.downstream.is_fin_held() {
                self.downstream.set_fin_held(Instant::now());
            }
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for DownstreamStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.finished {
            return self.poll_finished();
        }
        if ready!(self.poll_segment(cx, buffer))? {
            self.finished = true;
            return self.poll_finished();
        }
        self.note_read();
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for DownstreamStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        if self.is_refusal(bytes) {
            self.refused = true;
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.tcp).poll_write(cx, bytes);
        self.downstream.set_blocked(written.is_pending());
        let written = ready!(written)?;
        self.downstream.note_io(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.downstream.take_look() && self.is_reset() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // A TCP stream holds nothing back; hyper flushes once its own buffer is empty.
        self.downstream.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
