//! The counters and the log line of one exchange, whichever way the exchange ends.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode, Uri};

use super::{
    Client, Failure, Proxy, RequestLine, attempt::Attempt, explain::Explanation, failure::Cut,
};
use crate::{
    drain,
    telemetry::log::{self, Access, seconds},
    upstream::{Code, Exchanges, Failed, Lease, Party, RetryReason, Stage, Upstream},
};

/// The record of one exchange. If dropped before its end was recorded, the client has left, or Warmline is ending.
pub(super) struct Record {
    proxy: Arc<Proxy>,
    upstream: Option<Arc<Upstream>>,
    started: Instant,
    /// The time at which the last attempt's request was handed to a connection.
    sent: Option<Instant>,
    /// The time for which earlier attempts, and dials that failed, waited for the upstream.
    away: Duration,
    /// The beginning of the wait for a dial, as long as that goes on.
    dialling: Option<Instant>,
    pub(super) stage: Stage,
    status: Option<StatusCode>,
    /// The number of content bytes of the response so far.
    pub(super) bytes: u64,
    retries: u32,
    /// The reason of the last retry.
    retried: Option<RetryReason>,
    /// The number of attempts that a connection took.
    sends: u32,
    /// True if not all of the request's body was read when its answer began.
    pub(super) unread: bool,
    client: Arc<Client>,
    attempt: Option<Attempt>,
    /// The method and target for the log; `None` if no log line is written, or the request could not be read.
    request: Option<(Method, Uri)>,
    /// The oddities of its request line: escaped bytes, a fragment.
    pub(super) line: RequestLine,
    told: bool,
}

impl Record {
    /// Begins the record of an exchange whose request's header was complete at `now`; takes the findings in its request
    /// line from the client.
    pub(super) fn new(proxy: &Arc<Proxy>, client: &Arc<Client>, now: Instant) -> Self {
        Self {
            proxy: Arc::clone(proxy),
            upstream: None,
            started: now,
            sent: None,
            away: Duration::ZERO,
            dialling: None,
            stage: Stage::Request,
            status: None,
            bytes: 0,
            retries: 0,
            retried: None,
            sends: 0,
            unread: false,
            client: Arc::clone(client),
            attempt: None,
            request: None,
            line: client.take_line(),
            told: false,
        }
    }

    /// Remembers the request line, if access lines are logged.
    pub(super) fn request(&mut self, method: &Method, uri: &Uri) {
        if self.proxy.access.get() != Access::Off {
            self.request = Some((method.clone(), uri.clone()));
        }
    }

    /// Notes that the upstream is known, and a connection wanted.
    pub(super) fn routed(&mut self, upstream: &Arc<Upstream>) {
        self.upstream = Some(Arc::clone(upstream));
        self.stage = Stage::Connect;
    }

    /// Notes that the exchange waits for a connection: in the queue if `queued`, else for a dial.
    pub(super) fn waits(&mut self, queued: bool) {
        self.stage = if queued { Stage::Queue } else { Stage::Connect };
        self.dialling = (!queued).then(|| self.dialling.unwrap_or_else(Instant::now));
    }

    /// Notes that an attempt goes out on this connection.
    pub(super) fn attempt(&mut self, lease: &mut Lease, now: Instant) {
        self.sent = Some(now);
        self.dialling = None;
        self.sends += 1;
        self.stage = Stage::Response;
        self.attempt = Some(Attempt::on(lease, now));
    }

    /// Notes and counts a retry.
    pub(super) fn retried(&mut self, reason: RetryReason) {
        self.retries += 1;
        self.retried = Some(reason);
        self.stage = Stage::Connect;
        self.exchanges().retries.increment(reason);
        self.away = self.waited(Instant::now());
        (self.sent, self.dialling) = (None, None);
    }

    /// Returns the time for which the exchange has waited for the upstream: while a request was on its way, or during
    /// dials that failed.
    fn waited(&self, now: Instant) -> Duration {
        let since = self.sent.or(self.dialling);
        self.away + since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    pub(super) fn sends(&self) -> u32 {
        self.sends
    }

    pub(super) fn retries(&self) -> u32 {
        self.retries
    }

    /// Notes that the header of the final response came.
    pub(super) fn responded(&mut self, status: StatusCode, first_byte: Option<Instant>) {
        self.status = Some(status);
        self.stage = Stage::Body;
        if let Some(attempt) = &mut self.attempt {
            attempt.answered = first_byte;
        }
    }

    /// Returns the facts that the response's Proxy-Status field may tell.
    pub(super) fn explanation(&self) -> Explanation<'_> {
        let attempt = self.attempt.as_ref();
        Explanation { attempt, retries: self.retries, retried: self.retried }
    }

    /// Records that the response was relayed whole: counts the exchange and its times, and logs it if all requests get
    /// a line.
    pub(super) fn finish(mut self: Box<Self>, now: Instant) {
        let status = self.status.unwrap_or(StatusCode::OK);
        let waited = self.waited(now);
        if self.sent.is_some() {
            self.exchanges().upstream_seconds.observe(waited.saturating_sub(self.away));
        }
        self.count(Code::of(status), waited, now);
        self.told = true;
        if self.proxy.access.get() == Access::All {
            self.write_access_line(now, None, Stage::Body, None);
        }
    }

    /// Records that Warmline answered itself, with this number of bytes of content: counts the exchange and the
    /// failure, adds it to the list of recent failures, and logs it.
    pub(super) fn failed(mut self, failure: &Failure, content: u64, now: Instant) {
        let bare = self.request.as_ref().is_some_and(|(method, _)| method == Method::HEAD);
        self.bytes = if bare { 0 } else { content };
        self.status = Some(failure.status());
        self.count(Code::of(failure.status()), self.waited(now), now);
        self.told = true;
        if matches!(failure, Failure::Ending(_)) {
            self.proxy.cut_off.increment();
        }
        let (by, stage) = (failure.by(), failure.stage());
        self.exchanges().failed.increment((by, stage));
        self.note(self.status, by, stage, failure.to_string());
        self.write_access_line(now, Some(by), stage, Some(failure as &dyn fmt::Display));
    }

    /// Records that the response was cut after its header, for this reason: counts, lists and logs it as a failure.
    pub(super) fn broke(mut self, cut: &Cut, now: Instant) {
        self.abort(cut.by(), Some(cut), now);
    }

    /// Records that the exchange ended without a whole response, by the act of this side: counts and logs it, and lists
    /// it among the recent failures if there is a `cut`.
    fn abort(&mut self, by: Party, cut: Option<&Cut>, now: Instant) {
        self.told = true;
        self.count(Code::Aborted, self.waited(now), now);
        if matches!(cut, Some(Cut::Ending)) {
            self.proxy.cut_off.increment();
        }
        self.exchanges().failed.increment((by, self.stage));
        // A client that leaves is not a failure.
        if let Some(cut) = cut {
            self.note(None, by, self.stage, cut.to_string());
        }
        self.write_access_line(now, Some(by), self.stage, cut.map(|cut| cut as &dyn fmt::Display));
    }

    /// Counts the exchange and its time, of which it `waited` this long for the upstream.
    fn count(&self, code: Code, waited: Duration, now: Instant) {
        let exchanges = self.exchanges();
        exchanges.requests.increment(code);
        let total = now.saturating_duration_since(self.started);
        exchanges.request_seconds.observe(total);
        exchanges.added_seconds.observe(total.saturating_sub(waited));
    }

    /// Adds the failure to the list of recent failures on the operators' page.
    fn note(&self, status: Option<StatusCode>, by: Party, stage: Stage, text: String) {
        let status = status.map(|status| status.as_u16());
        let failed = Failed::new(status, by, stage, text);
        self.exchanges().failures.note(failed, SystemTime::now());
    }

    /// Returns the counters that the exchange belongs to: its upstream's, or those of requests for which no upstream
    /// was chosen.
    fn exchanges(&self) -> &Exchanges {
        match &self.upstream {
            Some(upstream) => &upstream.counters().exchanges,
            None => &self.proxy.unrouted,
        }
    }

    /// Writes the access line, unless such lines are off. The caller decides whether a success gets a line. A line beyond
    /// the most in a second is counted as left out instead; of these, lines of successes are left out first. `now` is the
    /// end of the exchange; `by` is the side at fault, `None` if the exchange succeeded; `error` is the failure in words,
    /// `None` also if the client left.
    fn write_access_line(
        &self,
        now: Instant,
        by: Option<Party>,
        stage: Stage,
        error: Option<&dyn fmt::Display>,
    ) {
        let line = if by.is_none() { log::Line::Ordinary } else { log::Line::Failure };
        if self.proxy.access.get() == Access::Off || !log::admits(line) {
            return;
        }
        let end = by.map_or_else(|| "ok".into(), |by| format!("{by}-{stage}"));
        let attempt = self.attempt.as_ref();
        tracing::info!(
            target: "warmline::access",
            client = %self.client.address,
            upstream = self.upstream.as_ref().map_or("_none", |u| u.name()),
            endpoint = attempt.map(|a| display(a.facts.peer)),
            local = attempt.and_then(|a| a.facts.local).map(display),
            conn = attempt.map(|a| a.id),
            r#use = attempt.map(|a| a.uses),
            age = attempt.map(|a| seconds(a.age)),
            reuse = attempt.map(|a| a.reuse.as_str()),
            tls = attempt.map(Attempt::tls),
            queue = attempt.map(|a| seconds(a.queued)),
            connect = attempt.map(|a| a.dialled(a.facts.connect_time)),
            handshake = attempt.map(|a| a.dialled(a.facts.handshake_time)),
            first = attempt.and_then(Attempt::first_byte).map(seconds),
            total = seconds(now.saturating_duration_since(self.started)),
            status = self.status.map(|s| s.as_u16()),
            bytes = self.bytes,
            retries = self.retries,
            retried = self.retried.map(RetryReason::as_str),
            end = %end,
            error = error.map(display),
            req = self.request.as_ref().map(|(method, uri)| display(LoggedRequestLine(method, uri))),
            escaped = Some(self.line.escaped).filter(|escaped| *escaped > 0),
        );
    }
}

/// A request line in the form that log lines have, without passwords.
struct LoggedRequestLine<'a>(&'a Method, &'a Uri);

impl fmt::Display for LoggedRequestLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(method, uri) = self;
        match uri.authority().and_then(|authority| authority.as_str().rsplit_once('@')) {
            // Such a request is refused; its password must not stay in the log.
            Some((_, host)) => write!(f, "{method} http://...@{host}{}", uri.path()),
            None => write!(f, "{method} {uri}"),
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if self.told {
            return;
        }
        let ending = self.client.drain.stage() >= drain::DrainStage::Aborting;
        let cut = ending.then_some(&Cut::Ending);
        self.abort(cut.map_or(Party::Client, Cut::by), cut, Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_a_target_does_not_reach_the_log() {
        for (target, logged) in [
            ("/x?y=a@b", "GET /x?y=a@b"),
            ("http://a.example/x", "GET http://a.example/x"),
            ("http://me:secret@a.example/x", "GET http://...@a.example/x"),
        ] {
            let uri = target.parse().expect("a URI");
            assert_eq!(LoggedRequestLine(&Method::GET, &uri).to_string(), logged);
        }
    }
}
