//! The application's side: a raw client that writes any bytes and sees how a connection ends, and on top of it a
//! well-behaved HTTP/1.1 client.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Duration,
};

use super::{
    PATIENCE,
    message::{Body, Framing, Head},
};

/// A connection to Warmline.
pub struct Client {
    stream: TcpStream,
    /// Read and not yet taken.
    buffer: Vec<u8>,
    /// Where reads go first.
    scratch: Vec<u8>,
}

/// A whole response.
#[derive(Debug, Clone, Default)]
pub struct Response {
    /// The final status.
    pub status: u16,
    /// The final head.
    pub head: Head,
    /// The content; empty when it went into a sink.
    pub body: Vec<u8>,
    /// The trailer fields.
    pub trailers: Vec<(String, String)>,
    /// The heads of 1xx responses before it.
    pub interim: Vec<Head>,
}

/// A response that did not come whole.
#[derive(Debug)]
pub struct Broken {
    /// How the connection ended, or why the response is no response.
    pub end: Ending,
    /// What came of it; the status is 0 when no head did.
    pub partial: Response,
}

/// How Warmline ended a client's connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ending {
    /// FIN.
    Fin,
    /// RST.
    Reset,
    /// Not at all: it broke the protocol.
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

    /// The address that Warmline sees.
    pub fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket has one")
    }

    /// Writes these bytes, all of them.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the connection takes what is written");
    }

    /// Writes these bytes; an error tells that Warmline closed.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref())
    }

    /// Writes up to so many bytes, as long as they are taken; answers how many were.
    pub fn send_until_blocked(&mut self, limit: usize) -> usize {
        let (mut sent, piece) = (0, vec![b'x'; 64 * 1024]);
        self.stream.set_write_timeout(Some(Duration::from_millis(200))).expect("a socket option");
        while sent < limit
            && let Ok(count) = self.stream.write(&piece[..piece.len().min(limit - sent)])
        {
            sent += count;
        }
        self.stream.set_write_timeout(Some(PATIENCE)).expect("a socket option");
        sent
    }

    /// Sends a request without a body and reads the response.
    pub fn request(&mut self, method: &str, host: &str, target: &str) -> Response {
        self.send(format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        self.response_to(method).unwrap_or_else(|broken| panic!("{method} {target}: {broken:#?}"))
    }

    /// GET.
    pub fn get(&mut self, host: &str, target: &str) -> Response {
        self.request("GET", host, target)
    }

    /// POST with a body that has a length.
    pub fn post(&mut self, host: &str, target: &str, body: impl AsRef<[u8]>) -> Response {
        let length = body.as_ref().len();
        self.send(format!(
            "POST {target} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {length}\r\n\r\n"
        ));
        self.send(body);
        self.response()
    }

    /// Reads the response to anything but HEAD; panics when it does not come whole.
    pub fn response(&mut self) -> Response {
        self.response_to("GET").unwrap_or_else(|broken| panic!("no whole response: {broken:#?}"))
    }

    /// Reads the response to this method.
    pub fn response_to(&mut self, method: &str) -> Result<Response, Box<Broken>> {
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

    /// Reads the response to this method; its content goes into the sink.
    pub fn response_into(
        &mut self,
        method: &str,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Response, Box<Broken>> {
        let mut response = Response::default();
        match self.read_response(method, &mut response, sink) {
            Ok(()) => Ok(response),
            Err(end) => Err(Box::new(Broken { end, partial: response })),
        }
    }

    /// Reads the final head alone; the content follows by [`Client::read_some`].
    pub fn response_head(&mut self) -> Head {
        self.head().unwrap_or_else(|end| panic!("no response: {end:?}"))
    }

    /// Reads at least one byte beyond what was taken, and takes all of it.
    pub fn read_some(&mut self) -> Result<Vec<u8>, Ending> {
        if self.buffer.is_empty() {
            self.fill()?;
        }
        Ok(std::mem::take(&mut self.buffer))
    }

    /// Reads to the connection's end; answers how it ended and what came before.
    pub fn end(&mut self) -> (Ending, Vec<u8>) {
        loop {
            if let Err(end) = self.fill() {
                return (end, std::mem::take(&mut self.buffer));
            }
        }
    }

    /// Whether something is there to read, be it an end.
    pub fn has_something_to_read(&mut self) -> bool {
        self.stream.set_nonblocking(true).expect("a socket option");
        let peeked = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).expect("a socket option");
        !self.buffer.is_empty() || !peeked.is_err_and(|e| e.kind() == ErrorKind::WouldBlock)
    }

    /// Asserts that nothing is there to read at this moment, not even an end.
    pub fn assert_silent(&mut self) {
        self.stream.set_read_timeout(Some(Duration::from_millis(1))).expect("a socket option");
        let end = self.fill();
        self.stream.set_read_timeout(Some(PATIENCE)).expect("a socket option");
        let (bytes, silent) = (self.buffer.escape_ascii(), Ending::Malformed(SILENCE.into()));
        assert!(end == Err(silent) && self.buffer.is_empty(), "it is not silent: {bytes} {end:?}");
    }

    /// Sends FIN and goes on reading.
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
    /// The content as text.
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
