//! The application's side: a raw client that writes any bytes and sees how a connection ends, and on top of that a
//! well-behaved HTTP/1.1 client.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use super::{
    PATIENCE,
    message::{Body, Framing, Head},
};

/// The pause after which nobody reads on.
const BLOCKED: Duration = Duration::from_secs(2);

/// A connection to Warmline.
pub struct Client {
    stream: TcpStream,
    /// Bytes that were read and not yet taken.
    buffer: Vec<u8>,
    /// The buffer that each read fills first.
    scratch: Vec<u8>,
}

/// A complete response.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The final status.
    pub status: u16,
    /// The final head.
    pub head: Head,
    /// The content; empty if a sink got it.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Vec<(String, String)>,
    /// The heads of the 1xx responses before the final one.
    pub interim: Vec<Head>,
}

/// A response that did not come completely.
#[derive(Debug)]
pub struct IncompleteResponse {
    /// The end of the connection, or the reason why the bytes are not a response.
    pub end: Ending,
    /// The part that came; the status is 0 if no complete head came.
    pub partial: Response,
}

/// The way in which Warmline ended a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// FIN.
    Fin,
    /// RST.
    Reset,
    /// No end: Warmline broke the protocol, or was silent for too long.
    Malformed(String),
}

impl Client {
    /// Connects to a listener.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("the listener accepts");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        stream.set_nodelay(true).expect("a socket option");
        Self { stream, buffer: Vec::new(), scratch: vec![0; 64 * 1024] }
    }

    /// Returns the client's address, which Warmline sees.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has one")
    }

    /// Writes all of these bytes; panics if Warmline has closed.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the connection takes what is written");
    }

    /// Writes all of these bytes; an error says that Warmline has closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes up to `limit` bytes for as long as they are taken; returns the number that was written. On a busy machine
    /// those who read may pause, so that only a long pause shows that they do not read on.
    pub fn send_until_blocked(&mut self, limit: usize) -> usize {
        self.send_until(limit, BLOCKED, |_| false)
    }

    /// Writes up to `limit` bytes until there is something to read: an answer, or the end.
    pub fn send_until_answered(&mut self, limit: usize) -> usize {
        self.send_until(limit, PATIENCE, Self::has_something_to_read)
    }

    /// Writes up to `limit` bytes until the condition holds, or none is taken for so long.
    fn send_until(
        &mut self,
        limit: usize,
        longest: Duration,
        condition: impl Fn(&mut Self) -> bool,
    ) -> usize {
        let (mut sent, piece, mut last) = (0, vec![b'x'; 64 * 1024], Instant::now());
        self.stream.set_write_timeout(Some(Duration::from_millis(20))).expect("a socket option");
        while sent < limit && last.elapsed() < longest && !condition(self) {
            match self.stream.write(&piece[..piece.len().min(limit - sent)]) {
                Ok(count) => (sent, last) = (sent + count, Instant::now()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(_) => break,
            }
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        sent
    }

    /// Sends a request without a body and reads the response.
    pub fn request(&mut self, method: &str, host: &str, target: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response_to(method).unwrap_or_else(|broken| panic!("{method} {target}: {broken:#?}"))
    }

    /// Sends a GET and reads the response.
    pub fn get(&mut self, host: &str, target: &str) -> Response {
        self.request("GET", host, target)
    }

    /// Sends a POST with a content-length and reads the response.
    pub fn post(&mut self, host: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
        let length = body.as_ref().len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.response()
    }

    /// Reads the response to any method but HEAD; panics if it does not come completely.
    pub fn response(&mut self) -> Response {
        self.response_to("GET").unwrap_or_else(|broken| panic!("no whole response: {broken:#?}"))
    }

    /// Reads the response to a request of this method, from which follows whether a body comes.
    pub fn response_to(&mut self, method: &str) -> Result<Response, Box<IncompleteResponse>> {
        let mut body = Vec::new();
        let result = self.response_into(method, &mut |bytes| body.extend_from_slice(bytes));
        match result {
            Ok(response) => Ok(Response { body, ..response }),
            Err(mut broken) => {
                broken.partial.body = body;
                Err(broken)
            }
        }
    }

    /// Reads the response to a request of this method; the sink gets its content piece by piece.
    pub fn response_into(
        &mut self,
        method: &str,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Response, Box<IncompleteResponse>> {
        let mut response = Response::default();
        match self.read_response(method, &mut response, sink) {
            Ok(()) => Ok(response),
            Err(end) => Err(Box::new(IncompleteResponse { end, partial: response })),
        }
    }

    /// Reads the next head alone, be it informational; the content follows by [`Client::read_some`].
    pub fn response_head(&mut self) -> Head {
        self.head().unwrap_or_else(|end| panic!("no response: {end:?}"))
    }

    /// Returns all bytes that were read and not taken, or else those of the next read.
    pub fn read_some(&mut self) -> Result<Vec<u8>, Ending> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads to the connection's end; returns the way it ended and the bytes before.
    pub fn end(&mut self) -> (Ending, Vec<u8>) {
        loop {
            if let Err(end) = self.fill() {
                return (end, std::mem::take(&mut self.buffer));
            }
        }
    }

    /// True if bytes or an end can be read now.
    pub fn has_something_to_read(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket option");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket option");
        !self.buffer.is_empty() || !peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }

    /// Asserts that nothing can be read at this moment, not even an end.
    pub fn assert_silent(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket option");
        let end = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let (bytes, silent) = (self.buffer.escape_ascii(), Ending::Malformed(SILENCE.into()));
        assert!(end == Err(silent) && self.buffer.is_empty(), "it is not silent: {bytes} {end:?}");
    }

    /// Sends FIN; reading goes on.
    pub fn half_close(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Closes with RST.
    pub fn reset(self) {
        let _ = socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO));
    }

    fn read_response(
        &mut self,
        method: &str,
        response: &mut Response,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<(), Ending> {
        loop {
            response.head = self.head()?;
            response.status = status(&response.head)?;
            if response.status == 101 || response.status >= 200 {
                break;
            }
            response.interim.push(std::mem::take(&mut response.head));
        }
        let mut body = Body::new(framing(method, response)?);
        loop {
            body.read(&mut self.buffer, sink).map_err(|why| Ending::Malformed(why.0))?;
            if body.is_complete() {
                response.trailers = std::mem::take(&mut body.trailers);
                return Ok(());
            }
            match self.fill() {
                Err(Ending::Fin) if body.ends_with_connection() => return Ok(()),
                filled => filled?,
            }
        }
    }

    fn head(&mut self) -> Result<Head, Ending> {
        loop {
            match Head::take(&mut self.buffer) {
                Ok(Some(head)) => return Ok(head),
                Ok(None) => self.fill()?,
                Err(malformed) => return Err(Ending::Malformed(malformed.0)),
            }
        }
    }

    fn fill(&mut self) -> Result<(), Ending> {
        match self.stream.read(&mut self.scratch) {
            Ok(0) => Err(Ending::Fin),
            Ok(count) => {
                self.buffer.extend_from_slice(&self.scratch[..count]);
                Ok(())
            }
            // The kernel does not go on by itself with a read that has a time limit, once the process was stopped.
            Err(error) if error.kind() == ErrorKind::Interrupted => self.fill(),
            Err(error) => Err(match error.kind() {
                ErrorKind::ConnectionReset | ErrorKind::BrokenPipe => Ending::Reset,
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Ending::Malformed(SILENCE.into()),
                _ => Ending::Malformed(error.to_string()),
            }),
        }
    }
}

const SILENCE: &str = "nothing came in time";

impl Response {
    /// Returns the content as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

fn status(head: &Head) -> Result<u16, Ending> {
    let malformed = || Ending::Malformed(format!("the status line {:?}", head.start));
    let rest = head.start.strip_prefix("HTTP/1.1 ").or(head.start.strip_prefix("HTTP/1.0 "));
    let digits = rest.and_then(|rest| rest.get(..3)).ok_or_else(malformed)?;
    digits.parse().map_err(|_| malformed())
}

fn framing(method: &str, response: &Response) -> Result<Framing, Ending> {
    let declared = response.head.declared_framing().map_err(|why| Ending::Malformed(why.0))?;
    let bare = method == "HEAD" || response.status == 204 || response.status == 304;
    Ok(if bare { Framing::Length(0) } else { declared.unwrap_or(Framing::UntilClose) })
}
