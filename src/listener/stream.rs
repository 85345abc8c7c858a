//! The application's stream under hyper: it stamps bytes, holds back a FIN that comes during a response, and leaves
//! the shutdown to us, and what a request without a readable header is told.

use std::{
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::proxy::{Downstream, Phase};

/// See the module.
pub(super) struct DownstreamStream {
    tcp: TcpStream,
    downstream: Arc<Downstream>,
    /// The application's FIN came.
    finished: bool,
    /// hyper refused a request's header. Its bare answer is held back: ours says why.
    refused: bool,
}

/// How hyper's own answers begin, whatever the client spoke.
const REFUSAL: &[u8] = b"HTTP/1.1 4";

impl DownstreamStream {
    pub(super) fn new(tcp: TcpStream, downstream: Arc<Downstream>) -> Self {
        Self { tcp, downstream, finished: false, refused: false }
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.tcp
    }

    /// Whether a refusal of hyper's was held back.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Between responses only hyper itself has something to say.
    fn is_refusal(&self, bytes: &[u8]) -> bool {
        matches!(self.downstream.phase(), Phase::Idle | Phase::Header) && bytes.starts_with(REFUSAL)
    }

    /// A FIN in the middle of a response is told when the response is over; the connection asks again then.
    fn poll_finished(&self) -> Poll<io::Result<()>> {
        if self.downstream.holds_fin() {
            self.downstream.set_fin_held();
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
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.tcp).poll_read(cx, buffer))?;
        if buffer.filled().len() == before {
            self.finished = true;
            return self.poll_finished();
        }
        let now = Instant::now();
        self.downstream.note_io(now);
        if self.downstream.phase() == Phase::Idle {
            self.downstream.header_begins(now);
        }
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
        let written = ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        self.downstream.note_io(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // A TCP stream holds nothing back; hyper flushes once its own buffer is empty.
        self.downstream.flushed();
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
