//! The TCP connection under TLS: counts bytes, and reads the headers of TLS records as long as they tell something.

use std::{
    io::{self, IoSlice},
    ops::Deref,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use socket2::SockRef;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::tls::{Inflow, Records, Version};

/// A TCP connection to an upstream.
pub struct Tcp {
    stream: TcpStream,
    inflow: Arc<Inflow>,
    /// The reader of record headers; `None` once they tell nothing more, as TLS 1.3 hides the kind of each later
    /// record.
    records: Option<Box<Records>>,
    /// The number of bytes written so far.
    written: u64,
}

impl Tcp {
    /// Wraps a connection whose handshake is about to begin.
    pub fn new(stream: TcpStream, inflow: Arc<Inflow>) -> Self {
        Self { stream, inflow, records: Some(Box::default()), written: 0 }
    }

    /// Notes that the handshake is done: under this version the headers of later records are read, or not.
    pub fn handshake_done(&mut self, version: Version) {
        if version == Version::Tls13 {
            self.records = None;
        } else if let Some(records) = &mut self.records {
            records.handshake_done();
        }
    }

    /// Returns the count of the bytes that came so far.
    pub fn inflow(&self) -> &Arc<Inflow> {
        &self.inflow
    }

    /// Returns the number of bytes written so far.
    pub fn written(&self) -> u64 {
        self.written
    }

    /// Returns the connection without its counters.
    pub fn into_inner(self) -> TcpStream {
        self.stream
    }

    /// Returns a reader of what the kernel holds, whatever tokio knows of it.
    pub fn reading_now(&mut self) -> impl io::Read + '_ {
        ReadNow(self)
    }

    /// Counts written bytes, and passes the result on.
    fn went(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if let Poll::Ready(Ok(count)) = written {
            self.written += count as u64;
        }
        written
    }

    /// Counts bytes that came, and reads the headers of TLS records in them as long as they tell something.
    fn came(&mut self, bytes: &[u8]) {
        self.inflow.came(bytes.len());
        if let Some(records) = &mut self.records {
            records.read(bytes, &self.inflow);
        }
    }
}

impl Deref for Tcp {
    type Target = TcpStream;

    fn deref(&self) -> &TcpStream {
        &self.stream
    }
}

struct ReadNow<'a>(&'a mut Tcp);

impl io::Read for ReadNow<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = io::Read::read(&mut &*SockRef::from(&self.0.stream), buffer)?;
        self.0.came(&buffer[..read]);
        Ok(read)
    }
}

impl AsyncRead for Tcp {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.came(&buffer.filled()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Tcp {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.went(written)
    }

    /// Writes a single slice, as rustls hands over each record, by `send`: `writev` costs 1 % of a request more.
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if let [single] = bytes {
            return self.poll_write(cx, single);
        }
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.went(written)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
