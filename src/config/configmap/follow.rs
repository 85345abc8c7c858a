//! Follows a `ConfigMap` at the API server: one list, then one watch after another, each from where the last one ended.
//!
//! kube's own watcher is not used: it does not tell when contact is regained, and it ends all watches of a rollout at
//! the same age. Here each watch has a random age, so that pods that began together do not return together, and a
//! random wait follows each failure (`crate::backoff`).

use std::{
    pin::pin,
    time::{Duration, Instant},
};

use futures_util::TryStreamExt as _;
use k8s_openapi::api::core::v1;
use kube::{
    Api, Client,
    api::{ListParams, WatchEvent, WatchParams},
    core::Status,
};
use tokio::{
    sync::watch::Sender,
    time::{sleep, timeout},
};

use super::{ConfigMapState, Feed, LostContact, Reference, content, notice};
use crate::{
    api_server::{self, NoWay},
    backoff::Backoff,
};

/// The ages, in seconds, from which each watch gets a random one. The API server itself would end a watch after 30 to
/// 60 minutes.
const AGES: std::ops::RangeInclusive<u32> = 200..=290;
/// The time after which an open watch counts as contact even without an event: an API server that lags behind opens a
/// watch and fails it at once.
const SETTLED: Duration = Duration::from_secs(1);
/// The time beyond its age that a watch may stay silent before it counts as broken.
const SILENCE: Duration = Duration::from_secs(10);
/// The time that the API server has for an answer, once it has answered a request; each request without an answer
/// doubles the time for the next. It is short because an API server that starts holds all requests back and then
/// answers them in one moment: clients that have given up by then return later, spread out.
const ANSWER: Duration = Duration::from_secs(3);
const LONGEST_ANSWER: Duration = Duration::from_secs(30);
const CONNECT: Duration = Duration::from_secs(5);
/// The first wait after a failure, or after a watch that ended too early: when the API server ends, all watches end in
/// the same moment.
const FIRST_WAIT: Duration = Duration::from_secs(5);
/// The longest wait while the API server cannot be reached.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// The longest wait while the API server refuses (401, 403, 404), which only an administrator can change.
const LONGEST_WAIT_REFUSED: Duration = Duration::from_mins(5);

/// The reasons for which a `ConfigMap` cannot be followed at all.
#[derive(Debug, thiserror::Error)]
pub enum FollowError {
    /// No token or kubeconfig for the API server was found.
    #[error(transparent)]
    NoAccess(#[from] NoWay),
    /// The client of the API server could not be made.
    #[error("a client of the API server cannot be made: {}", api_server::reason(.0))]
    Client(#[from] kube::Error),
}

/// The reasons for which contact was lost, or never begun.
#[derive(Debug, thiserror::Error)]
enum ContactError {
    #[error("{}", api_server::reason(.0))]
    Api(#[from] kube::Error),
    #[error("{0}")]
    Status(Box<Status>),
    #[error("the API server did not answer in time")]
    Silent,
    #[error("the API server ended the watch at once")]
    Short,
}

/// Makes a client of the API server from the pod's token or a kubeconfig. The client belongs to the runtime that it was
/// made on.
pub async fn connect() -> Result<Client, FollowError> {
    let mut config = api_server::config().await?;
    config.connect_timeout = Some(CONNECT);
    Ok(Client::try_from(config)?)
}

/// Follows the `ConfigMap` and publishes rejections for as long as it is polled, beginning after a random part of
/// `jitter`.
pub async fn follow(client: Client, reference: Reference, feed: Feed, jitter: Duration) {
    let namespace = reference.namespace.clone();
    let namespace = namespace.unwrap_or_else(|| client.default_namespace().to_owned());
    sleep(jitter.mul_f64(fastrand::f64())).await;
    let Feed { known, rejected } = feed;
    let seen = known.subscribe();
    let api = Api::namespaced(client.clone(), &namespace);
    let follower = Follower {
        api,
        reference: reference.clone(),
        known,
        version: None,
        backoff: Backoff::new(FIRST_WAIT),
        answer: LONGEST_ANSWER,
        expired: false,
    };
    tokio::join!(follower.run(), notice::publish(client, namespace, reference, seen, rejected));
}

struct Follower {
    api: Api<v1::ConfigMap>,
    reference: Reference,
    known: Sender<ConfigMapState>,
    /// The resource version of the last list or event; `None` before the first, and once the API server has forgotten
    /// it.
    version: Option<String>,
    backoff: Backoff,
    /// The time that the API server has for the next answer.
    answer: Duration,
    /// True if the API server had forgotten the version, and no watch has lasted since.
    expired: bool,
}

impl Follower {
    /// Watches the `ConfigMap` for ever, again and again; records and logs each loss of contact, and waits after each.
    async fn run(mut self) {
        loop {
            match self.contact().await {
                Ok(()) => {}
                Err(lost) => {
                    // A version that is forgotten once is ordinary.
                    if self.expired || !lost.is_expired() {
                        self.lose(&lost);
                    }
                    if lost.is_expired() {
                        self.forget();
                    }
                    sleep(self.backoff.after_failure(lost.longest_wait(), fastrand::f64())).await;
                }
            }
        }
    }

    /// Forgets the version, so that the next contact begins with a list. This is ordinary, but an API server that lags
    /// behind may cause it again and again.
    fn forget(&mut self) {
        tracing::debug!("the ConfigMap's watch cannot go on from where it was");
        self.version = None;
        self.expired = true;
    }

    /// Makes a list if there is no version, and then one watch until its end, and takes all events. A watch that ended
    /// too early is followed by a wait. Fails if the API server refuses, does not answer or goes silent, or ends the
    /// watch at once.
    async fn contact(&mut self) -> Result<(), ContactError> {
        if self.version.is_none() {
            self.version = Some(self.list().await?);
        }
        let from = self.version.clone().unwrap_or_default();
        let age = fastrand::u32(AGES);
        let params = WatchParams::default().fields(&self.selector()).timeout(age);
        let api = self.api.clone();
        let stream = self.answered(api.watch(&params, &from)).await?;
        let opened = Instant::now();
        let mut stream = pin!(stream);
        let end = opened + Duration::from_secs(age.into()) + SILENCE;
        let mut is_settled = false;
        loop {
            let patience = if is_settled { end } else { opened + SETTLED };
            let left = patience.saturating_duration_since(Instant::now());
            match timeout(left, stream.try_next()).await {
                Ok(Ok(Some(event))) => self.take(event)?,
                Ok(Ok(None)) if !is_settled => return Err(ContactError::Short),
                Ok(Ok(None)) => break,
                Ok(Err(error)) => return Err(error.into()),
                Err(_) if is_settled => return Err(ContactError::Silent),
                Err(_) => {}
            }
            is_settled = true;
            self.regain();
        }
        if opened.elapsed() < Duration::from_secs(age.into()).saturating_sub(SILENCE) {
            sleep(self.backoff.after_failure(LONGEST_WAIT, fastrand::f64())).await;
        }
        Ok(())
    }

    /// Requests the whole `ConfigMap` and records its content; returns the version from which a watch goes on. The
    /// first list may be of any version, from the API server's memory, because the watch then brings what is newer.
    /// Later lists must be of the newest, so that nothing goes back.
    async fn list(&mut self) -> Result<String, ContactError> {
        let newest = ListParams::default().fields(&self.selector());
        let is_first = self.known.borrow().content.is_none();
        let params = if is_first { newest.match_any() } else { newest };
        let api = self.api.clone();
        let list = self.answered(api.list(&params)).await?;
        self.found(list.items.first());
        Ok(list.metadata.resource_version.unwrap_or_else(|| "0".into()))
    }

    /// Waits for an answer of the API server for no longer than `self.answer`, and fails after that. Without an answer
    /// the next limit is twice as long, at most 30 s; with one it is 3 s again.
    async fn answered<T>(
        &mut self,
        question: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, ContactError> {
        let Ok(answer) = timeout(self.answer, question).await else {
            self.answer = LONGEST_ANSWER.min(2 * self.answer);
            return Err(ContactError::Silent);
        };
        self.answer = ANSWER;
        Ok(answer?)
    }

    /// Records the content and the version that an event brings. Fails if the event is an error of the API server.
    fn take(&mut self, event: WatchEvent<v1::ConfigMap>) -> Result<(), ContactError> {
        let newest = match event {
            WatchEvent::Added(found) | WatchEvent::Modified(found) => {
                self.found(Some(&found));
                found.metadata.resource_version
            }
            WatchEvent::Deleted(gone) => {
                self.found(None);
                gone.metadata.resource_version
            }
            WatchEvent::Bookmark(mark) => Some(mark.metadata.resource_version),
            WatchEvent::Error(status) => return Err(ContactError::Status(status)),
        };
        self.version = newest.or(self.version.take());
        Ok(())
    }

    /// Records the `ConfigMap`'s content and UID, or that it does not exist (`None`), and wakes the tasks that wait for
    /// a change if the content is another one.
    fn found(&self, found: Option<&v1::ConfigMap>) {
        let content = Some(content::of(found, &self.reference));
        let uid = found.and_then(|found| found.metadata.uid.clone());
        self.known.send_if_modified(|known| {
            let news = known.content != content;
            (known.content, known.uid) = (content, uid);
            news
        });
    }

    /// Records that there is contact: a watch has lasted, or has brought an event. Logs that if contact had been lost.
    /// The next wait after a failure is the shortest again.
    fn regain(&mut self) {
        self.expired = false;
        self.backoff.reset();
        self.known.send_if_modified(|known| {
            let was_away = known.away.take().is_some();
            if was_away {
                tracing::info!(configmap = %self.reference, "the ConfigMap is watched again");
            }
            was_away
        });
    }

    /// Records the loss of contact with its reason, and logs it. A repeated loss for the same reason changes nothing;
    /// the time is that of the first loss.
    fn lose(&self, lost: &ContactError) {
        let reason = lost.to_string();
        self.known.send_if_modified(|known| {
            let before = known.away.as_ref();
            if before.is_some_and(|away| away.reason == reason) {
                return false;
            }
            let since = before.map_or_else(Instant::now, |away| away.since);
            tracing::warn!(configmap = %self.reference, reason, "the ConfigMap cannot be watched; tried again");
            known.away = Some(LostContact { since, reason });
            true
        });
    }

    /// Returns the field selector for the one name: a role with `resourceNames` permits list and watch only with it.
    fn selector(&self) -> String {
        format!("metadata.name={}", self.reference.name)
    }
}

impl ContactError {
    /// True if the API server has forgotten the version that the watch was to go on from (410, as the answer or in the
    /// stream).
    fn is_expired(&self) -> bool {
        self.code() == 410
    }

    fn longest_wait(&self) -> Duration {
        if matches!(self.code(), 401 | 403 | 404) { LONGEST_WAIT_REFUSED } else { LONGEST_WAIT }
    }

    /// Returns the HTTP status; 0 if the API server did not answer with one.
    fn code(&self) -> u16 {
        match self {
            Self::Api(kube::Error::Api(status)) | Self::Status(status) => status.code,
            Self::Api(_) | Self::Silent | Self::Short => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{Read as _, Write as _},
        net::TcpListener,
        sync::mpsc::{Receiver, channel},
        thread,
    };

    use super::*;
    use crate::config::configmap::ConfigMap;

    /// Starts an API server that lags behind, which a real one cannot be made to do: its list is empty, and each watch
    /// answers with `watched`. The receiver gets the first line of each request.
    fn api_server(watched: &'static str) -> (Client, Receiver<String>) {
        let (tell, questions) = channel();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let (mut client, mut request) = (client.unwrap(), [0; 4096]);
                let read = client.read(&mut request).unwrap();
                let asked = String::from_utf8_lossy(&request[..read]).into_owned();
                let list = r#"{"kind":"ConfigMapList","apiVersion":"v1","metadata":{"resourceVersion":"1"},"items":[]}"#;
                let question = asked.lines().next().unwrap_or_default().to_owned();
                let body = if asked.contains("watch=true") { watched } else { list };
                let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n";
                client.write_all(format!("{head}{body}").as_bytes()).unwrap();
                let _ = tell.send(question);
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        (Client::try_from(config).unwrap(), questions)
    }

    fn follower(client: Client) -> (Follower, ConfigMap) {
        let reference = Reference::parse("warmline", "config.yaml").unwrap();
        let (configmap, feed) = ConfigMap::new(reference.clone());
        let follower = Follower {
            api: Api::namespaced(client, "shop"),
            reference,
            known: feed.known,
            version: None,
            backoff: Backoff::new(FIRST_WAIT),
            answer: LONGEST_ANSWER,
            expired: false,
        };
        (follower, configmap)
    }

    #[tokio::test]
    async fn a_watch_that_opens_and_fails_at_once_is_no_contact_so_that_away_counts_from_when_it_was_lost()
     {
        let expired = r#"{"type":"ERROR","object":{"kind":"Status","code":410,"status":"Failure","message":"too old","reason":"Expired"}}"#;
        let (client, questions) = api_server(expired);
        let (mut follower, configmap) = follower(client);
        follower.lose(&ContactError::Silent);
        let lost = configmap.known().away;
        for _ in 0..3 {
            assert!(follower.contact().await.unwrap_err().is_expired());
            assert!(configmap.known().content.is_some(), "the list came");
            assert_eq!(configmap.known().away, lost);
            follower.forget();
        }
        let lists: Vec<_> = questions.try_iter().filter(|asked| !asked.contains("watch")).collect();
        let of_any_age = lists.iter().map(|asked| asked.contains("resourceVersion=0"));
        assert_eq!(
            of_any_age.collect::<Vec<_>>(),
            [true, false, false],
            "nothing goes back: {lists:?}"
        );
    }

    #[tokio::test]
    async fn a_watch_that_ends_at_once_is_no_contact_either() {
        let (mut follower, configmap) = follower(api_server("").0);
        follower.lose(&ContactError::Silent);
        assert!(matches!(follower.contact().await, Err(ContactError::Short)));
        assert!(configmap.known().away.is_some());
    }

    #[tokio::test]
    async fn a_watch_with_an_event_is_contact() {
        let mark = r#"{"type":"BOOKMARK","object":{"kind":"ConfigMap","apiVersion":"v1","metadata":{"resourceVersion":"7"}}}"#;
        let (mut follower, configmap) = follower(api_server(mark).0);
        follower.lose(&ContactError::Silent);
        tokio::select! {
            // The follower waits before the next watch, because this one ended early.
            _ = follower.contact() => {}
            () = async {
                let mut configmap = configmap.clone();
                while configmap.known().away.is_some() {
                    configmap.changed().await;
                }
            } => {}
        }
        assert_eq!(configmap.known().away, None);
        assert_eq!(follower.version.as_deref(), Some("7"));
    }

    #[test]
    fn a_forgotten_version_is_known_in_the_stream_and_as_the_answer_and_who_is_refused_waits_longest()
     {
        let status = |code: u16| Box::new(Status { code, ..Status::default() });
        for lost in
            [ContactError::Status(status(410)), ContactError::Api(kube::Error::Api(status(410)))]
        {
            assert!(lost.is_expired(), "{lost:?}");
            assert_eq!(lost.longest_wait(), LONGEST_WAIT);
        }
        for lost in
            [ContactError::Status(status(403)), ContactError::Api(kube::Error::Api(status(404)))]
        {
            assert!(!lost.is_expired(), "{lost:?}");
            assert_eq!(lost.longest_wait(), LONGEST_WAIT_REFUSED);
        }
        assert!(!ContactError::Silent.is_expired());
    }
}
