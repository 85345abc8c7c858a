//! The well-behaved origin: keep-alive HTTP/1.1 over the whole range of framings, and idle closes at random.
//!
//! | target | answer |
//! |---|---|
//! | `/bytes/N` | N bytes of the pattern with a length |
//! | `/chunked/N` | the same in chunks |
//! | `/trailers` | chunks and the announced trailer `x-sum: 7` |
//! | `/echo` | the request's body, framed as it came |
//! | `/count` | the length of the request's body, and `right` if it was the pattern |
//! | `/hold` | `held` after [`Gate::open`] |
//! | `/status/N` | that status without a body |
//! | `/close` | `closing`, with `Connection: close` |
//! | any other | `hello` |

use std::time::Duration;

use super::{connection::Connection, gate::Gate};
use crate::support::{
    message::{Framing, Head},
    pattern,
};

/// The rule by which the well-behaved origin closes idle connections.
#[derive(Debug, Clone, Copy)]
pub struct IdleClose {
    /// The upper bound of the random time after which an idle connection is closed.
    pub within: Duration,
    /// The seed of the random times.
    pub seed: u64,
    /// The way of closing.
    pub how: IdleEnd,
}

/// A way in which an origin closes an idle connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleEnd {
    /// `close_notify` and FIN, then reading until the peer ends: a request on the way is dropped unread.
    Polite,
    /// `close_notify`, then the socket is closed: a request on the way is answered by RST.
    Closed,
    /// FIN without `close_notify`.
    Truncated,
    /// RST.
    Reset,
}

/// The well-behaved origin.
pub(super) struct Service {
    pub(super) gate: Gate,
    pub(super) idle: Option<IdleClose>,
}

impl Service {
    /// Serves one connection until it ends.
    pub(super) async fn serve(&self, mut connection: Connection) {
        let mut random = self.random(connection.number());
        while let Some(head) = connection.head().await {
            let closes = self.exchange(&mut connection, &head).await;
            if closes || head.field("connection") == Some("close") {
                return connection.close().await;
            }
            if let Some(idle) = self.idle {
                let limit = random.u64(0..=idle.within.as_micros() as u64);
                if connection.idles(Duration::from_micros(limit)).await {
                    return connection.end_idle(idle.how).await;
                }
            }
        }
        connection.close().await;
    }

    /// Answers one request; returns true if the answer announced a close.
    async fn exchange(&self, connection: &mut Connection, head: &Head) -> bool {
        let words: Vec<&str> = head.start.split(' ').collect();
        let path: Vec<&str> = words[1].trim_start_matches('/').split('/').collect();
        if head.field("expect").is_some() {
            connection.write("HTTP/1.1 100 Continue\r\n\r\n").await;
        }
        let argument = path.get(1).and_then(|word| word.parse().ok()).unwrap_or_default();
        let answer = Answer { connection, head, silent: words[0] == "HEAD" };
        match path[0] {
            "bytes" => answer.sized(argument).await,
            "chunked" => answer.chunked(argument).await,
            "trailers" => answer.trailers().await,
            "echo" => answer.echo().await,
            "count" => answer.count().await,
            "hold" => answer.held(&self.gate).await,
            "status" => answer.status(argument).await,
            "close" => {
                answer.text("connection: close\r\n", "closing\n").await;
                return true;
            }
            _ => answer.text("", "hello\n").await,
        }
        false
    }

    fn random(&self, number: usize) -> fastrand::Rng {
        let seed = self.idle.map_or(0, |idle| idle.seed);
        fastrand::Rng::with_seed(seed.wrapping_mul(1_000_003).wrapping_add(number as u64))
    }
}

/// An answer to one request, and the connection to write it to.
struct Answer<'a> {
    connection: &'a mut Connection,
    head: &'a Head,
    /// True for the answer to a HEAD, which has no content.
    silent: bool,
}

impl Answer<'_> {
    async fn text(self, fields: &str, text: &str) {
        self.read_body(&mut |_| ()).await.begin(fields, text.len()).await.content(text).await;
    }

    async fn sized(self, length: u64) {
        let answer = self.read_body(&mut |_| ()).await.begin("", length as usize).await;
        let mut sent = if answer.silent { length } else { 0 };
        while sent < length {
            let piece = pattern::slice(sent, length - sent);
            if !answer.connection.write(piece).await {
                return;
            }
            sent += piece.len() as u64;
        }
    }

    async fn chunked(self, length: u64) {
        let answer = self.read_body(&mut |_| ()).await;
        answer.connection.write(CHUNKED).await;
        let mut sent = if answer.silent { length } else { 0 };
        while sent < length {
            let piece = pattern::slice(sent, (length - sent).min(16_000));
            if !answer.connection.write(chunk(piece)).await {
                return;
            }
            sent += piece.len() as u64;
        }
        answer.content("0\r\n\r\n").await;
    }

    async fn trailers(self) {
        let answer = self.read_body(&mut |_| ()).await;
        answer.connection.write("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\n").await;
        answer.connection.write("transfer-encoding: chunked\r\n\r\n").await;
        answer.content("4\r\nfour\r\n3\r\nsix\r\n0\r\nx-sum: 7\r\n\r\n").await;
    }

    /// Reads the request's body and sends it back, with its trailers, announced or not.
    async fn echo(self) {
        let mut body = Vec::new();
        let framing = self.head.declared_framing().ok().flatten();
        let read =
            self.connection.body(self.head, &mut |bytes| body.extend_from_slice(bytes)).await;
        let Ok(trailers) = read else { return };
        if framing == Some(Framing::Chunked) {
            let names: Vec<&str> = trailers.iter().map(|(name, _)| name.as_str()).collect();
            let announced = format!("trailer: {}\r\n", names.join(", "));
            let announced = if names.is_empty() { String::new() } else { announced };
            let head = CHUNKED.replace("\r\n\r\n", &format!("\r\n{announced}\r\n"));
            self.connection.write(head).await;
            let fields = trailers.iter().map(|(name, value)| format!("{name}: {value}\r\n"));
            let body = if body.is_empty() { Vec::new() } else { chunk(&body) };
            self.content(
                [
                    body.as_slice(),
                    format!("0\r\n{}\r\n", fields.collect::<Vec<_>>().concat()).as_bytes(),
                ]
                .concat(),
            )
            .await;
        } else {
            self.begin("", body.len()).await.content(body).await;
        }
    }

    async fn count(self) {
        let mut reader = pattern::Reader::default();
        let answer = self.read_body(&mut |bytes| reader.take(bytes)).await;
        let judgement = if reader.wrong_at.is_none() { "right" } else { "wrong" };
        let text = format!("{} {judgement}", reader.length);
        answer.begin("", text.len()).await.content(text).await;
    }

    async fn held(self, gate: &Gate) {
        let answer = self.read_body(&mut |_| ()).await;
        gate.opened().await;
        answer.begin("", 5).await.content("held\n").await;
    }

    async fn status(self, status: u64) {
        let answer = self.read_body(&mut |_| ()).await;
        let length = if status == 204 || status == 304 { "" } else { "content-length: 0\r\n" };
        answer.connection.write(format!("HTTP/1.1 {status} Told\r\n{length}\r\n")).await;
    }

    async fn read_body(self, sink: &mut (dyn FnMut(&[u8]) + Send)) -> Self {
        let _ = self.connection.body(self.head, sink).await;
        self
    }

    async fn begin(self, fields: &str, length: usize) -> Self {
        let number = self.connection.number();
        let own = format!("x-connection: {number}\r\ncontent-length: {length}\r\n");
        self.connection.write(format!("HTTP/1.1 200 OK\r\n{own}{fields}\r\n")).await;
        self
    }

    async fn content(self, bytes: impl AsRef<[u8]>) {
        if !self.silent {
            self.connection.write(bytes).await;
        }
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunk(content: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", content.len()).as_bytes(), content, b"\r\n"].concat()
}
