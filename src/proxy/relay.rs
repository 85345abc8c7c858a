//! A response's body on its way to the client: hyper's body in a wrapper that holds the lease. The wrapper counts
//! bytes, and checks the connection in before the body's end is handed over.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Instant,
};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use http_body_util::Full;
use hyper::body::Incoming;

use super::{
    Client,
    failure::{self, Cut, Replaced},
    fields::{self, Fitness},
    record::Record,
};
use crate::{
    connect::{
        body::{Progress, Upload},
        connection,
    },
    pool::{EndReason, Verdict},
    upstream::{Lease, Upstream},
};

/// The body of a response to a client.
pub enum ResponseBody {
    /// The content of an answer that Warmline makes itself.
    Own(Full<Bytes>),
    /// The body of an upstream's response.
    Relayed(Relay),
    /// The body of an upstream's response, which is empty.
    Empty,
}

/// A response's body, with the exchange that it completes.
pub struct Relay {
    incoming: Incoming,
    /// `None` once the exchange has ended.
    completion: Option<Completion>,
    /// True if the upstream has to send the next bytes; otherwise the client has yet to take those that came.
    waiting: bool,
}

/// Everything that is needed to end an exchange.
pub(super) struct Completion {
    pub(super) upstream: Arc<Upstream>,
    pub(super) lease: Lease,
    pub(super) client: Arc<Client>,
    pub(super) upload: Option<Arc<Upload>>,
    pub(super) record: Box<Record>,
    /// The effect of the response's framing on its connection.
    pub(super) fitness: Fitness,
    /// True in the middle of a handshake that authenticates the connection: the client's next request goes over it.
    pub(super) midway: bool,
}

impl Completion {
    /// Ends an exchange whose response is complete: the connection returns to the pool if the request is complete too.
    pub(super) fn complete(self) {
        let now = Instant::now();
        self.client.body_ends();
        let uploaded = self.upload.is_none_or(|upload| {
            upload.stop();
            upload.progress() == Progress::Complete
        });
        match self.fitness {
            Fitness::Fit(_) if uploaded && self.midway => {
                self.client.keep(self.upstream, self.lease, now);
            }
            Fitness::Fit(announced) if uploaded => {
                self.upstream.check_in(self.lease, announced, now);
            }
            _ => self.lease.end(Verdict::Unfit(EndReason::Unfit), now),
        }
        self.record.finish(now);
    }

    /// Ends an exchange whose response broke off with this error: the client's connection will be reset, the upstream's
    /// closes, and the cut is recorded with the side that caused it.
    fn broke(mut self, error: &hyper::Error) {
        self.client.set_broken();
        let ended_for = self.lease.handle().ended_for();
        let cut = match ended_for {
            Some(reason) => Cut::Replaced(Replaced::of(&self.upstream, reason)),
            // hyper ends a connection whose request's body broke off.
            None if self.uploading() == Some(Progress::ClientAborted) => Cut::RequestBroken,
            None => Cut::ResponseBroken(failure::cause(error)),
        };
        let now = Instant::now();
        self.lease.end(ended_for.map_or(connection::GIVEN_UP, Verdict::Unfit), now);
        self.record.broke(&cut, now);
    }

    /// Ends an exchange whose client connection ended in the middle of the response; `waiting` is true if the upstream
    /// had to send the next bytes.
    fn cut(self, waiting: bool) {
        if !self.client.is_stuck() {
            // The client left, or Warmline is ending: the record finds out which.
            return;
        }
        let limit = self.upstream.settings().idle_timeout;
        let owes_request = self.uploading() == Some(Progress::Streaming)
            && self.upload.as_ref().is_some_and(|upload| upload.is_awaited());
        let cut = match waiting {
            true if owes_request => Cut::RequestSilent(limit),
            true => Cut::UpstreamSilent(limit),
            false => Cut::ClientSilent(limit),
        };
        self.record.broke(&cut, Instant::now());
    }

    fn uploading(&self) -> Option<Progress> {
        self.upload.as_ref().map(|upload| upload.progress())
    }

    /// Notes the progress of the request's body. hyper does not learn of the client's FIN while the response goes on
    /// ([`Client::holds_fin`]): a request that is not complete by then never will be.
    fn note_upload(&self) {
        let Some(upload) = &self.upload else { return };
        if upload.progress() == Progress::Complete {
            self.client.set_whole();
        } else if self.client.is_fin_held() {
            upload.finish();
        }
    }
}

impl Relay {
    pub(super) fn new(incoming: Incoming, completion: Completion) -> Self {
        Self { incoming, completion: Some(completion), waiting: false }
    }

    /// Counts a frame's bytes of content, and drops trailers that must not pass.
    fn note(&mut self, frame: &mut Frame<Bytes>) {
        if let (Some(data), Some(completion)) = (frame.data_ref(), &mut self.completion) {
            completion.record.bytes += data.len() as u64;
        }
        if let Some(trailers) = frame.trailers_mut() {
            fields::filter_trailers(trailers);
        }
    }

    fn complete(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion.complete();
        }
    }
}

impl Body for Relay {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        if let Some(completion) = &self.completion {
            completion.note_upload();
        }
        let polled = Pin::new(&mut self.incoming).poll_frame(cx);
        self.waiting = polled.is_pending();
        match ready!(polled) {
            Some(Ok(mut frame)) => {
                self.note(&mut frame);
                if frame.is_trailers() || self.incoming.is_end_stream() {
                    self.complete();
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Some(Err(error)) => {
                if let Some(completion) = self.completion.take() {
                    completion.broke(&error);
                }
                Poll::Ready(Some(Err(error)))
            }
            None => {
                self.complete();
                Poll::Ready(None)
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        if let Some(completion) = self.completion.take() {
            completion.cut(self.waiting);
        }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self.get_mut() {
            Self::Own(text) => {
                Pin::new(text).poll_frame(cx).map_err(|infallible| match infallible {})
            }
            Self::Relayed(relay) => Pin::new(relay).poll_frame(cx),
            Self::Empty => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Own(text) => text.is_end_stream(),
            Self::Relayed(relay) => relay.is_end_stream(),
            Self::Empty => true,
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Own(text) => text.size_hint(),
            Self::Relayed(relay) => relay.size_hint(),
            Self::Empty => SizeHint::with_exact(0),
        }
    }
}
