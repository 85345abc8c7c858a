//! What passes between hyper and TLS on one upstream connection: bytes since the exchange began, and how the peer
//! ended.

use std::{
    io,
    pin::Pin,
    sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed},
    task::{Context, Poll, ready},
    time::Instant,
};

use rustls::AlertDescription;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::client::TlsStream;

use crate::{stamp::Stamp, telemetry::ends::Manner};

/// Informational responses that one exchange may bring (RFC 9110 section 15.2 sets no bound).
const INFORMATIONAL: u32 = 16;
/// How a response head begins that is informational, but for the minor version's digit.
const INFORMATIONAL_HEAD: &[u8] = b"HTTP/1.1 1";

/// The counts, shared by the stream under hyper and the exchange above it.
#[derive(Debug, Default)]
pub struct Meter {
    /// Plain bytes read since the exchange began.
    received: AtomicU64,
    /// When the first of them came.
    first_byte: Stamp,
    /// When the last write ended.
    last_write: Stamp,
    /// The alert that ended the connection, plus one; 0 is none.
    alert: AtomicU8,
    /// How the peer ended: a [`Manner`], plus one; 0 is not yet.
    peer_end: AtomicU8,
    /// Informational response heads since the exchange began.
    informational: AtomicU32,
}

impl Meter {
    /// An exchange begins.
    pub fn begin_exchange(&self) {
        self.received.store(0, Relaxed);
        self.informational.store(0, Relaxed);
        self.first_byte.clear();
    }

    /// Plain bytes read since the exchange began: if any, the response has begun.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// When the first byte of the response came.
    pub fn first_byte(&self) -> Option<Instant> {
        self.first_byte.get()
    }

    /// When bytes last went out.
    pub fn last_write(&self) -> Option<Instant> {
        self.last_write.get()
    }

    /// The fatal alert that ended the connection.
    pub fn alert(&self) -> Option<AlertDescription> {
        self.alert.load(Relaxed).checked_sub(1).map(AlertDescription::from)
    }

    /// How the peer ended the connection, if it did.
    pub fn peer_end(&self) -> Option<Manner> {
        let index = self.peer_end.load(Relaxed).checked_sub(1)?;
        Manner::ALL.get(usize::from(index)).copied()
    }

    fn note_read(&self, bytes: &[u8]) -> io::Result<()> {
        if bytes.is_empty() {
            self.note_end(Manner::Polite);
            return Ok(());
        }
        let before = self.received.fetch_add(bytes.len() as u64, Relaxed);
        if before == 0 {
            self.first_byte.set(Instant::now());
        }
        self.note_informational(bytes, before == 0)
    }

    /// hyper skips informational responses without a bound: count them, once the first is seen at the very start.
    fn note_informational(&self, bytes: &[u8], first: bool) -> io::Result<()> {
        let counted = self.informational.load(Relaxed);
        if !(counted > 0 || (first && bytes.starts_with(INFORMATIONAL_HEAD))) {
            return Ok(());
        }
        let heads = bytes.windows(INFORMATIONAL_HEAD.len()).filter(|w| *w == INFORMATIONAL_HEAD);
        let counted = counted + heads.count() as u32;
        self.informational.store(counted.max(1), Relaxed);
        if counted > INFORMATIONAL {
            return Err(io::Error::other("more than 16 informational responses"));
        }
        Ok(())
    }

    fn note_error(&self, error: &io::Error) {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        if let Some(rustls::Error::AlertReceived(alert)) = tls {
            self.alert.store(u8::from(*alert).saturating_add(1), Relaxed);
        }
        self.note_end(match error.kind() {
            io::ErrorKind::UnexpectedEof => Manner::Truncated,
            _ => Manner::Reset,
        });
    }

    fn note_end(&self, how: Manner) {
        // Only the first end counts: an error after FIN is its consequence.
        let _ = self.peer_end.compare_exchange(0, how as u8 + 1, Relaxed, Relaxed);
    }
}

/// A TLS stream that keeps a [`Meter`].
pub struct MeteredStream {
    tls: TlsStream<TcpStream>,
    meter: std::sync::Arc<Meter>,
}

impl MeteredStream {
    /// Meters a stream.
    pub fn new(tls: TlsStream<TcpStream>, meter: std::sync::Arc<Meter>) -> Self {
        Self { tls, meter }
    }

    /// The stream alone.
    pub fn into_inner(self) -> TlsStream<TcpStream> {
        self.tls
    }
}

impl AsyncRead for MeteredStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let result = ready!(Pin::new(&mut self.tls).poll_read(cx, buffer));
        Poll::Ready(match result {
            Ok(()) => self.meter.note_read(&buffer.filled()[before..]),
            Err(error) => {
                self.meter.note_error(&error);
                Err(error)
            }
        })
    }
}

impl AsyncWrite for MeteredStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = ready!(Pin::new(&mut self.tls).poll_write(cx, bytes));
        match &result {
            Ok(_) => self.meter.last_write.set(Instant::now()),
            Err(error) => self.meter.note_error(error),
        }
        Poll::Ready(result)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
