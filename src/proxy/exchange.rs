//! An exchange: a request and its response, over as many attempts as the evidence allows ("Evidence and retries" in
//! docs/design.md).

use std::{
    future::poll_fn,
    pin::{Pin, pin},
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

use http::{Request, Response, StatusCode};
use hyper::{body::Incoming, client::conn::TrySendError};

use super::{
    Client, Failure,
    authentication::{self, Challenge},
    failure::{self, Replaced},
    fields::{self, Fitness},
    outbound::Outbound,
    record::Record,
    urgency,
};
use crate::{
    connect::{
        Fate, PriorUse, RequestBody, StaleCheck, Suspect,
        body::{CONTINUE_TIMEOUT, Progress, Upload},
        connection::{self, Facts, SendResult},
        meter::Meter,
    },
    pool::{Ask, DEFAULT_URGENCY, EndReason, Reuse, Sharing, Verdict},
    upstream::{Lease, RetryReason, RetryRefusal, Settings, Stage, Unavailable, Upstream, Worker},
};

/// An exchange whose upstream is known.
pub(super) struct Exchange<'a> {
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) client: &'a Arc<Client>,
    pub(super) worker: &'a Worker,
}

/// The consequence of an attempt whose response, if one came, is not for the client.
struct FailedAttempt {
    /// The reason of a retry; `None` if the request must not be sent again.
    retry: Option<RetryReason>,
    /// The failure to answer with if there is no retry.
    failure: Failure,
    /// The state in which the attempt leaves its connection.
    verdict: Verdict,
}

impl FailedAttempt {
    /// Returns the consequence of an attempt that Warmline gives up: it is not made again.
    fn given_up(failure: Failure) -> Self {
        Self { retry: None, failure, verdict: connection::GIVEN_UP }
    }
}

/// A response whose header has come, and whose body is still to come.
pub(super) struct Responded {
    pub(super) response: http::response::Parts,
    pub(super) body: Incoming,
    pub(super) lease: Lease,
    /// The effect of the response's framing on its connection.
    pub(super) fitness: Fitness,
    /// True if the client has begun to authenticate the connection, and has not finished.
    pub(super) midway: bool,
}

impl Responded {
    /// Judges a response's header, and makes its fields fit to be sent to the client. Fails for 101, which no request
    /// asks for, and for a header whose framing breaks a rule.
    fn new(response: Response<Incoming>, lease: Lease, midway: bool) -> Result<Self, Failure> {
        let (mut response, body) = response.into_parts();
        if response.status == StatusCode::SWITCHING_PROTOCOLS {
            return Err(Failure::malformed("101 to a request that asked for no upgrade"));
        }
        let fitness = fields::to_client(&mut response)?;
        Ok(Self { response, body, lease, fitness, midway })
    }
}

impl Exchange<'_> {
    /// Sends the request, again as long as evidence and settings allow, and returns the response once its header has
    /// come. The leases of attempts that failed have ended then; that of the response goes on. Fails with the last
    /// attempt's failure, or for want of a connection.
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
            let failed = match self.attempt(&mut lease, outbound, record, now).await {
                Ok(response) => return self.responded(response, lease),
                Err(failed) => failed,
            };
            // The next attempt sets a deadline of its own; the wait for its connection has none.
            self.client.alarm.clear();
            let may_be_stale = past(&lease).may_be_stale();
            lease.end(failed.verdict, Instant::now());
            if continued && failed.retry.is_some() {
                return Err(Failure::LoginLost);
            }
            self.prepare_again(failed, may_be_stale, outbound, record)?;
            fresh = true;
        }
    }

    /// Returns the facts about this request that the pool has to know. Under `reuse: never` also notes that connections
    /// of the upstream will be this client's own.
    fn ask(&self, fresh: bool, outbound: &Outbound, record: &Record) -> Ask {
        let (client, first) = (self.client.id, self.client.is_first_exchange());
        let settings = self.upstream.settings();
        if settings.pool.sharing == Sharing::Never {
            self.client.note_own_connections(self.upstream);
        }
        let said = outbound.headers().zip(settings.priority.as_ref());
        let urgency = said.map_or(DEFAULT_URGENCY, |(headers, field)| urgency::of(headers, field));
        let repeatable = !outbound.may_be_unrepeatable() && may_be_retried(record, &settings);
        Ask { thread: self.worker.thread, fresh, repeatable, client, first, urgency }
    }

    /// Takes the connection on which the client is in the middle of an authentication handshake, if there is one. Fails
    /// if that was lost and the request continues the handshake, as no other connection will do.
    fn kept(&self, outbound: &Outbound) -> Result<Option<Box<Lease>>, Failure> {
        let Some(kept) = self.client.take_kept(self.upstream) else { return Ok(None) };
        let lost = match kept.lease {
            Some(mut lease) => {
                if lease.again(Instant::now()) {
                    return Ok(Some(lease));
                }
                let reason = lease.handle().ended_for().unwrap_or(EndReason::PeerClosed);
                lease.end(Verdict::Unfit(reason), Instant::now());
                Failure::LoginLost
            }
            None => Failure::LoginLate,
        };
        if outbound.authenticates() { Err(lost) } else { Ok(None) }
    }

    /// Makes the connection this client's own: no other client is served over it from now on.
    #[cold]
    fn claim(&self, lease: &Lease) {
        self.client.note_own_connections(self.upstream);
        lease.claim(self.client.id);
    }

    /// Returns the response for the client, with its lease. If the server has begun to authenticate the connection, the
    /// connection is this client's own from now on. Fails if the header breaks a rule of HTTP.
    fn responded(&self, response: Response<Incoming>, lease: Lease) -> Result<Responded, Failure> {
        let challenge = authentication::challenge(response.status(), response.headers());
        if challenge != Challenge::None {
            self.claim(&lease);
        }
        Responded::new(response, lease, challenge == Challenge::Midway)
    }

    /// Gets a connection, over as many dials as `retries.max` and the budget allow, and the time at which it came.
    /// Fails if the queue refuses the request, if a dial failed for good, or once the time for the drain is over.
    async fn lease(&self, mut ask: Ask, record: &mut Record) -> Result<(Lease, Instant), Failure> {
        loop {
            let mut on_wait = |queued| record.waits(queued);
            let leasing = self.upstream.lease(ask, self.worker, &mut on_wait);
            let Some(leased) = self.unless_ending(leasing).await else {
                return Err(Failure::Ending(record.stage));
            };
            match leased {
                Ok(leased) => return Ok(leased),
                Err(Unavailable::Dial(failed)) if failed.error.may_retry() => {
                    let allowed =
                        self.upstream.allow_redial(record.retries(), &failed, Instant::now());
                    allowed.map_err(|why| why.on(Failure::Dial(failed)))?;
                    record.retried(RetryReason::DialFailed);
                    ask.repeatable &= may_be_retried(record, &self.upstream.settings());
                }
                Err(error) => return Err(Failure::unavailable(error, self.upstream, record.stage)),
            }
        }
    }

    /// Sends the request once, on this lease's connection, and returns the response once its header has come. Notes the
    /// attempt in `record`. If no response came, or only a 408 for an idle connection, returns what follows from that;
    /// the request is back in `outbound` if nothing of it was written. The lease goes on in either case.
    async fn attempt(
        &self,
        lease: &mut Lease,
        outbound: &mut Outbound,
        record: &mut Record,
        now: Instant,
    ) -> Result<Response<Incoming>, FailedAttempt> {
        let past = past(lease);
        let connection = lease.handle();
        connection.begin(past);
        self.set_limits(&connection.meter, outbound, now);
        let Some(ready) = self.unless_ending(connection.ready()).await else {
            return Err(FailedAttempt::given_up(Failure::Ending(record.stage)));
        };
        if let Err(error) = ready {
            return Err(self.judge(lease, outbound, error.to_string(), record));
        }
        record.attempt(lease, now);
        let connection = lease.handle();
        let meter = Arc::clone(&connection.meter);
        let stale_check = match (past.may_be_stale(), outbound.may_be_unrepeatable()) {
            (false, _) => StaleCheck::Never,
            (true, true) => StaleCheck::Always,
            (true, false) => StaleCheck::IfIdle,
        };
        let request = outbound.take();
        let upload = outbound.upload().map(Arc::as_ref);
        let responded = {
            let responding = pin!(connection.send(request, stale_check, now));
            self.response(responding, &meter, upload, now).await
        };
        match responded {
            Ok(response) if past.may_be_stale() && is_idle_close(&response, &meter, upload) => {
                Err(idle_closed(record))
            }
            Ok(response) => {
                record.responded(response.status(), meter.first_byte());
                Ok(response)
            }
            Err(NoResponse::Failed(failure)) => Err(FailedAttempt::given_up(failure)),
            Err(NoResponse::Error(mut error)) => {
                if upload.is_some_and(|upload| upload.progress() == Progress::ClientAborted) {
                    return Err(FailedAttempt::given_up(Failure::UploadBroken));
                }
                outbound.given_back(error.take_message());
                let error = error.into_error();
                let fault = connection.fault(&error).await;
                let reason = fault.unwrap_or_else(|| failure::chain(&error));
                Err(self.judge(lease, outbound, reason, record))
            }
        }
    }

    /// Judges an attempt that ended without a response: tells the upstream on which part of the handshake that casts
    /// doubt, and returns the consequence. `reason` is hyper's description of the end.
    #[cold]
    fn judge(
        &self,
        lease: &mut Lease,
        outbound: &Outbound,
        reason: String,
        record: &Record,
    ) -> FailedAttempt {
        let connection = lease.handle();
        let handed_over = !outbound.is_here();
        let ((fate, suspect), facts) =
            (connection.fate(handed_over), Arc::clone(&connection.facts));
        let verdict = connection.verdict(fate);
        self.note_suspect(suspect, &facts);
        if matches!(fate, Fate::Unanswered { .. }) || connection.meter.is_forgotten() {
            // The peer may have ended the connection because of this request, or the network no longer carries it:
            // neither says anything about the peer's idle limit.
            lease.forget_idle_time();
        }
        let (retry, failure) = self.consequence(fate, reason, record.sends(), &facts);
        FailedAttempt { retry, failure, verdict }
    }

    /// Returns the reason of a retry after an attempt with this fate, and the failure to answer with otherwise:
    /// evidence that the upstream has processed nothing, or silence, lets the request be sent again, every other fate
    /// does not (`None`).
    fn consequence(
        &self,
        fate: Fate,
        reason: String,
        sends: u32,
        facts: &Facts,
    ) -> (Option<RetryReason>, Failure) {
        let again = |reason, failure| (Some(reason), failure);
        let never = |failure| (None, failure);
        let replaced = |why| Failure::Replaced(Replaced::of(self.upstream, why));
        let (peer, shown) = (facts.peer, facts.shown);
        match fate {
            Fate::NotSent => again(RetryReason::NotSent, Failure::NotSent { reason }),
            Fate::Unanswered { forgotten: false } => {
                again(RetryReason::Unanswered, Failure::Unanswered { reason, sent: sends })
            }
            Fate::Unanswered { forgotten: true } => {
                let limit = self.upstream.settings().unacknowledged_limit();
                again(RetryReason::Unanswered, Failure::Forgotten { limit, sent: sends })
            }
            Fate::Ended { reason: why, begun: false } => {
                again(RetryReason::Unanswered, replaced(why))
            }
            Fate::Ended { reason: why, begun: true } => never(replaced(why)),
            Fate::Begun { unreadable: false } => never(Failure::Unanswered { reason, sent: sends }),
            Fate::Begun { unreadable: true } => never(Failure::malformed(reason)),
            Fate::IdentityRefused(alert) => never(Failure::IdentityRefused { peer, alert, shown }),
            Fate::Refused(refusal) => never(Failure::Refused { peer, refusal }),
        }
    }

    /// Tells the upstream on which part of the TLS handshake the end of an attempt casts doubt.
    fn note_suspect(&self, suspect: Option<Suspect>, facts: &Facts) {
        match suspect {
            Some(Suspect::Session(alert)) => self.upstream.session_ended(facts, alert),
            Some(Suspect::Identity) => self.upstream.counters().identity_refused(facts.version),
            None => {}
        }
    }

    /// Sets the limits of an attempt: the longest time for which its bytes may stay unacknowledged, the first
    /// time at which [`Exchange::overdue`] looks for a limit that has passed, and the longest pause within the response.
    fn set_limits(&self, meter: &Meter, outbound: &Outbound, sent_at: Instant) {
        let limits = self.upstream.settings();
        meter.limit_unacknowledged(limits.unacknowledged_limit(), outbound.window());
        let late = match outbound.upload() {
            Some(_) => limits.response_timeout.min(limits.idle_timeout),
            None => limits.response_timeout,
        };
        self.client.alarm.set(sent_at + late);
        self.client.set_idle_limit(limits.idle_timeout);
    }

    /// Waits for the final header, within the limits ("Time limits" in docs/design.md). Fails with hyper's error, or
    /// with Warmline's own failure if a limit or the time for the drain is over.
    async fn response(
        &self,
        mut responding: Pin<&mut impl Future<Output = SendResult>>,
        meter: &Meter,
        upload: Option<&Upload>,
        sent_at: Instant,
    ) -> Result<Response<Incoming>, NoResponse> {
        poll_fn(|cx| {
            if let Poll::Ready(result) = responding.as_mut().poll(cx) {
                return Poll::Ready(result.map_err(NoResponse::Error));
            }
            if upload.is_some_and(|upload| upload.progress() == Progress::Complete) {
                self.client.set_whole();
            }
            if self.client.aborting() {
                let stage = if is_uploading(upload) { Stage::Body } else { Stage::Response };
                return Poll::Ready(Err(NoResponse::Failed(Failure::Ending(stage))));
            }
            if self.client.alarm.take_rung()
                && let Some(failure) = self.overdue(meter, upload, sent_at)
            {
                return Poll::Ready(Err(NoResponse::Failed(failure)));
            }
            Poll::Pending
        })
        .await
    }

    /// Returns the failure if a limit has passed; else sets the alarm for the next one.
    fn overdue(&self, meter: &Meter, upload: Option<&Upload>, sent_at: Instant) -> Option<Failure> {
        let (deadline, failure) = match upload.filter(|upload| upload.completed().is_none()) {
            Some(upload) => self.upload_limit(meter, upload, sent_at),
            None => self.response_limit(meter, upload, sent_at),
        };
        if deadline <= Instant::now() {
            return Some(failure);
        }
        self.client.alarm.set(deadline);
        None
    }

    /// Returns the time at which a pause in the upload is too long, and the failure of the side that pauses.
    fn upload_limit(&self, meter: &Meter, upload: &Upload, sent_at: Instant) -> (Instant, Failure) {
        let limit = self.upstream.settings().idle_timeout;
        let moved = meter.last_write().map_or(sent_at, |written| written.max(sent_at));
        let idle = self.client.idle_deadline(limit).max(moved + limit);
        // A body that waits for the upstream's 100 has yet to move.
        let parked = upload.progress() == Progress::Parked;
        let begins = if parked { CONTINUE_TIMEOUT } else { Duration::ZERO };
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
        sent_at: Instant,
    ) -> (Instant, Failure) {
        let limit = self.upstream.settings().response_timeout;
        let written = meter.last_write().max(upload.and_then(Upload::completed));
        let since = written.map_or(sent_at, |at| at.max(sent_at));
        (since + limit, Failure::ResponseTimeout(limit))
    }

    /// Makes the request ready for a fresh connection, and counts the retry, if the evidence and `retries` allow; else
    /// returns the failure.
    fn prepare_again(
        &self,
        failed: FailedAttempt,
        may_be_stale: bool,
        outbound: &mut Outbound,
        record: &mut Record,
    ) -> Result<(), Failure> {
        let FailedAttempt { retry, failure, .. } = failed;
        let Some(reason) = retry else { return Err(failure) };
        if !outbound.restore() {
            return Err(failure);
        }
        self.allow_retry(record, may_be_stale).map_err(|why| why.on(failure))?;
        record.retried(reason);
        Ok(())
    }

    /// Fails if `retries.max` is reached, or if the budget is used up. The budget is asked only if an attempt failed on a
    /// connection that was just dialled: of the other connections, no more are found dead than were kept, and without
    /// such retries reuse would not be safe.
    fn allow_retry(&self, record: &Record, may_be_stale: bool) -> Result<(), RetryRefusal> {
        self.upstream.allow_retry(record.retries(), (!may_be_stale).then(Instant::now))
    }

    /// Waits for the future's output; returns `None` if the time for the drain is over before that.
    async fn unless_ending<T>(&self, future: impl Future<Output = T>) -> Option<T> {
        let mut future = pin!(future);
        poll_fn(|cx| match future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.client.aborting() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    }
}

/// True if `retries.max` allows one more retry.
fn may_be_retried(record: &Record, settings: &Settings) -> bool {
    record.retries() < settings.retries.max
}

/// Returns the past of a lease's connection: dialled for this exchange or for another one that waited, or idle.
fn past(lease: &Lease) -> PriorUse {
    match (lease.uses, lease.reuse) {
        (1, Reuse::Reused) => PriorUse::Unused,
        (1, _) => PriorUse::JustDialled,
        _ => PriorUse::Used,
    }
}

/// Returns the consequence of an attempt that brought only a 408 for an idle connection.
#[cold]
fn idle_closed(record: &Record) -> FailedAttempt {
    let reason = "a 408 that closes the connection came in its place, as to an idle client".into();
    let failure = Failure::Unanswered { reason, sent: record.sends() };
    let verdict = Verdict::Unfit(EndReason::Stale);
    FailedAttempt { retry: Some(RetryReason::Unanswered), failure, verdict }
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
