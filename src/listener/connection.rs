//! The life of one client connection: hyper's server, one timer, the drain, and the closing of the socket.

use std::{
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::Request;
use hyper::{
    body::Incoming,
    server::conn::http1,
    service::{HttpService, service_fn},
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpStream,
    sync::futures::OwnedNotified,
    time::{Sleep, sleep_until},
};

use super::{
    Inlet,
    rest::{self, rest},
    stream::ClientStream,
};
use crate::{
    config::ListenerLimits,
    drain::DrainStage,
    head,
    proxy::{Client, Failure, Phase, ResponseBody},
    socket,
    telemetry::ends::{Facing, Manner},
    upstream::Worker,
};

/// The size limit in bytes of hyper's buffers, for what the client sends and for what it does not read yet.
const BUFFER: usize = 64 * 1024;
/// The head that a client of HTTP/2 sends first (RFC 9113 section 3.4).
const HTTP_2: &[u8] = b"PRI * HTTP/2.0\r\n\r\n";
/// The text for the most frequent mistake, sent only where a TLS record came.
const TLS: &str =
    "no request in HTTP/1.1: a TLS record came (is Warmline called with https:// for http://?)";
const NO_TARGET: &str =
    "the request's target is neither a path that begins with / nor a URL with a host";
/// The bytes that hyper's buffer has for a request line, beside `limits.headerBytes`.
const REQUEST_LINE: usize = 8 * 1024;

/// The time between two looks at the socket of a client whose request or response is on its way. hyper reads nothing
/// while it holds bytes that are not taken yet, so that a reset would go unnoticed.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// Serves one client connection to its end. Between two requests the connection may rest.
pub(super) async fn serve(tcp: TcpStream, inlet: Arc<Inlet>, worker: Arc<Worker>) {
    let Ok(address) = tcp.peer_addr() else { return };
    let client = Arc::new(Client::new(address, inlet.drain.clone(), Instant::now()));
    let limits = inlet.limits.share();
    let resources = Arc::clone(&inlet.resources);
    let mut stream = ClientStream::new(tcp, Arc::clone(&client), resources);
    let mut unread = Bytes::new();
    let ending = loop {
        if !rest(&stream, &client, &limits).await {
            break ServingEnd::Idle;
        }
        // Boxed: what a connection needs for its requests should not add to its size while it rests.
        let served = Box::pin(serve_requests(stream, &inlet, &worker, &limits)).await;
        let ending;
        (stream, ending, unread) = served;
        if !matches!(ending, ServingEnd::Rest) {
            break ending;
        }
    };
    // Boxed for the same reason.
    let how = Box::pin(end(ending, stream, unread, &inlet, &client, &limits)).await;
    inlet.ends.increment((Facing::Client, how));
}

/// Serves requests until the connection rests or ends. Returns the stream, still open, the end, and the bytes that
/// hyper had read and not used; if the connection rests, these are back in the stream, and the third value is empty.
async fn serve_requests(
    stream: ClientStream,
    inlet: &Arc<Inlet>,
    worker: &Arc<Worker>,
    limits: &ListenerLimits,
) -> (ClientStream, ServingEnd, Bytes) {
    let client = Arc::clone(stream.client());
    let service = {
        let (inlet, client, worker) = (Arc::clone(inlet), Arc::clone(&client), Arc::clone(worker));
        service_fn(move |request: Request<Incoming>| {
            let prepared =
                inlet.proxy.prepare(request, &inlet.entry, &client, inlet.explain.load(Relaxed));
            let proxy = Arc::clone(&inlet.proxy);
            // Boxed: hyper keeps room for it for as long as the connection lives, idle or not.
            Box::pin(prepared.serve(proxy, Arc::clone(&client), Arc::clone(&worker)))
        })
    };
    let builder = builder(limits, inlet.keeps_case.load(Relaxed));
    let http = builder.serve_connection(TokioIo::new(stream), service);
    let mut serving = Serving::new(http, &client, limits);
    let ending = std::future::poll_fn(|cx| serving.poll(cx)).await;
    let parts = serving.http.into_parts();
    let mut stream = parts.io.into_inner();
    if matches!(ending, ServingEnd::Rest) {
        tracing::debug!(client = %client.address, "an idle client connection rests");
        stream.put_back(&parts.read_buf);
        return (stream, ending, Bytes::new());
    }
    (stream, ending, parts.read_buf)
}

/// Gives up the upstream connections that serve this client alone, sends the answer that is still due, and closes; a
/// refused request is counted and logged. Returns the manner of the close. `unread` is the head that hyper could not
/// read, if it left one: of a wrong target or length it leaves none.
async fn end(
    ending: ServingEnd,
    stream: ClientStream,
    unread: Bytes,
    inlet: &Inlet,
    client: &Arc<Client>,
    limits: &ListenerLimits,
) -> Manner {
    let refusal = if stream.is_crowded() {
        Some(Failure::Crowded)
    } else {
        ending.refusal(&unread, stream.refused_byte(), limits)
    };
    // It takes a while to close many refused clients, and neither their headers nor the upstream connections that serve
    // them alone must be held for so long.
    drop(unread);
    client.leave();
    // If an earlier response was still being written, hyper's bare answer follows it already.
    let untold = stream.is_refused() || client.phase() == Phase::Header;
    if let Some(failure) = &refusal {
        let content = if untold { failure.content() } else { 0 };
        inlet.proxy.refuse_unreadable(failure, content, client);
    }
    match refusal.filter(|_| untold) {
        Some(failure) => refuse(stream.into_inner(), &failure, inlet).await,
        None => ending.close(stream.into_inner(), client, inlet).await,
    }
}

/// Returns hyper's server with these limits, and with the client's spelling of field names if `keeps_case`. hyper's own
/// time limit is off: [`Serving`] has the timer.
fn builder(limits: &ListenerLimits, keeps_case: bool) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .auto_date_header(false)
        .header_read_timeout(None)
        .max_buf_size(BUFFER.max(limits.header_bytes + REQUEST_LINE))
        .max_header_size(limits.header_bytes)
        .preserve_header_case(keeps_case)
        .writev(false);
    // hyper has room for 100 fields without allocating; only another number is worth the allocation.
    if limits.header_fields != 100 {
        builder.max_headers(limits.header_fields);
    }
    builder
}

/// The reason for which serving ended.
enum ServingEnd {
    /// The connection was idle for long enough to need no HTTP for now, or was between requests when the drain began: it
    /// goes on without.
    Rest,
    /// hyper has finished with the connection.
    Done(Result<(), hyper::Error>),
    /// A header took longer than `limits.headerTimeout`.
    HeaderTimeout,
    /// The connection was idle between requests for too long, or when the drain began.
    Idle,
    /// A body moved no byte for too long.
    BodyTimeout,
    /// The time for the drain was over in the middle of a header or a body.
    DrainOver,
    /// The client ended its side in the middle of a response, and counts as gone.
    Left,
}

/// The act that is due at the deadline of a phase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Due {
    /// The idle connection goes on without HTTP.
    Rest,
    /// The idle connection closes.
    IdleEnd,
    /// The connection closes, as a request's header is late.
    HeaderTimeout,
    /// The exchange is polled, and decides.
    Alarm,
    /// The connection closes, as no byte of a body moved.
    BodyEnd,
}

/// A connection that hyper serves.
struct Serving<'a, S: HttpService<Incoming>> {
    http: http1::Connection<TokioIo<ClientStream>, S>,
    client: &'a Client,
    limits: &'a ListenerLimits,
    drain_changed: Pin<Box<OwnedNotified>>,
    /// The newest stage of the drain that the connection has followed.
    followed: DrainStage,
    /// The connection's only timer.
    timer: Pin<Box<Sleep>>,
    /// The time at which the timer rings, never later than the nearest deadline; `None` if it is not set.
    armed: Option<Instant>,
    /// The time of the last look at the socket.
    looked: Option<Instant>,
}

impl<'a, S> Serving<'a, S>
where
    S: HttpService<Incoming, ResBody = ResponseBody>,
    S::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// Begins to serve a connection: no stage of the drain is followed yet, and the timer is not set.
    fn new(
        http: http1::Connection<TokioIo<ClientStream>, S>,
        client: &'a Client,
        limits: &'a ListenerLimits,
    ) -> Self {
        let drain_changed = Box::pin(client.drain.changed());
        let timer = Box::pin(sleep_until(tokio::time::Instant::now()));
        let followed = DrainStage::Serving;
        Self { http, client, limits, drain_changed, followed, timer, armed: None, looked: None }
    }

    /// Polls hyper, follows the drain, and acts on deadlines; ready with the reason once serving has ended.
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ServingEnd> {
        loop {
            let stage = self.client.drain.stage();
            // First, as this reads a request that came before the drain began.
            if let Poll::Ready(result) = Pin::new(&mut self.http).poll(cx) {
                return Poll::Ready(ServingEnd::Done(result));
            }
            if self.followed < stage && !self.follows_later(stage) {
                self.followed = stage;
                if let Some(ending) = self.follow_drain(stage) {
                    return Poll::Ready(ending);
                }
                continue;
            }
            if self.drain_changed.as_mut().poll(cx).is_ready() {
                self.drain_changed = Box::pin(self.client.drain.changed());
                continue;
            }
            match self.poll_deadline(cx) {
                Poll::Ready(Some(ending)) => return Poll::Ready(ending),
                Poll::Ready(None) => continue,
                Poll::Pending => {}
            }
            if !self.client.release_fin() {
                return Poll::Pending;
            }
        }
    }

    /// True if hyper must not learn of this stage of the drain yet, as it would drop what it has read of a next request:
    /// a header that has begun is waited for; and a response that has begun did not tell its client to send no further
    /// request.
    fn follows_later(&self, stage: DrainStage) -> bool {
        let phase = self.client.phase();
        stage < DrainStage::Aborting
            && matches!(phase, Phase::Header | Phase::Body | Phase::Flushing)
    }

    /// Follows the drain to this stage: no request is taken after the current one, and in the last stage the current one
    /// has no more time. Returns the end of the connection, or of hyper's part in it, if that is now.
    fn follow_drain(&mut self, stage: DrainStage) -> Option<ServingEnd> {
        if stage < DrainStage::Aborting && self.awaits_request() {
            // hyper may hold the beginning of a request that came with the request before: without hyper it is found.
            return Some(ServingEnd::Rest);
        }
        Pin::new(&mut self.http).graceful_shutdown();
        if stage < DrainStage::Aborting {
            return None;
        }
        self.client.abort();
        let ends = matches!(self.client.phase(), Phase::Header | Phase::Body | Phase::Flushing);
        ends.then_some(ServingEnd::DrainOver)
    }

    /// True if the connection is between two requests, and all of the one before was read.
    fn awaits_request(&self) -> bool {
        self.client.phase() == Phase::Idle && !self.client.is_unread()
    }

    /// Pending until the nearest deadline; then the end of the connection, or `None` if the exchange is to decide.
    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<Option<ServingEnd>> {
        loop {
            let Some(deadline) = self.deadline() else { return Poll::Pending };
            if self.armed.is_none_or(|armed| deadline < armed) {
                self.timer.as_mut().reset(deadline.into());
                self.armed = Some(deadline);
            }
            if self.timer.as_mut().poll(cx).is_pending() {
                return Poll::Pending;
            }
            self.armed = None;
            let now = Instant::now();
            if self.client.kept_until().is_some_and(|until| until <= now) {
                self.client.let_go(now);
                continue;
            }
            if let Some((_, due)) = self.limit().filter(|(limit, _)| *limit <= now) {
                return Poll::Ready(self.overdue(due, now));
            }
            if self.deadline().is_some_and(|deadline| deadline <= now) {
                self.looked = Some(now);
                self.client.want_look();
                return Poll::Ready(None);
            }
        }
    }

    /// Returns the nearest time at which something is due: within an exchange that may be a look at the socket. `None`
    /// if nothing is.
    fn deadline(&self) -> Option<Instant> {
        let limit = self.limit().map(|(limit, _)| limit);
        let due = limit.into_iter().chain(self.client.kept_until()).min();
        match self.client.phase() {
            Phase::Idle | Phase::Header => due,
            Phase::AwaitingResponse | Phase::Body | Phase::Flushing => {
                let look = self.client.since().max(self.looked).map(|last| last + LOOKS_EVERY);
                due.into_iter().chain(look).min()
            }
        }
    }

    /// Returns the deadline that counts in the phase, and what is due then (the table at the top of `proxy/client.rs`);
    /// `None` while an exchange has set no alarm.
    fn limit(&self) -> Option<(Instant, Due)> {
        let after = |limit: Duration, due| self.client.since().map(|since| (since + limit, due));
        match self.client.phase() {
            Phase::Idle => {
                let rest = rest::due(self.client).map(|at| (at, Due::Rest));
                let idle = after(self.limits.idle_timeout, Due::IdleEnd);
                rest.into_iter().chain(idle).min_by_key(|(at, _)| *at)
            }
            Phase::Header => after(self.limits.header_timeout, Due::HeaderTimeout),
            Phase::AwaitingResponse => self.client.alarm.deadline().map(|at| (at, Due::Alarm)),
            Phase::Body | Phase::Flushing => Some((self.client.body_deadline(), Due::BodyEnd)),
        }
    }

    /// Does what is due at a deadline that has passed: returns the connection's end, or `None` if the exchange is to be
    /// polled instead.
    fn overdue(&self, due: Due, now: Instant) -> Option<ServingEnd> {
        match due {
            Due::Rest => Some(ServingEnd::Rest),
            Due::IdleEnd => Some(ServingEnd::Idle),
            Due::HeaderTimeout => Some(ServingEnd::HeaderTimeout),
            Due::Alarm => {
                self.client.alarm.ring();
                None
            }
            Due::BodyEnd if self.client.has_left(now) => Some(ServingEnd::Left),
            Due::BodyEnd => {
                self.client.set_stuck();
                Some(ServingEnd::BodyTimeout)
            }
        }
    }
}

impl ServingEnd {
    /// Returns the failure of a request whose header could not be read, if the client is to get an answer; `None` for
    /// every other end. `refused` is the byte for which the target's host was refused, with its position.
    fn refusal(
        &self,
        unread: &[u8],
        refused: Option<(u8, u32)>,
        limits: &ListenerLimits,
    ) -> Option<Failure> {
        match self {
            Self::Done(Err(error))
                if error.is_parse_version_h2()
                    || error.is_parse() && unread.starts_with(HTTP_2) =>
            {
                Some(Failure::BadRequest(
                    "the client speaks HTTP/2 and is not understood here: let it speak HTTP/1.1"
                        .into(),
                ))
            }
            Self::Done(Err(error)) if error.is_parse_too_large() => Some(Failure::HeaderTooLarge {
                bytes: limits.header_bytes,
                fields: limits.header_fields,
            }),
            Self::Done(Err(error)) if error.is_parse() => Some(unreadable(error, unread, refused)),
            Self::HeaderTimeout => Some(Failure::HeaderTimeout),
            Self::Rest
            | Self::Done(_)
            | Self::Idle
            | Self::BodyTimeout
            | Self::DrainOver
            | Self::Left => None,
        }
    }

    /// Closes the connection in the manner that this end calls for, and returns the manner: a reset in the middle of a
    /// header or body, behind the rest of a request that is not read, else politely.
    async fn close(self, tcp: TcpStream, client: &Client, inlet: &Inlet) -> Manner {
        match self {
            Self::BodyTimeout | Self::DrainOver | Self::Left => reset(tcp),
            Self::Done(_) if client.is_broken() => reset(tcp),
            Self::Done(_) if client.is_unread() => close_behind_rest(tcp, inlet).await,
            Self::Rest | Self::Done(_) | Self::Idle | Self::HeaderTimeout => {
                Manner::of_close(socket::close_politely(tcp).await)
            }
        }
    }
}

/// Describes the fault of a request that hyper refused, in hyper's words only if no better ones are known. `unread` are
/// the bytes that hyper had read and could not use. `refused` is the byte that no host contains, if there is one, and its
/// position in the request line, counted from 1.
fn unreadable(error: &hyper::Error, unread: &[u8], refused: Option<(u8, u32)>) -> Failure {
    if head::is_tls_record(unread) {
        return Failure::BadRequest(TLS.into());
    }
    let words = error.to_string();
    let fault = match (refused, head::fault_in_words(&words)) {
        (Some((byte, place)), _) => {
            let byte = head::shown_byte(byte);
            format!("the byte {byte} at place {place} of the request line (in the target's host)")
        }
        (None, Some(fault)) => fault.into(),
        (None, None) => head::fault_of_request(unread).unwrap_or_else(|| match words.as_str() {
            "invalid URI" => NO_TARGET.into(),
            _ => words,
        }),
    };
    Failure::BadRequest(format!("no request in HTTP/1.1: {fault}").into())
}

/// Sends the answer for a failure, and closes.
async fn refuse(mut tcp: TcpStream, failure: &Failure, inlet: &Inlet) -> Manner {
    // A client that does not take its answer goes without.
    let _ = tcp.write_all(&failure.written()).await;
    close_behind_rest(tcp, inlet).await
}

/// Closes a connection whose client may still be sending, so that the client can read its answer first; in a drain, or
/// when no slot is left, not for long.
async fn close_behind_rest(tcp: TcpStream, inlet: &Inlet) -> Manner {
    let hurry = async {
        tokio::select! {
            () = inlet.drain.begun() => {}
            () = inlet.full() => {}
        }
    };
    Manner::of_close(socket::close_behind_rest(tcp, hurry).await)
}

/// Closes a connection with RST.
fn reset(tcp: TcpStream) -> Manner {
    socket::reset(tcp);
    Manner::Reset
}
