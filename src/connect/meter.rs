//! A count of what passes between hyper and TLS on one upstream connection: bytes since the exchange began, and the way
//! in which the peer ended the connection.

mod marks;

use std::{
    io,
    pin::Pin,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use self::marks::Marks;
use super::tcp::Tcp;
use crate::{
    head, socket,
    stamp::Stamp,
    telemetry::ends::Manner,
    tls::{self, Inflow, alert, alert_name},
};

/// The delay, beside a quarter of the limit, by which the kernel's timers must have ended a connection.
const RELAXES_AFTER: Duration = Duration::from_secs(1);

/// The number of bytes that fit into the receive window of even the smallest peer.
const SMALLEST_WINDOW: u64 = 2 * 1024;

/// The most times that one read looks at the socket itself: TLS tickets may come before the peer's end.
const LOOKS: usize = 4;

/// The counts, shared by the stream under hyper and the exchange above it.
#[derive(Debug, Default)]
pub struct Meter {
    /// The marks of the exchange.
    marks: Marks,
    /// The time at which the last write ended.
    last_write: Stamp,
    /// True if something was written after the last flush: hyper may hold more.
    unflushed: AtomicBool,
    /// The number of the alert that ended the connection, plus one; 0 if there was none.
    alert: AtomicU8,
    /// The way in which the peer ended the connection: a [`Manner`], plus one; 0 if it has not.
    peer_end: AtomicU8,
    /// True if reads look at the socket itself, until something is written.
    looks_at_socket: AtomicBool,
    /// The fault in the head at which hyper gave the connection up.
    fault: OnceLock<String>,
    /// True once the upstream broke the TLS protocol.
    violated: AtomicBool,
    /// The count of bytes received under TLS.
    inflow: Arc<Inflow>,
    /// The number of bytes written under TLS.
    sent: AtomicU64,
    /// The time in milliseconds for which written bytes may stay unacknowledged; 0 for the kernel's own limit.
    unacknowledged_limit: AtomicU32,
    /// True if that limit is to be lifted as soon as the peer has acknowledged something of the exchange.
    may_fill: AtomicBool,
    /// True once the kernel has given the connection up, as the peer acknowledged nothing any more.
    forgotten: AtomicBool,
}

/// The room in a peer's receive window for a request that the peer does not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All of the request fits, unless the peer's window is unusually small.
    Suffices,
    /// The peer may acknowledge a part, and have no room for the rest until it reads on.
    MayFill,
}

/// An end of a connection that the next one would meet again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The upstream asked for a handshake within the connection; rustls supports none, and TLS 1.3 has none.
    #[error(
        "asked for another TLS handshake (renegotiation) once it had the request, as IIS and Apache do where one path alone wants \
         a client certificate; there is none. Have it ask in the first handshake: Apache with SSLVerifyClient for the whole \
         virtual host, IIS with \"negotiate client certificate\" of the binding"
    )]
    Renegotiation,
    /// The upstream ended the connection with an alert that the next one would get, too.
    #[error("ended the connection with the alert {} before its response", alert_name(*.0))]
    Alert(AlertDescription),
    /// The upstream sent bytes that TLS does not allow.
    #[error("broke the TLS protocol before its response")]
    Violation,
}

impl Meter {
    /// Creates a meter that also reads the count of bytes received under TLS.
    pub fn over(inflow: Arc<Inflow>) -> Self {
        Self { inflow, ..Self::default() }
    }

    /// Clears the marks for a new exchange.
    pub(super) fn begin_exchange(&self) {
        self.inflow.begin_exchange();
        self.marks.begin(self.sent.load(Relaxed));
    }

    /// Makes the next reads look at the socket itself, until something is written: the peer may have ended the
    /// connection, or sent a response without a request. tokio alone would read only what had come when it last looked
    /// at all sockets together, which a busy thread does rarely.
    pub fn look_at_socket(&self) {
        self.looks_at_socket.store(true, Relaxed);
    }

    /// Limits the time for which written bytes may stay unacknowledged. The stream passes the limit to the socket when
    /// it is next read or written.
    pub fn limit_unacknowledged(&self, limit: Duration, window: Window) {
        let millis = u32::try_from(limit.as_millis()).unwrap_or(u32::MAX);
        self.unacknowledged_limit.store(millis, Relaxed);
        self.may_fill.store(window == Window::MayFill, Relaxed);
    }

    /// Lifts that limit: the kernel's own applies.
    pub fn lift_unacknowledged_limit(&self) {
        self.unacknowledged_limit.store(0, Relaxed);
    }

    /// Lifts that limit once the kernel must have applied it, or once a part of the exchange is acknowledged and the
    /// peer may have no room for the rest; returns true if it did. The kernel would apply the limit to its keep-alive
    /// probes too, and end a long exchange as soon as one of them is lost. It would also end the connection of a peer
    /// whose receive window is full: where that is to be expected, the limit is lifted once a part is acknowledged, and
    /// elsewhere once a part is and the rest is not. `unacknowledged` returns the number of bytes that are not, if the
    /// kernel reports it.
    pub fn relax_unacknowledged_limit(
        &self,
        now: Instant,
        unacknowledged: impl FnOnce() -> Option<u32>,
    ) -> bool {
        let limit = self.unacknowledged_limit();
        if limit.is_zero() {
            return false;
        }
        let last = limit.mul_f64(1.25) + RELAXES_AFTER;
        // Until something of the exchange is written, the last write is that of an earlier one.
        let is_due = || self.last_write().is_some_and(|at| now > at + last);
        let relaxes =
            self.sent_of_exchange() > 0 && is_due() || self.may_wait_for_room(unacknowledged);
        if relaxes {
            self.lift_unacknowledged_limit();
        }
        relaxes
    }

    /// Returns the number of bytes written under TLS since the exchange began.
    fn sent_of_exchange(&self) -> u64 {
        self.sent.load(Relaxed) - self.marks.sent_before()
    }

    /// True if the peer may have no room for the rest of the exchange: it has acknowledged a part. For a request that
    /// can fill any window also true if that cannot be known.
    fn may_wait_for_room(&self, unacknowledged: impl FnOnce() -> Option<u32>) -> bool {
        // Bytes written before the exchange are acknowledged before those of the exchange.
        let sent = self.sent_of_exchange();
        let is_part = |bytes| u64::from(bytes) < sent;
        if self.may_fill.load(Relaxed) {
            return self.marks.received() > 0 || sent > 0 && unacknowledged().is_none_or(is_part);
        }
        sent > SMALLEST_WINDOW && unacknowledged().is_some_and(|bytes| bytes > 0 && is_part(bytes))
    }

    /// Returns the time for which written bytes may stay unacknowledged; zero for the kernel's own limit.
    pub fn unacknowledged_limit(&self) -> Duration {
        Duration::from_millis(self.unacknowledged_limit.load(Relaxed).into())
    }

    /// True once the kernel has given the connection up, as the peer acknowledged nothing any more.
    pub fn is_forgotten(&self) -> bool {
        self.forgotten.load(Relaxed)
    }

    /// True if a byte of the response came since the exchange began.
    pub(super) fn has_begun(&self) -> bool {
        self.marks.received() > 0
    }

    /// Returns the time at which the first byte of the response came; `None` before that.
    pub fn first_byte(&self) -> Option<Instant> {
        self.marks.first_byte()
    }

    /// True if an informational response came since the exchange began.
    pub fn has_informed(&self) -> bool {
        self.marks.has_informed()
    }

    /// True if the next byte would begin a head: since the exchange began nothing came, or only whole informational
    /// responses.
    pub(super) fn awaits_head(&self) -> bool {
        self.marks.awaits_head()
    }

    /// Returns the time at which bytes were last written; `None` before the first.
    pub fn last_write(&self) -> Option<Instant> {
        self.last_write.get()
    }

    /// True if all that hyper held is written.
    pub fn is_flushed(&self) -> bool {
        !self.unflushed.load(Relaxed)
    }

    /// Returns the fatal alert that ended the connection; `None` if there was none.
    pub fn alert(&self) -> Option<AlertDescription> {
        self.alert.load(Relaxed).checked_sub(1).map(AlertDescription::from)
    }

    /// Returns the end of this connection, if the next one would meet it again; `None` for every other end, and before
    /// the end.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        if self.inflow.asks_for_renegotiation() {
            return Some(Refusal::Renegotiation);
        }
        let alert = self.alert().filter(|alert| alert::is_final(*alert)).map(Refusal::Alert);
        alert.or_else(|| self.violated.load(Relaxed).then_some(Refusal::Violation))
    }

    /// Returns the way in which the peer ended the connection, if it did.
    pub fn peer_end(&self) -> Option<Manner> {
        let index = self.peer_end.load(Relaxed).checked_sub(1)?;
        Manner::ALL.get(usize::from(index)).copied()
    }

    /// Examines a head that hyper did not read to its end, and keeps a description of its fault; keeps nothing if there
    /// is no fault in it.
    #[cold]
    pub fn note_unread(&self, head: &[u8]) {
        if let Some(fault) = head::fault_of_response(head) {
            // A connection has one end, so that this is set once.
            let _ = self.fault.set(fault);
        }
    }

    /// Returns the fault in the head at which hyper gave the connection up, if that is known.
    pub fn fault(&self) -> Option<String> {
        self.fault.get().cloned()
    }

    /// Notes bytes that came, and replaces the control bytes in heads that hyper would refuse; none are the peer's
    /// polite end. Fails after too many informational responses.
    fn note_read(&self, bytes: &mut [u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.note_end(Manner::Polite);
            return Ok(());
        }
        self.marks.note_read(bytes)
    }

    /// Notes the number of bytes that have been written under TLS.
    fn note_sent(&self, bytes: u64) {
        self.sent.store(bytes, Relaxed);
    }

    fn note_write(&self) {
        self.looks_at_socket.store(false, Relaxed);
        self.last_write.set(Instant::now());
    }

    /// Notes what an error means: the peer's alert, a breach of TLS, that the kernel gave up, and the end of the
    /// connection. Returns the error with a text for people.
    fn note_error(&self, error: io::Error) -> io::Error {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => {
                self.alert.store(u8::from(*alert).saturating_add(1), Relaxed);
            }
            // Bytes that cannot be decrypted may have been changed on the way.
            Some(rustls::Error::DecryptError) | None => {}
            Some(_) => self.violated.store(true, Relaxed),
        }
        let kind = error.kind();
        // The latter two come where a router has reported meanwhile why nothing arrives.
        if matches!(
            kind,
            io::ErrorKind::TimedOut
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        ) {
            self.forgotten.store(true, Relaxed);
        }
        self.note_end(match kind {
            io::ErrorKind::UnexpectedEof => Manner::Truncated,
            _ => Manner::Reset,
        });
        tls::in_words(error)
    }

    fn note_end(&self, how: Manner) {
        // Only the first end counts: an error after FIN is its consequence.
        let _ = self.peer_end.compare_exchange(0, how as u8 + 1, Relaxed, Relaxed);
    }
}

/// A TLS stream that keeps a [`Meter`].
pub struct MeteredStream {
    tls: TlsStream<Tcp>,
    meter: Arc<Meter>,
    /// True if TLS has nothing left to give until the socket brings more.
    drained: bool,
    /// True if the peer takes nothing any more: what is written is thrown away.
    deaf: bool,
    /// The limit on unacknowledged bytes that the socket has, in milliseconds.
    unacknowledged_limit: u32,
}

impl MeteredStream {
    /// Wraps a stream in a meter.
    pub fn new(tls: TlsStream<Tcp>, meter: Arc<Meter>) -> Self {
        // The bytes of the handshake belong to no exchange.
        meter.note_sent(tls.get_ref().0.written());
        Self { tls, meter, drained: false, deaf: false, unacknowledged_limit: 0 }
    }

    /// Returns the stream without its meter.
    pub fn into_inner(self) -> TlsStream<Tcp> {
        self.tls
    }

    /// Hides a write's error from hyper where the peer has ended the connection. The peer's answer may have come before
    /// that and be in the socket still: hyper, given the error, would not read it. The reads that follow report the
    /// end.
    #[cold]
    fn note_write_error(&mut self, error: io::Error) -> io::Result<()> {
        let error = self.meter.note_error(error);
        self.deaf = matches!(
            error.kind(),
            io::ErrorKind::BrokenPipe
                | io::ErrorKind::ConnectionReset
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::TimedOut
        );
        if self.deaf { Ok(()) } else { Err(error) }
    }

    /// Returns the TCP connection under TLS.
    pub fn tcp(&self) -> &Tcp {
        self.tls.get_ref().0
    }

    /// Passes a changed limit on unacknowledged bytes to the socket.
    fn apply_unacknowledged_limit(&mut self) {
        let limit = self.meter.unacknowledged_limit.load(Relaxed);
        if limit != self.unacknowledged_limit {
            self.change_unacknowledged_limit(limit);
        }
    }

    /// Sets the socket's limit on unacknowledged bytes, in milliseconds; 0 is the kernel's own. A socket that refuses
    /// is only logged.
    #[cold]
    fn change_unacknowledged_limit(&mut self, limit: u32) {
        self.unacknowledged_limit = limit;
        if let Err(error) =
            socket::set_unacknowledged_limit(self.tcp(), Duration::from_millis(limit.into()))
        {
            tracing::debug!(%error, "a socket takes no TCP_USER_TIMEOUT");
        }
    }

    /// Reads what the socket holds, whatever tokio knows of it; pending if that gives no plain bytes. Fails if the
    /// socket or TLS does.
    fn read_now(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        for _ in 0..LOOKS {
            let (tcp, session) = self.tls.get_mut();
            match session.read_tls(&mut tcp.reading_now()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Poll::Ready(Err(error)),
                Ok(_) => {}
            }
            if let Err(error) = session.process_new_packets() {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            let read = Pin::new(&mut self.tls).poll_read(cx, buffer);
            if read.is_ready() {
                return read;
            }
        }
        Poll::Pending
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.apply_unacknowledged_limit();
        // hyper asks six times in vain for each response: a question to the socket alone costs a third.
        let looks_at_socket = self.meter.looks_at_socket.load(Relaxed);
        if self.drained && !looks_at_socket && self.tls.get_ref().0.poll_read_ready(cx).is_pending()
        {
            return Poll::Pending;
        }
        let before = buffer.filled().len();
        let mut read = Pin::new(&mut self.tls).poll_read(cx, buffer);
        if read.is_pending() && looks_at_socket {
            read = self.read_now(cx, buffer);
        }
        self.drained = read.is_pending();
        Poll::Ready(match ready!(read) {
            Ok(()) => {
                let read = &mut buffer.filled_mut()[before..];
                self.meter.inflow.was_application_data(read.len());
                self.meter.note_read(read)
            }
            Err(error) => Err(self.meter.note_error(error)),
        })
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.apply_unacknowledged_limit();
        self.meter.unflushed.store(true, Relaxed);
        if self.deaf {
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = Pin::new(&mut self.tls).poll_write(cx, bytes);
        self.meter.note_sent(self.tcp().written());
        Poll::Ready(match ready!(written) {
            Ok(written) => {
                self.meter.note_write();
                Ok(written)
            }
            Err(error) => self.note_write_error(error).map(|()| bytes.len()),
        })
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // hyper flushes once its own buffer is empty.
        let flushed =
            if self.deaf { Poll::Ready(Ok(())) } else { Pin::new(&mut self.tls).poll_flush(cx) };
        self.meter.note_sent(self.tcp().written());
        let flushed = ready!(flushed);
        self.meter.unflushed.store(false, Relaxed);
        Poll::Ready(flushed.or_else(|error| self.note_write_error(error)))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}

#[cfg(test)]
pub(super) mod doubted;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_08_the_last_write_of_an_earlier_exchange_lifts_no_limit() {
        let (meter, limit) = (Meter::default(), Duration::from_secs(5));
        meter.begin_exchange();
        meter.note_sent(1_000);
        meter.note_write();
        let late = Instant::now() + 4 * limit;
        meter.begin_exchange();
        meter.limit_unacknowledged(limit, Window::Suffices);
        assert!(!meter.relax_unacknowledged_limit(late, || panic!("nothing of it was sent")));
        assert_eq!(meter.unacknowledged_limit(), limit);
        meter.note_sent(2_000);
        meter.note_write();
        assert!(meter.relax_unacknowledged_limit(late, || panic!("so little fits everywhere")));
    }

    #[test]
    fn fault_08_a_long_request_may_wait_for_the_peer_once_that_has_acknowledged_something_of_it() {
        let now = Instant::now();
        for (window, told, lifted) in [
            (Window::MayFill, Some(9_500), false),
            (Window::MayFill, Some(9_000), false),
            (Window::MayFill, Some(8_999), true),
            (Window::MayFill, None, true),
            (Window::Suffices, Some(9_000), false),
            (Window::Suffices, Some(8_999), true),
            (Window::Suffices, Some(0), false),
            (Window::Suffices, None, false),
        ] {
            let meter = Meter::default();
            meter.note_sent(1_000);
            meter.begin_exchange();
            meter.limit_unacknowledged(Duration::from_secs(5), window);
            assert!(
                !meter.relax_unacknowledged_limit(now, || panic!("nothing of it was sent")),
                "{window:?}"
            );
            meter.note_sent(10_000);
            assert_eq!(
                meter.relax_unacknowledged_limit(now, || told),
                lifted,
                "{window:?} {told:?}"
            );
            assert_eq!(meter.unacknowledged_limit().is_zero(), lifted);
        }
        let meter = Meter::default();
        meter.limit_unacknowledged(Duration::from_secs(5), Window::Suffices);
        meter.note_sent(SMALLEST_WINDOW);
        assert!(!meter.relax_unacknowledged_limit(now, || panic!("so little fits everywhere")));
        let meter = Meter::default();
        meter.limit_unacknowledged(Duration::from_secs(5), Window::MayFill);
        meter.note_read(&mut b"HTTP/1.1 ".to_owned()).expect("a status line");
        assert!(meter.relax_unacknowledged_limit(now, || panic!("an answer is proof enough")));
    }
}
