//! One HTTP/1.1 connection to an upstream: the handle that exchanges use, and the driver that owns the socket.
//!
//! The driver polls hyper's connection until it ends or its handle is dropped, then takes the stream back, in every
//! case, errors too, for the polite close.

use std::{
    future::poll_fn,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Poll,
    time::Duration,
};

use http::{Request, Response};
use hyper::{
    body::Incoming,
    client::conn::{
        TrySendError,
        http1::{self, SendRequest},
    },
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::oneshot,
    time::{Instant, timeout_at},
};
use tokio_rustls::client::TlsStream;

use super::{
    Dialled, RequestBody,
    meter::{Meter, MeteredStream},
};
use crate::{
    pool::{End, EndReason},
    socket,
    telemetry::ends::{Manner, Side},
    tls::{Handshake, Version},
};

/// The largest header section that is read from an upstream, and the most of a body that hyper holds.
const BUFFER: usize = 64 * 1024;

type HttpConnection = http1::Connection<TokioIo<MeteredStream>, RequestBody>;

/// A connection, for one exchange at a time. Dropping it closes the connection.
pub struct Connection {
    /// Sends requests; `None` once the driver is known to be gone.
    sender: Option<SendRequest<RequestBody>>,
    /// Closed once the driver has let go of HTTP.
    gone: oneshot::Receiver<()>,
    /// What passed since the exchange began.
    pub meter: Arc<Meter>,
    /// What never changes about it.
    pub facts: Arc<Facts>,
    /// Off with the handle at the latest.
    switch: Switch,
}

/// Ends a connection, whoever holds its handle.
#[derive(Debug, Clone)]
pub struct Switch(Arc<Mutex<Position>>);

#[derive(Debug)]
enum Position {
    /// The sender's drop is the driver's sign to end.
    On { _alive: oneshot::Sender<()> },
    /// By whoever held the handle.
    Off,
    /// From outside.
    OffFor(EndReason),
}

impl Switch {
    fn on(alive: oneshot::Sender<()>) -> Self {
        Self(Arc::new(Mutex::new(Position::On { _alive: alive })))
    }

    /// The driver is to end the connection now, for this reason.
    pub fn turn_off(&self, reason: EndReason) {
        self.turn(Position::OffFor(reason));
    }

    fn turn(&self, off: Position) {
        let mut position = self.lock();
        if matches!(*position, Position::On { .. }) {
            *position = off;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Position> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What never changes about a connection; shared, so that records of exchanges need no copy.
#[derive(Debug)]
pub struct Facts {
    /// Under which generation of its upstream the handshake was made.
    pub generation: u64,
    /// The address behind the endpoint.
    pub peer: SocketAddr,
    /// Our own address, for the log.
    pub local: Option<SocketAddr>,
    /// How its handshake went.
    pub handshake: Handshake,
    /// The TLS version.
    pub version: Version,
    /// Name and TCP.
    pub connect_time: Duration,
    /// TLS.
    pub handshake_time: Duration,
}

/// What owns a connection's socket; it must be polled for the connection to work.
pub struct Driver {
    /// Boxed once: the futures that pass it on would each keep room for it otherwise.
    http: Box<HttpConnection>,
    meter: Arc<Meter>,
    alive: oneshot::Receiver<()>,
    /// Dropped once HTTP is let go of: the handle's sign that nobody reads its requests any more.
    present: oneshot::Sender<()>,
}

/// Starts HTTP on a finished handshake, which was made under this generation.
pub async fn start(
    dialled: Dialled,
    generation: u64,
) -> Result<(Connection, Driver), hyper::Error> {
    let meter = Arc::new(Meter::default());
    let facts = Arc::new(Facts {
        generation,
        peer: dialled.peer,
        local: dialled.stream.get_ref().0.local_addr().ok(),
        handshake: dialled.handshake,
        version: dialled.version,
        connect_time: dialled.connect_time,
        handshake_time: dialled.handshake_time,
    });
    let io = TokioIo::new(MeteredStream::new(dialled.stream, Arc::clone(&meter)));
    // A single read may fill the buffer beyond its maximum: the header has a limit of its own.
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER).max_header_size(BUFFER);
    let (sender, http) = builder.handshake(io).await?;
    let (alive, ended) = oneshot::channel();
    let switch = Switch::on(alive);
    let (present, gone) = oneshot::channel();
    let sender = Some(sender);
    let connection = Connection { sender, gone, meter: Arc::clone(&meter), facts, switch };
    Ok((connection, Driver { http: Box::new(http), meter, alive: ended, present }))
}

type Sent = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Connection {
    /// Waits until it takes a request, or is found closed.
    pub async fn ready(&mut self) -> Result<(), hyper::Error> {
        self.sender().ready().await
    }

    /// Sends a request, and waits for its response's header; call it once [`Connection::ready`].
    ///
    /// A request that is pushed from another thread at the very moment in which the driver lets go of its queue is
    /// neither read nor given back, as long as the queue's sender lives. Hence the second look once the driver is gone.
    pub async fn send(&mut self, request: Request<RequestBody>) -> Sent {
        let mut responding = pin!(self.sender().try_send_request(request));
        let (sender, gone) = (&mut self.sender, &mut self.gone);
        poll_fn(|cx| {
            if let Poll::Ready(sent) = responding.as_mut().poll(cx) {
                return Poll::Ready(sent);
            }
            if sender.is_some() && Pin::new(&mut *gone).poll(cx).is_ready() {
                *sender = None;
                return responding.as_mut().poll(cx);
            }
            Poll::Pending
        })
        .await
    }

    /// What ends it from outside.
    pub fn switch(&self) -> Switch {
        self.switch.clone()
    }

    /// Why it was ended from outside, if it was.
    pub fn switched_off(&self) -> Option<EndReason> {
        match *self.switch.lock() {
            Position::OffFor(reason) => Some(reason),
            Position::On { .. } | Position::Off => None,
        }
    }

    /// It is taken away only as an exchange ends whose connection nobody leases again: the pool knows by then.
    fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        self.sender.as_mut().expect("a connection is sent on until its driver is gone")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.switch.turn(Position::Off);
    }
}

impl Driver {
    /// Drives the connection to its end, tells when HTTP on it is over, then closes it, and tells how.
    pub async fn run(self, over: impl FnOnce(Side)) -> End {
        let Self { mut http, meter, alive, present } = self;
        let mut alive = pin!(alive);
        poll_fn(|cx| {
            if let Poll::Ready(result) = http.poll_without_shutdown(cx) {
                if let Err(error) = result {
                    tracing::debug!(%error, "an upstream connection ended");
                }
                return Poll::Ready(());
            }
            alive.as_mut().poll(cx).map(|_| ())
        })
        .await;
        let peer_end = meter.peer_end();
        over(if peer_end.is_some() { Side::Peer } else { Side::Us });
        // Boxed: what a connection needs at its end need not weigh on it while it lives.
        let stream = http.into_parts().io.into_inner().into_inner();
        drop(present);
        let how = Box::pin(close(stream)).await;
        match peer_end {
            Some(how) => End { by: Side::Peer, how },
            None => End { by: Side::Us, how },
        }
    }
}

/// `close_notify`, FIN, bounded drain, close: within [`socket::CLOSE_TIME`] in all.
async fn close(mut tls: TlsStream<TcpStream>) -> Manner {
    let deadline = Instant::now() + socket::CLOSE_TIME;
    let told = timeout_at(deadline, tls.shutdown()).await;
    let (tcp, _) = tls.into_inner();
    if let Ok(Ok(())) = told {
        return socket::close_politely_by(tcp, deadline).await;
    }
    socket::reset(tcp);
    Manner::Reset
}
