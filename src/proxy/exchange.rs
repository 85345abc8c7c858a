//! An exchange: a request and its response, over as many attempts as the evidence allows ("Evidence and retries" in
//! docs/design.md).

use std::{
    future::poll_fn,
    pin::pin,
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Downstream, Failure,
    authentication::{self, Challenge},
    failure::{self, Replaced},
    fields::{self, Fitness},
    outbound::Outbound,
    record::Record,
    urgency,
};
use crate::{
    connect::{
        Connection, Look, RequestBody,
        body::{PARKED_FOR, Progress, Upload},
        meter::{Meter, Refusal},
    },
    pool::{Ask, DEFAULT_URGENCY, EndReason, Reuse, Sharing},
    tls::{Version, alert},
    upstream::{Lease, RetryReason, RetryRefusal, Settings, Stage, Unavailable, Upstream, Worker},
};

/// An exchange whose upstream is known.
pub(super) struct Exchange<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) downstream: &'a Arc<Downstream>,
    pub(super) worker: &'a Worker,
}

/// The reason for which an attempt gave no response.
enum Broken {
    /// hyper gave the request back: nothing of it was written.
    NotSent(String),
    /// The request was sent, and not a byte came back; the text is hyper's.
    Unanswered(String),
    /// The request was sent, and the only answer says that the connection had been idle for too long.
    IdleClosed,
    /// The request was sent, and the peer did not even acknowledge it for this time.
    Forgotten(Duration),
    /// The request was sent without an answer, as Warmline ended the connection for this reason.
    Replaced(EndReason),
    /// The exchange failed for good: another attempt is not allowed.
    Failed(Failure),
}

/// A response whose header has come, and whose body is still to come.
pub(super) struct Responded {
    pub(super) response: http::response::Parts,
    pub(super) body: Incoming,
    pub(super) lease: Lease,
    /// The effect of the response's framing on its connection.
    pub(super) fitness: Fitness,
    /// True in the middle of a handshake that authenticates the connection.
    pub(super) midway: bool,
}

impl Responded {
    /// Judges a response's header, and makes its fields fit to be sent to the client.
    fn new(response: Response<Incoming>, lease: Lease, midway: bool) -> Result<Self, Failure> {
        let (mut response, body) = response.into_parts();
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::malformed("101 to a request that asked for no upgrade"));
        }
        let fitness = fields::to_downstream(&mut response)?;
        Ok(Self { response, body, lease, fitness, midway })
    }
}

impl Exchange<'_> {
    /// Sends the request, again as long as evidence and settings allow, and returns the response once its header has
    /// come.
    pub(super) async fn run(
        &self,
        outbound: &mut Outbound,
        record: &mut Record,
    ) -> Result<Responded, Failure> {
        self.upstream.note_request();
        let mut fresh = false;
        let mut kept = self.kept(outbound)?;
        loop {
            let ask = self.ask(fresh, outbound, record);
            let continued = kept.is_some() && outbound.authenticates();
            let (mut lease, now) = match kept.take() {
                Some(lease) => (*lease, Instant::now()),
                None => self.lease(ask, record).await?,
            };
            if outbound.authenticates() {
                self.claim(&lease);
            }
            let broken = match self.attempt(&mut lease, outbound, record, now).await {
                Ok(response) => return self.responded(response, lease),
                Err(broken) => broken,
            };
            // The next attempt sets a deadline of its own; the wait for its connection has none.
            self.downstream.alarm.clear();
            let was_idle = !is_just_dialled(&lease);
            if matches!(broken, Broken::Unanswered(_) | Broken::Forgotten(_)) {
                lease.forget_idle_time();
            }
            lease.discard(broken.end_reason(was_idle));
            if continued && !matches!(broken, Broken::Failed(_)) {
                return Err(Failure::HandshakeLost);
            }
            self.prepare_again(broken, was_idle, outbound, record)?;
            fresh = true;
        }
    }

    fn ask(&self, fresh: bool, outbound: &Outbound, record: &Record) -> Ask {
        let (client, first) = (self.downstream.id, self.downstream.is_first_exchange());
        let settings = self.upstream.settings();
        if settings.pool.sharing == Sharing::Never {
            self.downstream.owns_connections_of(self.upstream);
        }
        let said = outbound.headers().zip(settings.priority.as_ref());
        let urgency = said.map_or(DEFAULT_URGENCY, |(headers, field)| urgency::of(headers, field));
        let repeatable = !outbound.is_sent_once() && may_be_retried(record, &settings);
        Ask { thread: self.worker.thread, fresh, repeatable, client, first, urgency }
    }

    /// Takes the connection on which the client is in the middle of an authentication handshake, if there is one. Fails
    /// if that was lost and the request continues the handshake, as no other connection will do.
    fn kept(&self, outbound: &Outbound) -> Result<Option<Box<Lease>>, Failure> {
        let Some(kept) = self.downstream.take_kept(self.upstream) else { return Ok(None) };
        let lost = match kept.lease {
            Some(mut lease) => {
                if lease.again(Instant::now()) {
                    return Ok(Some(lease));
                }
                let reason = lease.handle().switched_off().unwrap_or(EndReason::PeerClosed);
                lease.discard(reason);
                Failure::HandshakeLost
            }
            None => Failure::HandshakeLate,
        };
        if outbound.authenticates() { Err(lost) } else { Ok(None) }
    }

    /// Makes the connection this client's own: no other client is served over it from now on.
    #[cold]
    fn claim(&self, lease: &Lease) {
        self.downstream.owns_connections_of(self.upstream);
        lease.claim(self.downstream.id);
    }

    fn responded(&self, response: Response<Incoming>, lease: Lease) -> Result<Responded, Failure> {
        let challenge = authentication::challenge(response.status(), response.headers());
        if challenge != Challenge::None {
            self.claim(&lease);
        }
        Responded::new(response, lease, challenge == Challenge::Midway)
    }

    /// Gets a connection, over as many dials as `retries.max` allows.
    async fn lease(&self, mut ask: Ask, record: &mut Record) -> Result<(Lease, Instant), Failure> {
        loop {
            let mut stands = |queued| record.waits(queued);
            let leasing = self.upstream.lease(ask, self.worker, &mut stands);
            let Some(leased) = self.unless_ending(leasing).await else {
                return Err(Failure::Ending(record.stage));
            };
            match leased {
                Ok(leased) => return Ok(leased),
                Err(Unavailable::Dial(error)) if error.may_retry() => {
                    self.allow_retry(record, false).map_err(|why| why.on(Failure::Dial(error)))?;
                    record.retried(RetryReason::DialFailed);
                    ask.repeatable &= may_be_retried(record, &self.upstream.settings());
                }
                Err(error) => return Err(Failure::unavailable(error, self.upstream, record.stage)),
            }
        }
    }

    async fn attempt(
        &self,
        lease: &mut Lease,
        outbound: &mut Outbound,
        record: &mut Record,
        now: Instant,
    ) -> Result<Response<Incoming>, Broken> {
        let just_dialled = is_just_dialled(lease);
        let evidence = Evidence { first: lease.uses == 1, just_dialled };
        let connection = lease.handle();
        connection.meter.begin_exchange();
        self.set_limits(&connection.meter, outbound, now);
        if let Err(error) = connection.ready().await {
            let reason = error.to_string();
            return Err(evidence.judge(connection, outbound, reason, self.upstream, record));
        }
        record.attempt(lease, now);
        let connection = lease.handle();
        let meter = Arc::clone(&connection.meter);
        let look = match (just_dialled, outbound.is_sent_once()) {
            (true, _) => Look::Never,
            (false, true) => Look::Always,
            (false, false) => Look::IfIdle,
        };
        let responding = connection.send(outbound.take(), look, now);
        let upload = outbound.upload().map(Arc::as_ref);
        match self.response(responding, &meter, upload, now).await {
            Ok(response) if !just_dialled && is_idle_close(&response, &meter, upload) => {
                Err(Broken::IdleClosed)
            }
            Ok(response) => {
                record.responded(response.status(), meter.first_byte());
                Ok(response)
            }
            Err(NoResponse::Failed(failure)) => Err(Broken::Failed(failure)),
            Err(NoResponse::Error(mut error)) => {
                if upload.is_some_and(|upload| upload.progress() == Progress::Broken) {
                    return Err(Broken::Failed(Failure::UploadBroken));
                }
                outbound.given_back(error.take_message());
                let error = error.into_error();
                let fault = connection.fault(&error).await;
                let reason = fault.unwrap_or_else(|| failure::chain(&error));
                Err(evidence.judge(connection, outbound, reason, self.upstream, record))
            }
        }
    }

    /// Sets the limits of an attempt: the longest time for which its bytes may stay unacknowledged, the time at which
    /// the response is first found late, and the longest pause within the response.
    fn set_limits(&self, meter: &Meter, outbound: &Outbound, sent: Instant) {
        let limits = self.upstream.settings();
        meter.limit_patience(limits.patience(), outbound.window());
        let late = match outbound.upload() {
            Some(_) => limits.response_timeout.min(limits.idle_timeout),
            None => limits.response_timeout,
        };
        self.downstream.alarm.set(sent + late);
        self.downstream.set_idle_limit(limits.idle_timeout);
    }

    /// Waits for the final header, within the limits ("Time limits" in docs/design.md).
    async fn response(
        &self,
        responding: impl Future<Output = Result<Response<Incoming>, TrySendError<Request<RequestBody>>>>,
        meter: &Meter,
        upload: Option<&Upload>,
        sent: Instant,
    ) -> Result<Response<Incoming>, NoResponse> {
        let mut responding = pin!(responding);
        poll_fn(|cx| {
            if let Poll::Ready(result) = responding.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(NoResponse::Error));
            }
            if upload.is_some_and(|upload| upload.progress() == Progress::Complete) {
                self.downstream.set_whole();
            }
            if self.downstream.aborting() {
                let stage = if is_uploading(upload) { Stage::Body } else { Stage::Response };
                return Poll::Ready(Err(NoResponse::Failed(Failure::Ending(stage))));
            }
            if self.downstream.alarm.take_rung()
                && let Some(failure) = self.overdue(meter, upload, sent)
            {
                return Poll::Ready(Err(NoResponse::Failed(failure)));
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the failure if a limit has passed; else sets the alarm for the next one.
    fn overdue(&self, meter: &Meter, upload: Option<&Upload>, sent: Instant) -> Option<Failure> {
        let (deadline, failure) = match upload.filter(|upload| upload.completed().is_none()) {
            Some(upload) => self.upload_limit(meter, upload, sent),
            None => self.response_limit(meter, upload, sent),
        };
        if deadline <= Instant::now() {
            return Some(failure);
        }
        self.downstream.alarm.set(deadline);
        None
    }

    /// Returns the time at which a pause in the upload is too long, and the failure of the side that pauses.
    fn upload_limit(&self, meter: &Meter, upload: &Upload, sent: Instant) -> (Instant, Failure) {
        let limit = self.upstream.settings().idle_timeout;
        let moved = meter.last_write().map_or(sent, |written| written.max(sent));
        let idle = self.downstream.idle_deadline(limit).max(moved + limit);
        // A body that waits for the upstream's 100 has yet to move.
        let parked = upload.progress() == Progress::Parked;
        let begins = if parked { PARKED_FOR } else { Duration::ZERO };
        let failure = if upload.is_awaited() {
            Failure::UploadStalled(limit)
        } else {
            Failure::UploadIdle(limit)
        };
        (idle + begins, failure)
    }

    /// Returns the time at which a response is late, and that failure. The wait begins once the request is written.
    fn response_limit(
        &self,
        meter: &Meter,
        upload: Option<&Upload>,
        sent: Instant,
    ) -> (Instant, Failure) {
        let limit = self.upstream.settings().response_timeout;
        let written = meter.last_write().max(upload.and_then(Upload::completed));
        let since = written.map_or(sent, |at| at.max(sent));
        (since + limit, Failure::ResponseTimeout(limit))
    }

    /// Makes the request ready for a fresh connection, if the evidence and `retries` allow; else returns the failure.
    fn prepare_again(
        &self,
        broken: Broken,
        was_idle: bool,
        outbound: &mut Outbound,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let (reason, failure) = match broken {
            Broken::Failed(failure) => return Err(failure),
            Broken::NotSent(reason) => (RetryReason::NotSent, Failure::NotSent { reason }),
            Broken::Unanswered(reason) => {
                (RetryReason::Unanswered, Failure::Unanswered { reason, sent: record.sends() })
            }
            Broken::IdleClosed => {
                let reason =
                    "a 408 that closes the connection came in its place, as to an idle client";
                let (reason, sent) = (reason.into(), record.sends());
                (RetryReason::Unanswered, Failure::Unanswered { reason, sent })
            }
            Broken::Forgotten(limit) => {
                (RetryReason::Unanswered, Failure::Forgotten { limit, sent: record.sends() })
            }
            Broken::Replaced(why) => {
                let replaced = Replaced::of(self.upstream, why);
                (RetryReason::Unanswered, Failure::Replaced(replaced))
            }
        };
        if !outbound.restore() {
            return Err(failure);
        }
        self.allow_retry(record, was_idle).map_err(|why| why.on(failure))?;
        record.retried(reason);
        Ok(())
    }

    /// Fails if the settings allow no more retries: by `retries.max`, and by the budget if the upstream has failed a
    /// fresh connection. A connection that was idle and found dead does not count for the budget: there are no more of
    /// those than there were idle connections, and reuse would not be safe without such retries.
    fn allow_retry(&self, record: &Record, was_idle: bool) -> Result<(), RetryRefusal> {
        self.upstream.allow_retry(record.retries(), (!was_idle).then(Instant::now))
    }

    /// Waits for the future's output; returns `None` if the time for the drain is over before that.
    async fn unless_ending<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.downstream.aborting() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// True if `retries.max` allows one more retry.
fn may_be_retried(record: &Record, settings: &Settings) -> bool {
    record.retries() < settings.retries.max
}

/// True if the lease's connection was dialled for this exchange or for another one that waited: it was never idle.
fn is_just_dialled(lease: &Lease) -> bool {
    lease.uses == 1 && lease.reuse != Reuse::Reused
}

/// True if a response says only that its connection was idle for too long. An upstream may close an idle connection
/// with an unasked 408 (RFC 9110 section 15.5.9), in whatever way it then closes, and the request crosses that on the
/// way. If the client holds the rest of its request back, the 408 may be meant for that request and does not count.
fn is_idle_close(response: &Response<Incoming>, meter: &Meter, upload: Option<&Upload>) -> bool {
    response.status() == StatusCode::REQUEST_TIMEOUT
        && fields::closes(response)
        && !meter.has_informed()
        && !upload.is_some_and(Upload::is_awaited)
}

/// True if the peer ended the connection when at most informational responses had come.
fn ended_before_its_head(meter: &Meter) -> bool {
    meter.awaits_head() && meter.peer_end().is_some()
}

fn is_uploading(upload: Option<&Upload>) -> bool {
    upload.is_some_and(|upload| upload.completed().is_none())
}

/// The reason for which no response came.
enum NoResponse {
    /// hyper's error, with the request if nothing of it was written.
    Error(TrySendError<Request<RequestBody>>),
    /// Warmline's own failure: a time limit, or the end of the drain.
    Failed(Failure),
}

/// Facts about the connection of an attempt, beside what passed on the wire.
struct Evidence {
    /// True if this is the first exchange on the connection.
    first: bool,
    /// True if it was dialled for this exchange or for another one that waited: it was never idle.
    just_dialled: bool,
}

impl Evidence {
    /// Judges a broken attempt by what passed on the wire.
    fn judge(
        &self,
        connection: &Connection,
        outbound: &Outbound,
        reason: String,
        upstream: &Upstream,
        record: &Record,
    ) -> Broken {
        let received = connection.meter.received();
        if received == 0 && self.suspects_session(connection) {
            upstream.session_ended(&connection.facts, connection.meter.alert());
        } else if let Some(failure) = self.refused(connection, received, upstream) {
            return Broken::Failed(failure);
        }
        match (outbound.is_here(), connection.switched_off()) {
            (true, _) => Broken::NotSent(reason),
            (false, Some(reason)) if received == 0 => Broken::Replaced(reason),
            (false, Some(reason)) => {
                Broken::Failed(Failure::Replaced(Replaced::of(upstream, reason)))
            }
            (false, None) if received == 0 && connection.meter.is_forgotten() => {
                Broken::Forgotten(upstream.settings().patience())
            }
            (false, None) if received == 0 => Broken::Unanswered(reason),
            (false, None) if ended_before_its_head(&connection.meter) => {
                Broken::Failed(Failure::Unanswered { reason, sent: record.sends() })
            }
            (false, None) => Broken::Failed(Failure::malformed(reason)),
        }
    }

    /// True if the session may be the reason for which a resumed connection ended before anything came over it.
    /// Warmline's certificate was not shown on such a connection. Without an alert, a connection that was idle for a
    /// while may have gone stale instead.
    fn suspects_session(&self, connection: &Connection) -> bool {
        let refused = self.first && connection.meter.alert().is_some();
        connection.facts.is_resumed_late()
            && connection.switched_off().is_none()
            && (refused || self.just_dialled)
    }

    /// Returns the failure, if the next attempt would meet the same one.
    fn refused(
        &self,
        connection: &Connection,
        received: u64,
        upstream: &Upstream,
    ) -> Option<Failure> {
        let (peer, refusal) = (connection.facts.peer, connection.meter.refusal());
        if received > 0 {
            // Apache takes the body first, and asks the client for it with a 100.
            let refusal = refusal.filter(|_| connection.meter.awaits_head())?;
            return Some(Failure::Refused { peer, refusal });
        }
        // With TLS 1.2 the server judges Warmline's certificate before the handshake is done: an alert after that says
        // nothing about it.
        if let Some(alert) = connection.meter.alert()
            && connection.facts.version == Version::Tls13
            && self.first
        {
            upstream.counters().identity_refused(connection.facts.version);
            let shown = connection.facts.shown;
            let refused = Failure::IdentityRefused { peer, alert, shown };
            return alert::is_final(alert).then_some(refused);
        }
        // A used connection may have gone stale in any way.
        let refusal = refusal.filter(|refusal| self.first || *refusal == Refusal::Renegotiation)?;
        Some(Failure::Refused { peer, refusal })
    }
}

impl Broken {
    /// Returns the reason for the pool: only a connection that was idle can have gone stale meanwhile.
    fn end_reason(&self, was_idle: bool) -> EndReason {
        match self {
            Self::IdleClosed => EndReason::Stale,
            Self::NotSent(_) | Self::Unanswered(_) | Self::Forgotten(_) if was_idle => {
                EndReason::Stale
            }
            Self::NotSent(_) | Self::Unanswered(_) | Self::Forgotten(_) | Self::Failed(_) => {
                EndReason::Unfit
            }
            Self::Replaced(reason) => *reason,
        }
    }
}
