//! A request's journey: route, pick, lease, send, relay, retry; and the one mapping from failure to answer.

mod downstream;
mod exchange;
mod failure;
mod fields;
mod record;
mod relay;
mod target;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderValue, Request, Response, header::CONNECTION};
use hyper::body::{Body as _, Incoming};

pub use downstream::{Downstream, Phase};
use exchange::{Exchange, Responded};
pub use failure::{Failure, Stage};
use record::Record;
pub use relay::Answer;
use relay::{Ending, Relay};
pub use target::{Destination, Entry, with_port};

use crate::{
    connect::body::Progress,
    drain::Drain,
    telemetry::log::Access,
    upstream::{Code, Exchanges, Upstream, Worker},
};

/// How long an answer of ours may move no byte.
const OWN_ANSWER_TIME: Duration = Duration::from_secs(10);

/// What all requests share.
pub struct Proxy {
    /// Which requests get a log line.
    pub access: Access,
    /// What answers of ours tell people to look at: the URL of `/pools`.
    pub pools: String,
    /// Requests for which no upstream was chosen.
    pub unrouted: Exchanges,
    /// The end.
    pub drain: Drain,
}

impl Proxy {
    /// Carries one request to its destination and its response back.
    pub async fn serve(
        self: &Arc<Self>,
        request: Request<Incoming>,
        entry: &Entry,
        downstream: &Arc<Downstream>,
        worker: &Worker,
    ) -> Response<Answer> {
        let now = Instant::now();
        downstream.exchange_begins(now);
        let mut record = Record::new(self, downstream.client, now);
        record.unread = !request.body().is_end_stream();
        let mut upstream = None;
        let found = self.carry(request, entry, downstream, worker, &mut record, &mut upstream);
        let found = found.await;
        // What is left of the request is not read: the client must not take the connection for another one.
        let closes = record.unread || self.drain.has_begun();
        let mut response = match found {
            Ok(responded) => relay(responded, upstream, downstream, record),
            Err(failure) => {
                record.failed(&failure, Instant::now());
                downstream.body_begins(Instant::now(), OWN_ANSWER_TIME);
                downstream.body_ends();
                failure.answer(upstream.as_deref(), &self.pools).map(Answer::Own)
            }
        };
        if closes {
            response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }

    /// hyper answered a request that it could not read, on its own.
    pub fn count_unreadable(&self) {
        self.unrouted.requests.increment(Code::ClientError);
    }

    async fn carry(
        &self,
        request: Request<Incoming>,
        entry: &Entry,
        downstream: &Arc<Downstream>,
        worker: &Worker,
        record: &mut Record,
        upstream: &mut Option<Arc<Upstream>>,
    ) -> Result<Responded, Failure> {
        let (mut parts, incoming) = request.into_parts();
        record.request(&parts.method, &parts.uri);
        let (found, host) = target::find(entry, &mut parts)?;
        fields::to_upstream(&mut parts, host)?;
        record.routed(&found);
        let chosen = upstream.insert(found);
        let exchange = Exchange { upstream: chosen, downstream, worker };
        exchange.run(parts, incoming, record).await
    }
}

/// Hands a response over; where it has no body, the exchange ends here.
fn relay(
    responded: Responded,
    upstream: Option<Arc<Upstream>>,
    downstream: &Arc<Downstream>,
    record: Record,
) -> Response<Answer> {
    let Responded { response, body, lease, upload, fit } = responded;
    let upstream = upstream.expect("a response came from an upstream");
    downstream.body_begins(Instant::now(), upstream.settings().idle_timeout);
    if let Some(upload) = upload.as_deref().filter(|u| u.progress() != Progress::Complete) {
        upload.stop();
    }
    let downstream = Arc::clone(downstream);
    let ending = Ending { upstream, lease, downstream, upload, record, fit };
    if body.is_end_stream() {
        ending.complete();
        return Response::from_parts(response, Answer::Empty);
    }
    Response::from_parts(response, Answer::Relayed(Relay::new(body, ending)))
}
