//! A connection from the view of an origin's script: read a request, write any bytes, end in any way.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use super::{
    record::{End, Witness},
    service::IdleEnd,
};
use crate::support::message::{Body, Framing, Head};

/// The stream of a connection, with or without TLS.
pub(super) enum Wire {
    Tls(Box<TlsStream<TcpStream>>),
    Plain(TcpStream),
}

/// A connection that a script controls. When dropped, its socket is closed at once, without `close_notify`, and bytes
/// that come later are answered by RST.
pub struct Connection {
    number: usize,
    wire: Wire,
    /// Bytes that were read and not yet taken.
    buffer: Vec<u8>,
    witness: Arc<Witness>,
    /// The way in which the peer ended the connection; `None` while it has not.
    end: Option<End>,
}

impl Connection {
    pub(super) fn new(number: usize, wire: Wire, witness: Arc<Witness>) -> Self {
        Self { number, wire, buffer: Vec::new(), witness, end: None }
    }

    /// Returns the connection's number, counted from 0 in order of acceptance.
    pub fn number(&self) -> usize {
        self.number
    }

    /// Reads the next request and returns its body; `None` if the peer ended before the request was complete.
    pub async fn request(&mut self) -> Option<Vec<u8>> {
        let head = self.head().await?;
        let mut body = Vec::new();
        self.body(&head, &mut |bytes| body.extend_from_slice(bytes)).await.ok()?;
        Some(body)
    }

    /// Reads the next request's head; `None` if the peer ended before the head was complete.
    pub async fn head(&mut self) -> Option<Head> {
        loop {
            match Head::take(&mut self.buffer) {
                Ok(Some(head)) => {
                    self.witness.requested(self.number, &head);
                    return Some(head);
                }
                Ok(None) => self.fill().await.ok()?,
                Err(malformed) => panic!("the request is malformed: {malformed}"),
            }
        }
    }

    /// Reads the body that belongs to this head; returns the trailers, or the peer's end within the body.
    pub async fn body(
        &mut self,
        head: &Head,
        sink: &mut (dyn FnMut(&[u8]) + Send),
    ) -> Result<Vec<(String, String)>, End> {
        let framing = head.declared_framing().unwrap_or_else(|why| panic!("{why}"));
        let mut body = Body::new(framing.unwrap_or(Framing::Length(0)));
        loop {
            if let Err(malformed) = body.read(&mut self.buffer, sink) {
                panic!("the request's body is malformed: {malformed}");
            }
            if body.is_complete() {
                return Ok(body.trailers);
            }
            self.fill().await?;
        }
    }

    /// Reads at least one byte more into the buffer; cancelling loses nothing.
    pub async fn fill(&mut self) -> Result<(), End> {
        self.buffer.reserve(16 * 1024);
        let read = match &mut self.wire {
            Wire::Tls(stream) => stream.read_buf(&mut self.buffer).await,
            Wire::Plain(stream) => stream.read_buf(&mut self.buffer).await,
        };
        match read {
            Ok(0) => Err(self.ended_with(End::Polite)),
            Ok(_) => Ok(()),
            Err(error) => Err(self.ended_with(end_of(&error))),
        }
    }

    /// True if bytes were read that no request has taken.
    pub fn has_unread(&self) -> bool {
        !self.buffer.is_empty()
    }

    /// Returns the number of bytes that were read and no request has taken.
    pub fn unread(&self) -> usize {
        self.buffer.len()
    }

    /// Takes the bytes that were read and belong to no request yet, for a script that speaks another protocol.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.buffer)
    }

    /// Writes these bytes and flushes them; returns false if the peer has gone.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let bytes = bytes.as_ref();
        let written = match &mut self.wire {
            Wire::Tls(stream) => match stream.write_all(bytes).await {
                Ok(()) => stream.flush().await,
                error => error,
            },
            Wire::Plain(stream) => stream.write_all(bytes).await,
        };
        // The socket reports a reset once: after a failed write no read reports it.
        written.map_err(|error| self.ended_with(end_of(&error))).is_ok()
    }

    /// Answers 200 with this text; returns false if the peer has gone.
    pub async fn answer(&mut self, text: &str) -> bool {
        let length = text.len();
        self.write(format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{text}")).await
    }

    /// Reads until the peer ends the connection; returns the way it ended, and every byte before.
    pub async fn ended(&mut self) -> (End, Vec<u8>) {
        loop {
            if let Some(end) = self.end {
                return (end, std::mem::take(&mut self.buffer));
            }
            let _ = self.fill().await;
        }
    }

    /// Waits up to `limit` for the next request; returns true if none began.
    pub async fn idles(&mut self, limit: Duration) -> bool {
        !self.has_unread() && tokio::time::timeout(limit, self.fill()).await.is_err()
    }

    /// Ends the connection in this way, like an origin whose idle time is over.
    pub async fn end_idle(mut self, how: IdleEnd) {
        match how {
            IdleEnd::Polite => self.close().await,
            IdleEnd::Closed => self.half_close().await,
            IdleEnd::Truncated => {
                self.half_close_without_notify().await;
                self.ended().await;
            }
            IdleEnd::Reset => self.reset(),
        }
    }

    /// Ends the origin's side politely, with `close_notify` and FIN; reading goes on.
    pub async fn half_close(&mut self) {
        let _ = match &mut self.wire {
            Wire::Tls(stream) => stream.shutdown().await,
            Wire::Plain(stream) => stream.shutdown().await,
        };
    }

    /// Ends the origin's side with FIN alone, without `close_notify`; reading goes on.
    pub async fn half_close_without_notify(&mut self) {
        let _ = self.socket().shutdown().await;
    }

    /// Ends the origin's side politely and waits until the peer has ended too.
    pub async fn close(mut self) {
        self.half_close().await;
        self.ended().await;
        self.drain().await;
    }

    /// Closes with RST.
    pub fn reset(mut self) {
        let _ = self.socket().set_zero_linger();
    }

    /// Waits until the peer has closed and then until the test is over, like an origin that hangs.
    pub async fn stall(mut self) {
        self.ended().await;
        std::future::pending::<()>().await;
    }

    /// Reads nothing until the test is over.
    pub async fn reads_nothing(self) {
        std::future::pending::<()>().await;
        drop(self);
    }

    /// Counts the bytes between the peer's `close_notify` and its FIN.
    async fn drain(&mut self) {
        let (number, witness) = (self.number, Arc::clone(&self.witness));
        let mut bytes = [0; 4096];
        while let Ok(count @ 1..) = self.socket().read(&mut bytes).await {
            witness.update(|record| record.connections[number].bytes_after_close += count);
        }
    }

    fn socket(&mut self) -> &mut TcpStream {
        match &mut self.wire {
            Wire::Tls(stream) => stream.get_mut().0,
            Wire::Plain(stream) => stream,
        }
    }

    fn ended_with(&mut self, end: End) -> End {
        if self.end.replace(end).is_none() {
            self.witness.update(|record| record.connections[self.number].end = Some(end));
            self.witness.closed(self.number);
        }
        end
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        if self.end.is_none() {
            self.witness.closed(self.number);
        }
    }
}

fn end_of(error: &io::Error) -> End {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => End::Reset,
        _ => End::Truncated,
    }
}
