//! A connection to an upstream in HTTP/1.1: the handle that exchanges use, and the driver that owns the socket.
//!
//! The driver polls hyper's connection until it ends or its handle is dropped, and then takes the stream back, in
//! errors too, for the polite close. The driver also takes the stream back when the connection has been idle for a
//! while, as hyper's buffers are most of a connection's memory. The connection then rests: it is still read, until an
//! exchange needs it.

use std::{
    future::poll_fn,
    net::SocketAddr,
    ops::Deref,
    pin::{Pin, pin},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::{Duration, Instant},
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
use pin_project_lite::pin_project;
use tokio::{
    io::{AsyncRead as _, AsyncWriteExt as _, ReadBuf},
    sync::oneshot,
    time::{Sleep, sleep, timeout_at},
};
use tokio_rustls::client::TlsStream;

use super::{
    Dialled, Fate, HeaderCase, PriorUse, RequestBody, Suspect,
    fate::Evidence,
    idle_sender::{Closed, DriverGone, IdleSender, REST_DELAY, SenderSource, TakenSender},
    meter::{Meter, MeteredStream},
    tcp::Tcp,
};
use crate::{
    head,
    pool::{End, EndReason, Verdict},
    socket,
    telemetry::ends::{Manner, Side},
    tls::{CertificateUse, Handshake, Version},
};

/// The size limit in bytes of a header section that is read from an upstream, and of hyper's read buffer.
const BUFFER: usize = 64 * 1024;

/// The time without an exchange after which a connection's socket is read once before the next request is written.
const STALE_CHECK_AFTER: Duration = Duration::from_millis(1);

type HttpConnection = http1::Connection<TokioIo<MeteredStream>, RequestBody>;

/// The number of exchanges that a connection carries at a time: HTTP/1.1 has responses in the order of requests.
pub const STREAMS: u32 = 1;

/// The verdict on an exchange that is given up before its response is complete. In HTTP/1.1 no other exchange can
/// follow, because the rest of the response is in its way.
pub const GIVEN_UP: Verdict = Verdict::Unfit(EndReason::Unfit);

/// A handle of a connection. The pool has one, and each exchange has a clone. The drop of the last handle closes the
/// connection.
pub struct Connection {
    shared: Arc<Shared>,
    /// hyper's sender of requests, from [`Connection::ready`] on; `None` between exchanges, and once the driver is
    /// known to be gone.
    sender: Option<SendRequest<RequestBody>>,
    /// A channel that closes once the driver has given up HTTP on the connection; with the sender between exchanges.
    gone: Option<DriverGone>,
    /// The end of the last exchange; before the first, the time at which the connection was opened.
    released: Instant,
    /// The connection's past at the beginning of the exchange.
    past: PriorUse,
}

/// The part of a connection that all its handles have in common.
pub struct Shared {
    /// The sender between exchanges.
    idle_sender: Arc<IdleSender>,
    /// The counts of what passed since the exchange began.
    pub meter: Arc<Meter>,
    /// The facts about the connection that never change.
    pub facts: Arc<Facts>,
    /// The control that ends the connection, at the latest when the last handle is dropped.
    control: ConnectionControl,
}

/// The rule by which a connection reads its socket before it writes a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StaleCheck {
    /// Never: the connection was just dialled, and never idle.
    Never,
    /// After a pause of a millisecond or more; for a request that can be sent again.
    IfIdle,
    /// Always; for a request that cannot be sent again.
    Always,
}

/// A means to end a connection, or to have it examined, for code that does not hold its handle.
#[derive(Clone)]
pub struct ConnectionControl {
    state: Arc<Mutex<ControlState>>,
    idle_sender: Arc<IdleSender>,
}

#[derive(Debug)]
enum ControlState {
    /// The connection is to go on; the drop of this sender makes the driver end it.
    Open { _alive: oneshot::Sender<()> },
    /// The connection was ended by the drop of its handle.
    HandleDropped,
    /// The connection was ended through its control, for this reason.
    Ended(EndReason),
}

impl ConnectionControl {
    fn new(alive: oneshot::Sender<()>, idle_sender: Arc<IdleSender>) -> Self {
        Self { state: Arc::new(Mutex::new(ControlState::Open { _alive: alive })), idle_sender }
    }

    /// Makes the driver find out, while the connection is idle, whether its peer is alive.
    pub fn doubt(&self) {
        self.idle_sender.doubt();
    }

    /// Makes the driver end the connection now, for this reason. Without effect on a connection that was ended already.
    pub fn end(&self, reason: EndReason) {
        self.set_ended(ControlState::Ended(reason));
    }

    /// Notes how the connection is ended, which drops the sender that keeps the driver going; the first end stays.
    fn set_ended(&self, ended: ControlState) {
        let mut state = self.lock();
        if matches!(*state, ControlState::Open { .. }) {
            *state = ended;
        }
    }

    fn lock(&self) -> MutexGuard<'_, ControlState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The facts about a connection that never change; shared, so that records of exchanges need no copy.
#[derive(Debug)]
pub struct Facts {
    /// The generation of its upstream that the handshake was made under.
    pub generation: u64,
    /// The address that the connection was made to.
    pub peer: SocketAddr,
    /// The local address, for the log; `None` if the kernel did not tell.
    pub local: Option<SocketAddr>,
    /// The kind of the TLS handshake.
    pub handshake: Handshake,
    /// The use of Warmline's certificate in the handshake.
    pub shown: CertificateUse,
    /// The TLS version.
    pub version: Version,
    /// The time for name resolution and TCP.
    pub connect_time: Duration,
    /// The time for the TLS handshake.
    pub handshake_time: Duration,
}

impl Facts {
    /// True if a session was resumed under TLS 1.3: the server may still refuse after this side's handshake is done.
    pub fn is_resumed_tls13(&self) -> bool {
        self.version == Version::Tls13 && self.handshake == Handshake::Resumed
    }
}

/// The owner of a connection's socket; must be run for the connection to work.
pub struct Driver {
    /// hyper's connection. Boxed once: the futures that pass it on would each keep room for it otherwise.
    http: Box<HttpConnection>,
    case: HeaderCase,
    idle_sender: ClosingSender,
    meter: Arc<Meter>,
    facts: Arc<Facts>,
    alive: oneshot::Receiver<()>,
    /// Dropped once HTTP is given up, from which the handle learns that its requests are not read any more.
    present: oneshot::Sender<()>,
}

/// The driver's share of the sender. Its drop ends the use of the connection: an exchange that waits for a sender gets
/// an error even if the driver is dropped before its work is done.
struct ClosingSender(Arc<IdleSender>);

impl Deref for ClosingSender {
    type Target = IdleSender;

    fn deref(&self) -> &IdleSender {
        &self.0
    }
}

impl Drop for ClosingSender {
    fn drop(&mut self) {
        self.close();
    }
}

/// Starts HTTP on a connection whose TLS handshake, made under this generation, is done; writes nothing. The driver
/// that is returned must be run. The error is hyper's, and never comes in HTTP/1.1.
pub async fn start(
    dialled: Dialled,
    generation: u64,
    case: HeaderCase,
) -> Result<(Connection, Driver), hyper::Error> {
    let inflow = Arc::clone(dialled.stream.get_ref().0.inflow());
    let meter = Arc::new(Meter::over(inflow));
    let facts = Arc::new(Facts {
        generation,
        peer: dialled.peer,
        local: dialled.stream.get_ref().0.local_addr().ok(),
        handshake: dialled.handshake,
        shown: dialled.shown,
        version: dialled.version,
        connect_time: dialled.connect_time,
        handshake_time: dialled.handshake_time,
    });
    let stream = MeteredStream::new(dialled.stream, Arc::clone(&meter));
    over(stream, case, meter, facts).await
}

/// Starts HTTP on a stream whose bytes this meter counts; the second half of [`start`].
async fn over(
    stream: MeteredStream,
    case: HeaderCase,
    meter: Arc<Meter>,
    facts: Arc<Facts>,
) -> Result<(Connection, Driver), hyper::Error> {
    let (sender, http) = handshake(TokioIo::new(stream), case).await?;
    let opened = Instant::now();
    let (alive, ended) = oneshot::channel();
    let (present, gone) = oneshot::channel();
    let idle_sender = Arc::new(IdleSender::new(sender, gone, opened));
    let shared = Arc::new(Shared {
        idle_sender: Arc::clone(&idle_sender),
        meter: Arc::clone(&meter),
        facts: Arc::clone(&facts),
        control: ConnectionControl::new(alive, Arc::clone(&idle_sender)),
    });
    let past = PriorUse::JustDialled;
    let connection = Connection { shared, sender: None, gone: None, released: opened, past };
    let idle_sender = ClosingSender(idle_sender);
    Ok((connection, Driver { http, case, idle_sender, meter, facts, alive: ended, present }))
}

/// Creates hyper's client on the stream; sends nothing. The error is hyper's, and never comes in HTTP/1.1.
async fn handshake(
    io: TokioIo<MeteredStream>,
    case: HeaderCase,
) -> Result<(SendRequest<RequestBody>, Box<HttpConnection>), hyper::Error> {
    // A single read may fill the buffer beyond its maximum: the header has a limit of its own.
    let mut builder = http1::Builder::new();
    builder.max_buf_size(BUFFER).max_header_size(BUFFER);
    // Names that Warmline adds have no spelling to keep.
    builder.preserve_header_case(case == HeaderCase::Kept);
    builder.title_case_headers(case != HeaderCase::Lower);
    let (sender, http) = builder.handshake(io).await?;
    Ok((sender, Box::new(http)))
}

/// The response, or the request if nothing of it was written.
pub type SendResult = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>;

impl Connection {
    /// Begins an exchange on the connection with this past; clears the meter's marks of the exchange before.
    pub fn begin(&mut self, past: PriorUse) {
        self.past = past;
        self.meter.begin_exchange();
    }

    /// Takes the sender for this exchange, wakes the connection if it rests, and waits until it takes a request. Fails
    /// if the connection is closed.
    pub async fn ready(&mut self) -> Result<(), Closed> {
        let TakenSender { sender, gone, since } = self.idle_sender.take()?;
        (self.gone, self.released) = (Some(gone), since);
        let sender = match sender {
            SenderSource::Sender(sender) => sender,
            SenderSource::Waking(waking) => waking.await.map_err(|_| Closed)?,
        };
        self.sender.insert(sender).ready().await.map_err(|_| Closed)
    }

    /// Ends an exchange: gives the sender back, so that another exchange may follow. Does nothing if the exchange has
    /// no sender, as the driver is gone.
    pub fn release(&mut self, now: Instant) {
        if let Some((sender, gone)) = self.sender.take().zip(self.gone.take()) {
            self.idle_sender.give_back(sender, gone, now);
        }
    }

    /// Sends a request at this time, to be called after [`Connection::ready`]. The result waits for the response's
    /// header; its error has the request back if nothing of it was written.
    pub fn send(
        &mut self,
        request: Request<RequestBody>,
        stale_check: StaleCheck,
        now: Instant,
    ) -> Sending<'_, impl Future<Output = SendResult>> {
        self.check_if_stale(stale_check, now);
        let responding = self.sender().try_send_request(request);
        Sending { responding, sender: &mut self.sender, gone: &mut self.gone }
    }

    /// Makes a connection that was idle read its socket before it writes. The peer may have ended the connection, and a
    /// request that cannot be sent again would be lost; or it may have sent a response without a request, which this
    /// request would get as its answer. For a request that can be sent again this is left out where the last exchange
    /// ended just now, as a read is a system call.
    fn check_if_stale(&self, stale_check: StaleCheck, now: Instant) {
        let checks = match stale_check {
            StaleCheck::Never => false,
            StaleCheck::IfIdle => now.saturating_duration_since(self.released) >= STALE_CHECK_AFTER,
            StaleCheck::Always => true,
        };
        if checks {
            self.meter.look_at_socket();
        }
    }

    /// Describes what made a response's head unreadable, once the driver has examined what hyper left of it, for which
    /// this drops the sender and waits; `None` if the error is of another kind, or the fault is not known.
    #[cold]
    pub async fn fault(&mut self, error: &hyper::Error) -> Option<String> {
        if error.is_parse_too_large() {
            return Some("its header is larger than 64 KiB, or has more than 100 fields".into());
        }
        if !error.is_parse() {
            return None;
        }
        if let Some(fault) = head::fault_in_words(&error.to_string()) {
            return Some(fault.into());
        }
        if self.sender.take().is_some()
            && let Some(gone) = &mut self.gone
        {
            // An error means that the driver is gone, too.
            let _ = gone.await;
        }
        self.meter.fault()
    }

    /// Returns the fate of the attempt that has just ended without a response, and the part of the handshake on which
    /// its end casts doubt, if any. `handed_over` is false if its request was not handed over, or was given back by
    /// [`Connection::send`].
    #[cold]
    pub fn fate(&self, handed_over: bool) -> (Fate, Option<Suspect>) {
        let evidence = self.evidence(handed_over);
        (evidence.fate(), evidence.suspect())
    }

    /// Returns the state in which an attempt with this fate leaves the connection.
    #[cold]
    pub fn verdict(&self, fate: Fate) -> Verdict {
        fate.verdict(self.past, self.ended_for())
    }

    /// Gathers the facts about the attempt that has just ended without a response; `handed_over` is true if its request
    /// may have been written.
    fn evidence(&self, handed_over: bool) -> Evidence {
        Evidence {
            sent: handed_over,
            begun: self.meter.has_begun(),
            awaits_head: self.meter.awaits_head(),
            peer_ended: self.meter.peer_end().is_some(),
            forgotten: self.meter.is_forgotten(),
            ended: self.ended_for(),
            alert: self.meter.alert(),
            refusal: self.meter.refusal(),
            past: self.past,
            version: self.facts.version,
            resumed_tls13: self.facts.is_resumed_tls13(),
        }
    }

    /// Returns a control with which other code can end the connection.
    pub fn control(&self) -> ConnectionControl {
        self.control.clone()
    }

    /// Returns the reason for which the connection was ended through its control, if it was.
    pub fn ended_for(&self) -> Option<EndReason> {
        match *self.control.lock() {
            ControlState::Ended(reason) => Some(reason),
            ControlState::Open { .. } | ControlState::HandleDropped => None,
        }
    }

    fn sender(&mut self) -> &mut SendRequest<RequestBody> {
        self.sender.as_mut().expect("a connection is sent on once it is ready")
    }
}

impl Clone for Connection {
    fn clone(&self) -> Self {
        let shared = Arc::clone(&self.shared);
        Self { shared, sender: None, gone: None, released: self.released, past: self.past }
    }
}

impl Deref for Connection {
    type Target = Shared;

    fn deref(&self) -> &Shared {
        &self.shared
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.control.set_ended(ControlState::HandleDropped);
    }
}

pin_project! {
    /// A request that was sent, until its response's header has come. A type of its own, as an async function would keep
    /// room for the request three times.
    ///
    /// A request that is pushed from another thread at the very moment in which the driver drops its queue is neither
    /// read nor given back as long as the queue's sender lives. Therefore the sender is dropped once the driver is
    /// gone, and the result is asked for again.
    pub struct Sending<'a, F> {
        #[pin]
        responding: F,
        sender: &'a mut Option<SendRequest<RequestBody>>,
        gone: &'a mut Option<DriverGone>,
    }
}

impl<F: Future<Output = SendResult>> Future for Sending<'_, F> {
    type Output = SendResult;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<SendResult> {
        let mut this = self.project();
        if let Poll::Ready(sent) = this.responding.as_mut().poll(cx) {
            return Poll::Ready(sent);
        }
        if let Some(gone) = this.gone
            && this.sender.is_some()
            && Pin::new(gone).poll(cx).is_ready()
        {
            **this.sender = None;
            return this.responding.poll(cx);
        }
        Poll::Pending
    }
}

impl Driver {
    /// Drives the connection to its end, calls `over` when HTTP on it is over, then closes the socket, and returns how
    /// it ended. If the peer of a doubted connection proves to be alive, `trusted` is called.
    pub async fn run(mut self, trusted: impl Fn(), over: impl FnOnce(Side)) -> End {
        let stream = loop {
            let rests = self.drive().await;
            let parts = self.http.into_parts();
            let stream = parts.io.into_inner();
            if !rests {
                if !parts.read_buf.is_empty() {
                    self.meter.note_unread(&parts.read_buf);
                }
                break stream;
            }
            tracing::trace!(peer = %self.facts.peer, "an idle connection rests");
            // Boxed, as is the close: what a connection needs for a while should not add to its size for ever.
            self.meter.lift_unacknowledged_limit();
            let resting = rest(stream, self.case, &self.idle_sender, &mut self.alive, &trusted);
            match Box::pin(resting).await {
                RestEnd::Wanted(http) => self.http = http,
                RestEnd::Over(stream) => break stream,
            }
        };
        self.idle_sender.close();
        let peer_end = self.meter.peer_end();
        over(if peer_end.is_some() { Side::Peer } else { Side::Us });
        drop(self.present);
        let how = Box::pin(close(stream.into_inner())).await;
        match peer_end {
            Some(how) => End { by: Side::Peer, how },
            None => End { by: Side::Us, how },
        }
    }

    /// Polls HTTP until the connection is to rest (true) or HTTP on it is over (false): its handle is dropped, the peer
    /// ended it, or HTTP failed. Every half second also lifts the limit on unacknowledged bytes once that has done its
    /// work.
    async fn drive(&mut self) -> bool {
        let Self { http, idle_sender, meter, facts, alive, .. } = self;
        let unacknowledged =
            || facts.local.and_then(|local| socket::unacknowledged(local, facts.peer));
        let mut timer = pin!(sleep(REST_DELAY));
        let mut armed = false;
        poll_fn(|cx| {
            if let Poll::Ready(result) = http.poll_without_shutdown(cx) {
                if let Err(error) = result {
                    tracing::debug!(%error, "an upstream connection ended");
                }
                return Poll::Ready(false);
            }
            if Pin::new(&mut *alive).poll(cx).is_ready() {
                return Poll::Ready(false);
            }
            // A timer that was polled once wakes the task by itself: most polls are a request's, and pay for nothing
            // more.
            while (!armed || timer.is_elapsed()) && timer.as_mut().poll(cx).is_ready() {
                let now = Instant::now();
                if meter.relax_unacknowledged_limit(now, unacknowledged) {
                    // The stream passes the new limit to the socket when it is next polled.
                    cx.waker().wake_by_ref();
                }
                if idle_sender.rest(now, meter.is_flushed(), cx.waker()) {
                    return Poll::Ready(true);
                }
                timer.as_mut().reset((now + REST_DELAY).into());
                armed = false;
            }
            armed = true;
            Poll::Pending
        })
        .await
    }
}

/// The end of a connection's rest.
enum RestEnd {
    /// An exchange needs the connection and has got its sender; HTTP goes on with this.
    Wanted(Box<HttpConnection>),
    /// The rest is over for good: the handle was dropped, or the peer sent something without a request: a byte, an
    /// alert, FIN.
    Over(MeteredStream),
}

/// Reads the idle connection, which also takes in the TLS sessions that the peer sends, until something ends the rest.
async fn rest(
    mut stream: MeteredStream,
    case: HeaderCase,
    idle_sender: &IdleSender,
    alive: &mut oneshot::Receiver<()>,
    trusted: &impl Fn(),
) -> RestEnd {
    let mut probe = None::<Pin<Box<Sleep>>>;
    let wanted = poll_fn(|cx| {
        let mut byte = [0];
        let read = Pin::new(&mut stream).poll_read(cx, &mut ReadBuf::new(&mut byte));
        if read.is_ready() || Pin::new(&mut *alive).poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        if idle_sender.is_doubted() && poll_probe(&mut probe, stream.tcp(), cx).is_ready() {
            idle_sender.trust();
            trusted();
        }
        idle_sender
            .poll_wanted(cx.waker())
            .map_or(Poll::Pending, |waiting| Poll::Ready(Some(waiting)))
    })
    .await;
    let Some(waiting) = wanted else { return RestEnd::Over(stream) };
    let hands = handshake(TokioIo::new(stream), case).await;
    let (sender, http) = hands.expect("hyper's handshake for HTTP/1.1 does nothing that can fail");
    // If the exchange has left, the handle is gone too, and the driver sees that next.
    let _ = waiting.send(sender);
    RestEnd::Wanted(http)
}

/// Probes the peer with TCP keep-alive; ready once the kernel would have ended the connection of a peer that did not
/// acknowledge.
fn poll_probe(probe: &mut Option<Pin<Box<Sleep>>>, tcp: &Tcp, cx: &mut Context<'_>) -> Poll<()> {
    let begin = || {
        let begun = socket::probe(tcp);
        begun.is_ok().then(|| Box::pin(sleep(socket::PROBE_TIME)))
    };
    if probe.is_none() {
        *probe = begin();
    }
    // Where the kernel cannot probe there is no proof, and the pool closes the connection.
    let Some(time) = probe else { return Poll::Pending };
    ready!(time.as_mut().poll(cx));
    *probe = None;
    if let Err(error) = socket::end_probe(tcp) {
        tracing::debug!(%error, "a socket keeps its short probes");
    }
    Poll::Ready(())
}

/// Closes the connection: `close_notify`, FIN, bounded reading, close, within [`socket::CLOSE_TIME`] in all.
async fn close(mut tls: TlsStream<Tcp>) -> Manner {
    let deadline = tokio::time::Instant::now() + socket::CLOSE_TIME;
    let told = timeout_at(deadline, tls.shutdown()).await;
    let tcp = tls.into_inner().0.into_inner();
    if let Ok(Ok(())) = told {
        return Manner::of_close(socket::close_politely_by(tcp, deadline).await);
    }
    socket::reset(tcp);
    Manner::Reset
}

#[cfg(test)]
mod crossing;
