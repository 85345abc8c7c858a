//! A request's journey: route, pick, lease, send, relay, retry; and the one mapping from failure to answer.

mod alarm;
mod attempt;
mod authentication;
mod client;
mod exchange;
mod explain;
mod failure;
mod fields;
mod keep_alive;
mod outbound;
mod record;
mod relay;
mod target;
mod urgency;

use std::{
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::body::{Body as _, Incoming};

pub(crate) use alarm::Alarm;
pub(crate) use client::{Client, Phase, RequestLine};
use exchange::{Exchange, Responded};
pub(crate) use failure::Failure;
use outbound::Outbound;
use record::Record;
pub(crate) use relay::ResponseBody;
use relay::{Completion, Relay};
pub(crate) use target::{Destination, Entry, with_port};

use crate::{
    telemetry::{Counter, log::AccessSwitch},
    upstream::{Exchanges, Upstream, Worker},
};

/// The longest time for which an answer of Warmline's own may move no byte.
const OWN_ANSWER_TIME: Duration = Duration::from_secs(10);

/// The state that all requests share.
pub struct Proxy {
    /// The setting for which requests get a log line.
    pub access: AccessSwitch,
    /// The URL of `/pools`, which Warmline's own answers name.
    pub pools: String,
    /// The counters of requests for which no upstream was chosen.
    pub unrouted: Exchanges,
    /// The requests that were broken off because the time for the drain was over.
    pub cut_off: Counter,
}

impl Proxy {
    /// Begins the client's exchange, judges its request and finds its upstream, without waiting; a failure is part of
    /// the result. If `explain`, the response's head tells how it was made.
    pub fn prepare(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entry: &Entry,
        client: &Arc<Client>,
        explain: bool,
    ) -> PreparedRequest {
        // The last byte of the request's header came just now.
        let now = client.last_io().unwrap_or_else(Instant::now);
        client.exchange_begins(now, request.body().size_hint().exact());
        let mut record = Box::new(Record::new(self, client, now));
        record.unread = !request.body().is_end_stream();
        let routed = RoutedRequest::of(request, entry, &mut record);
        PreparedRequest { record, routed, explain }
    }

    /// Counts and logs a request whose header could not be read; the listener answers it, with this number of bytes of
    /// content.
    pub fn refuse_unreadable(
        self: &Arc<Self>,
        failure: &Failure,
        content: u64,
        client: &Arc<Client>,
    ) {
        let now = Instant::now();
        let begun = client.since().unwrap_or(now);
        Record::new(self, client, begun).failed(failure, content, now);
    }

    /// Counts and logs the failure, and returns Warmline's answer for it, for which the client's connection enters
    /// [`Phase::Flushing`].
    fn refuse(
        &self,
        failure: &Failure,
        upstream: Option<&Upstream>,
        record: Box<Record>,
        client: &Client,
        explain: bool,
    ) -> Response<ResponseBody> {
        let unread = record.unread;
        let now = Instant::now();
        let mut answer = failure.answer(upstream, &self.pools).map(ResponseBody::Own);
        if explain {
            record.explanation().extend(answer.headers_mut());
        }
        record.failed(failure, answer.size_hint().lower(), now);
        client.set_idle_limit(OWN_ANSWER_TIME);
        client.body_begins(now);
        client.body_ends();
        finished(answer, unread, client)
    }
}

/// A request that was judged. Its future keeps it in one place, as it is large and should not be moved from call to
/// call.
pub struct PreparedRequest {
    /// The record of the exchange. Boxed, as it is large, and passes through hyper with the response's body, which is
    /// copied eleven times on its way.
    record: Box<Record>,
    routed: Result<RoutedRequest, Failure>,
    explain: bool,
}

/// A request whose upstream is known.
struct RoutedRequest {
    upstream: Arc<Upstream>,
    outbound: Outbound,
}

impl RoutedRequest {
    /// Judges a request, finds its upstream, and makes its fields fit to be sent there; notes request and upstream in
    /// `record`. Fails with the first rule that the request breaks, or if no upstream is configured for its host.
    fn of(request: Request<Incoming>, entry: &Entry, record: &mut Record) -> Result<Self, Failure> {
        let (mut parts, incoming) = request.into_parts();
        record.request(&parts.method, &parts.uri);
        target::check_line(record.line)?;
        let (upstream, host) = target::resolve_destination(entry, &mut parts, record.line)?;
        fields::to_upstream(&mut parts, host, upstream.settings().header_case)?;
        record.routed(&upstream);
        let outbound = Outbound::new(parts, incoming, &upstream);
        Ok(Self { upstream, outbound })
    }
}

impl PreparedRequest {
    /// Sends the request to its upstream and returns the response, or Warmline's answer to a failure.
    #[allow(clippy::manual_async_fn, reason = "an async fn keeps room for its arguments twice")]
    pub fn serve(
        mut self,
        proxy: Arc<Proxy>,
        client: Arc<Client>,
        worker: Arc<Worker>,
    ) -> impl Future<Output = Result<Response<ResponseBody>, Infallible>> {
        async move {
            let explain = self.explain;
            let routed = match &mut self.routed {
                Ok(routed) => routed,
                Err(failure) => {
                    return Ok(proxy.refuse(failure, None, self.record, &client, explain));
                }
            };
            let RoutedRequest { upstream, outbound } = routed;
            let exchange = Exchange { upstream, client: &client, worker: &worker };
            let responded = exchange.run(outbound, &mut self.record).await;
            self.record.unread = outbound.is_unread();
            outbound.release();
            Ok(match responded {
                Ok(mut responded) => {
                    if explain {
                        self.record.explanation().join(&mut responded.response.headers);
                    }
                    let unread = self.record.unread;
                    let answer = relay(responded, routed, &client, self.record);
                    finished(answer, unread, &client)
                }
                Err(failure) => {
                    proxy.refuse(&failure, Some(upstream), self.record, &client, explain)
                }
            })
        }
    }
}

/// Completes each answer: adds `Connection: close` if the client's connection must not be used again, because the
/// request is `unread` (which the client's connection notes) or a drain has begun.
fn finished(
    mut response: Response<ResponseBody>,
    unread: bool,
    client: &Client,
) -> Response<ResponseBody> {
    // The rest of the request is not read: the client must not use the connection for another one.
    if unread {
        client.set_unread();
    }
    if unread || client.drain.has_begun() {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// Returns the response for the client; if it has no body, the exchange ends here.
fn relay(
    responded: Responded,
    routed: &RoutedRequest,
    client: &Arc<Client>,
    record: Box<Record>,
) -> Response<ResponseBody> {
    let Responded { response, body, lease, fitness, midway } = responded;
    let upstream = Arc::clone(&routed.upstream);
    let upload = routed.outbound.upload().cloned();
    client.body_begins(Instant::now());
    let client = Arc::clone(client);
    let completion = Completion { upstream, lease, client, upload, record, fitness, midway };
    if body.is_end_stream() {
        completion.complete();
        return Response::from_parts(response, ResponseBody::Empty);
    }
    Response::from_parts(response, ResponseBody::Relayed(Relay::new(body, completion)))
}
