//! The client's stream under hyper. It notes when bytes pass, escapes what hyper's `Uri` refuses in a request line,
//! holds back a FIN that comes during a response, and leaves to the listener the shutdown, and the answer to a request
//! whose header cannot be read.

use std::{
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::TcpStream,
};

use super::escape::{Escape, LineFindings, NewestRequest};
use crate::{
    proxy::{Client, Phase, RequestLine},
    resources::{Buffered, FREE, Resources},
    socket,
};

/// The stream that hyper reads and writes.
pub(super) struct ClientStream {
    tcp: TcpStream,
    client: Arc<Client>,
    escape: Escape,
    /// A byte of the newest request line that no host contains, and its position.
    refused_byte: Option<(u8, u32)>,
    /// True if the client's FIN came.
    finished: bool,
    /// True if hyper refused a request's header. hyper's bare answer is held back, as Warmline's says why.
    refused: bool,
    /// Bytes that the former hyper had read and not used, for the next one to read.
    unread: Bytes,
    /// This client's share of what is buffered for all clients.
    buffered: Buffered,
    /// The number of bytes of the newest request's head that hyper has.
    head: usize,
    /// True if the head would have exceeded the bound on what is buffered.
    crowded: bool,
}

/// The beginning of hyper's own answers, whatever version the client speaks.
const REFUSAL: &[u8] = b"HTTP/1.1 4";

impl ClientStream {
    /// Wraps a connection that was just accepted; nothing of it was read.
    pub(super) fn new(tcp: TcpStream, client: Arc<Client>, resources: Arc<Resources>) -> Self {
        Self {
            tcp,
            client,
            escape: Escape::default(),
            refused_byte: None,
            finished: false,
            refused: false,
            unread: Bytes::new(),
            buffered: Buffered::new(resources),
            head: 0,
            crowded: false,
        }
    }

    /// Returns the state of the connection.
    pub(super) fn client(&self) -> &Arc<Client> {
        &self.client
    }

    /// Keeps bytes that hyper had read and not used, for the next hyper: a request, or the beginning of one.
    pub(super) fn put_back(&mut self, unread: &[u8]) {
        // Copied, as hyper's buffer may be much larger. It may not have asked for all that the one before had left.
        self.unread = [behind_empty_lines(unread), &self.unread].concat().into();
        self.client.set_bulky(false);
    }

    /// True if the beginning of a request, or what may be one, is kept for the next hyper.
    pub(super) fn has_request(&self) -> bool {
        begins_request(&self.unread) || self.escape.has_kept()
    }

    /// Waits until there is something to read, even if that is the end.
    pub(super) async fn readable(&self) {
        // Peeks at the first byte, as tokio takes a new socket for readable. The next read reports an error.
        let _ = self.tcp.peek(&mut [0]).await;
    }

    /// True if there are bytes to read, also if the runtime has not told of them yet.
    pub(super) fn has_arrived_bytes(&self) -> bool {
        socket::has_arrived_bytes(&self.tcp)
    }

    /// True if the newest request's head was refused because of the bound on what is buffered.
    pub(super) fn is_crowded(&self) -> bool {
        self.crowded
    }

    /// Notes bytes that went to hyper: the time, and the beginning of a request if they contain it. Fails if the head
    /// exceeds the bound on what is buffered.
    fn note_bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        let (now, count) = (Instant::now(), bytes.len());
        self.client.note_io(now);
        match self.client.phase() {
            Phase::Idle if !begins_request(bytes) => return Ok(()),
            Phase::Idle => {
                self.client.header_begins(now);
                self.head = count;
            }
            Phase::Header => self.head += count,
            Phase::AwaitingResponse | Phase::Body | Phase::Flushing => return Ok(()),
        }
        if self.head > FREE { self.hold_head() } else { Ok(()) }
    }

    /// Takes memory for the whole head from the bound on what is buffered. Fails, counts and notes that if the bound
    /// leaves none.
    #[cold]
    fn hold_head(&mut self) -> io::Result<()> {
        self.client.set_bulky(true);
        if self.buffered.hold(self.head) {
            return Ok(());
        }
        self.buffered.short();
        self.crowded = true;
        Err(io::ErrorKind::OutOfMemory.into())
    }

    /// True if hyper offers more room than is free for each client, and the bound on what is buffered leaves none for
    /// it; if it does, the room is taken from the bound. Applies only behind a head.
    fn must_be_frugal(&mut self, room: usize) -> bool {
        room > FREE
            && !matches!(self.client.phase(), Phase::Idle | Phase::Header)
            && self.cannot_hold(room)
    }

    /// Takes memory for the head and this room from the bound on what is buffered; true if the bound leaves none, which
    /// is counted.
    #[cold]
    fn cannot_hold(&mut self, room: usize) -> bool {
        self.client.set_bulky(true);
        let held = self.buffered.hold(self.head + room);
        if !held {
            self.buffered.short();
        }
        !held
    }

    /// Reads at most as many bytes as are free for each client.
    #[cold]
    fn poll_read_little(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let mut bytes = [0; FREE];
        let mut little = ReadBuf::new(&mut bytes);
        ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut little))?;
        buffer.put_slice(little.filled());
        Poll::Ready(Ok(()))
    }

    /// Gives hyper the bytes that the former one left, and notes them as if they came now. Fails if the head exceeds
    /// the bound on what is buffered.
    #[cold]
    fn read_again(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<()> {
        let bytes = self.unread.split_to(self.unread.len().min(buffer.remaining()));
        buffer.put_slice(&bytes);
        self.note_bytes(&bytes)
    }

    pub(super) fn into_inner(self) -> TcpStream {
        self.tcp
    }

    /// True if an answer of hyper's that refuses a request was held back.
    pub(super) fn is_refused(&self) -> bool {
        self.refused
    }

    /// Returns the byte in the newest request's host for which hyper refused the request, and its position in the
    /// request line, counted from 1; `None` if there is none.
    pub(super) fn refused_byte(&self) -> Option<(u8, u32)> {
        self.refused_byte
    }

    fn judged(&self) -> NewestRequest {
        let (count, body) = self.client.newest_exchange();
        NewestRequest { count, body, done: self.client.phase() == Phase::Idle }
    }

    /// Reads bytes that have come into the buffer; true if the client's FIN came instead.
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
            if self.must_be_frugal(buffer.remaining()) {
                ready!(self.poll_read_little(cx, buffer))?;
            } else {
                ready!(self.poll_tcp(cx, buffer))?;
            }
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
            self.client.note_io(Instant::now());
        }
    }

    /// Reads from the socket. Once the drain has begun, bytes between two requests count although the runtime has not
    /// told of them yet: the connection closes if there are none.
    fn poll_tcp(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.tcp).poll_read(cx, buffer);
        if polled.is_pending()
            && self.client.phase() == Phase::Idle
            && self.client.drain.has_begun()
        {
            return self.read_arrived(buffer);
        }
        polled
    }

    /// Reads bytes that have arrived; pending if there are none, and then the socket's readiness wakes the task, as
    /// tokio was asked before.
    #[cold]
    fn read_arrived(&self, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut bytes = [0; FREE];
        let room = bytes.len().min(buffer.remaining());
        match socket::read_arrived(&self.tcp, &mut bytes[..room]) {
            Ok(count) => {
                buffer.put_slice(&bytes[..count]);
                Poll::Ready(Ok(()))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Poll::Pending,
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    /// Gives hyper the bytes that the escaping has kept, as far as it can; passes on what was found in a request line
    /// that has passed.
    #[cold]
    fn give_kept(&mut self, buffer: &mut ReadBuf<'_>) {
        let judged = self.judged();
        self.escape.give(buffer.remaining(), judged, |bytes| buffer.put_slice(bytes));
        if let Some(noted) = self.escape.take_noted() {
            let LineFindings { escaped, fragment, whole_server, refused } = noted;
            self.client.note_line(RequestLine { escaped, fragment, whole_server });
            self.refused_byte = refused;
        }
    }

    /// Looks at the socket for what hyper does not read while it holds bytes that are not taken yet. True if the client
    /// has left: by RST, or by FIN.
    #[cold]
    fn finds_departure(&self) -> bool {
        let mut cx = Context::from_waker(Waker::noop());
        let ready = pin!(self.tcp.ready(Interest::READABLE | Interest::ERROR)).poll(&mut cx);
        match ready {
            Poll::Ready(Ok(ready)) if ready.is_error() => true,
            Poll::Ready(Ok(ready)) => {
                ready.is_read_closed() && self.client.note_fin_behind(Instant::now())
            }
            Poll::Ready(Err(_)) => true,
            Poll::Pending => false,
        }
    }

    /// True if these bytes begin an answer of hyper's own: between responses nothing else is written.
    fn is_refusal(&self, bytes: &[u8]) -> bool {
        matches!(self.client.phase(), Phase::Idle | Phase::Header) && bytes.starts_with(REFUSAL)
    }

    /// Passes a FIN on to hyper, but holds it back during a response; the connection's task asks again when that is
    /// over.
    fn poll_finished(&self) -> Poll<io::Result<()>> {
        if self.client.holds_fin() {
            if !self.client.is_fin_held() {
                self.client.set_fin_held(Instant::now());
            }
            return Poll::Pending;
        }
        Poll::Ready(Ok(()))
    }
}

/// True if these bytes behind a request contain more than empty lines, complete or not.
fn begins_request(bytes: &[u8]) -> bool {
    !bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n'))
}

/// Returns the bytes without the empty lines at their beginning.
fn behind_empty_lines(mut bytes: &[u8]) -> &[u8] {
    while let [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] = bytes {
        bytes = rest;
    }
    bytes
}

impl AsyncRead for ClientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.finished {
            return self.poll_finished();
        }
        if !self.unread.is_empty() {
            return Poll::Ready(self.read_again(buffer));
        }
        let before = buffer.filled().len();
        if ready!(self.poll_segment(cx, buffer))? {
            self.finished = true;
            return self.poll_finished();
        }
        Poll::Ready(self.note_bytes(&buffer.filled()[before..]))
    }
}

impl AsyncWrite for ClientStream {
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
        self.client.set_blocked(written.is_pending());
        let written = ready!(written)?;
        self.client.note_io(Instant::now());
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.client.take_look() && self.finds_departure() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        // A TCP stream holds nothing back, and hyper flushes once its own buffer is empty.
        self.client.flushed();
        if self.buffered.is_held() && self.client.phase() == Phase::Idle {
            self.buffered.release();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_35_the_rest_of_an_empty_line_begins_no_request() {
        for (bytes, left, begins) in [
            (&b""[..], &b""[..], false),
            (b"\r\n", b"", false),
            (b"\n\r\n\r", b"\r", false),
            (b"\r\nGET", b"GET", true),
            (b"\r\r\nGET", b"\r\r\nGET", true),
            (b"GET\r\n", b"GET\r\n", true),
        ] {
            let rest = behind_empty_lines(bytes);
            assert_eq!((rest, begins_request(rest)), (left, begins), "{}", bytes.escape_ascii());
            assert_eq!(begins_request(bytes), begins);
        }
    }
}
