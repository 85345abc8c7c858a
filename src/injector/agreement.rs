//! The agreement of the replicas on one CA, by the Secret that they share. The CA in use is kept in the webhook
//! configuration.
//!
//! A replica that finds a step due writes the Secret with the resourceVersion that it read. One replica's write
//! succeeds; the others fail with a conflict, and take over the Secret as it was written. All replicas patch the
//! webhook configuration, with the same content.

use std::{
    convert::Infallible,
    pin::pin,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::StreamExt as _;
use k8s_openapi::api::{
    admissionregistration::v1::MutatingWebhookConfiguration as Configuration, core::v1::Secret,
};
use kube::{
    Api, Client, Resource,
    api::{Patch, PatchParams, PostParams},
    runtime::{
        WatchStreamExt as _, utils,
        watcher::{self, Event, watcher},
    },
};
use tokio::time::{Instant, sleep_until, timeout};

use super::{
    certificate::{Serving, Unusable},
    readiness::{CaBundleState, Readiness},
    rotation::{self, CertificateTerms, Data, RotationStep, SecretContent},
    webhook,
};
use crate::{api_server, backoff::Backoff};

/// The part of one replica in the agreement.
pub(super) struct Agreement {
    secrets: Api<Secret>,
    configurations: Api<Configuration>,
    names: AgreementNames,
    terms: CertificateTerms,
    readiness: Arc<Readiness>,
    secret: WatchedObject<Secret>,
    configuration: WatchedObject<Configuration>,
    /// The Secret's content that is in use: as data, and parsed.
    adopted: Option<(Data, SecretContent)>,
    /// The time from which on the webhook configuration may be patched again. Another program may want another CA in
    /// it, and both would patch without end.
    patient_until: Instant,
    /// The time from which on the Secret may be written again. Replicas whose clocks differ by much may each find a
    /// step due.
    written_until: Instant,
    /// The time until which failures are not logged: during an installation the chart's objects, and this pod among
    /// them, are created one after the other.
    beginning_until: Instant,
    /// The failure that was logged last; empty after a success.
    told: String,
}

/// The names of the objects that the agreement is about.
#[derive(Debug, Clone)]
pub(super) struct AgreementNames {
    pub(super) namespace: String,
    pub(super) secret: String,
    pub(super) configuration: String,
}

/// The reason that the agreement could not be kept this time.
#[derive(Debug, thiserror::Error)]
enum AgreementError {
    #[error(
        "the Secret {0} is not there, or may not be read (the chart makes it, empty, and its Role)"
    )]
    NoSecret(String),
    #[error(
        "the MutatingWebhookConfiguration {0} is not there, or may not be read (the chart makes it, and its ClusterRole)"
    )]
    NoConfiguration(String),
    #[error("the MutatingWebhookConfiguration {0} has no webhooks")]
    NoWebhooks(String),
    #[error("a certificate cannot be made: {0}")]
    Make(#[from] rcgen::Error),
    #[error("the Secret's serving certificate cannot be used: {0}")]
    Unusable(#[from] Unusable),
    #[error("the Secret cannot be read: {}", api_server::reason(.0))]
    Read(kube::Error),
    #[error("the Secret cannot be written: {}", api_server::reason(.0))]
    Write(kube::Error),
    #[error("the MutatingWebhookConfiguration cannot be patched: {}", api_server::reason(.0))]
    Patch(kube::Error),
    #[error("the API server does not answer")]
    Silence,
    #[error(
        "the MutatingWebhookConfiguration holds another CA again: it is written once a second at most"
    )]
    Contested,
}

/// The state of a watch of one object.
struct WatchedObject<K> {
    object: Option<K>,
    /// True if the object was in the list that is being received.
    listed: bool,
    /// True once a first list was received whole.
    known: bool,
    /// True if the failure of the watch is in the log already.
    told: bool,
}

/// The pauses between attempts to watch. They are short, because changes are not seen meanwhile, and the few replicas
/// are no burden for an API server.
struct WatchPause(Backoff);

/// The field manager: the owner of the fields that the injector writes.
const MANAGER: &str = "warmline-injector";
/// The time limit for an answer of the API server.
const PATIENCE: Duration = Duration::from_secs(10);
/// The least time between two patches of the webhook configuration, and between two rounds of writes of the Secret.
const PAUSE: Duration = Duration::from_secs(1);
/// The time that an installation may take to create all its objects.
const BEGINNING: Duration = Duration::from_secs(5);
/// The longest first pause between two attempts to watch; doubled after each failure, up to `LONGEST_PAUSE`.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest time between two checks for due steps.
const LONGEST_REST: Duration = Duration::from_secs(30);
/// The largest number of steps taken in one round. Several can be due at once, such as a new serving certificate and
/// the announcement of a new CA.
const STEPS_AT_ONCE: usize = 3;

impl Agreement {
    /// Makes the part of one replica; nothing is asked of the API server before [`Agreement::keep`].
    pub(super) fn new(
        client: Client,
        names: AgreementNames,
        terms: CertificateTerms,
        readiness: Arc<Readiness>,
    ) -> Self {
        Self {
            secrets: Api::namespaced(client.clone(), &names.namespace),
            configurations: Api::all(client),
            names,
            terms,
            readiness,
            secret: WatchedObject::NOTHING,
            configuration: WatchedObject::NOTHING,
            adopted: None,
            patient_until: Instant::now(),
            written_until: Instant::now(),
            beginning_until: Instant::now() + BEGINNING,
            told: String::new(),
        }
    }

    /// Keeps the agreement for as long as the future is polled, until the drain begins; never returns. Failures are
    /// logged and tried again.
    pub(super) async fn keep(mut self) -> Infallible {
        // RBAC rights that name an object hold only for a watch that selects this name.
        let only = |name: &str| watcher::Config::default().fields(&format!("metadata.name={name}"));
        let secrets = watcher(self.secrets.clone(), only(&self.names.secret));
        let configurations = watcher(self.configurations.clone(), only(&self.names.configuration));
        let mut secrets = pin!(secrets.backoff(WatchPause::default()));
        let mut configurations = pin!(configurations.backoff(WatchPause::default()));
        loop {
            let wake = self.wake(Instant::now());
            tokio::select! {
                Some(event) = secrets.next() => self.secret.note(event),
                Some(event) = configurations.next() => self.configuration.note(event),
                () = sleep_until(wake) => {}
                // A replica that is ending takes no more steps: the others may run with newer terms.
                () = self.readiness.drain.begun() => return std::future::pending().await,
            }
            if self.secret.known && self.configuration.known {
                let outcome = self.settle().await;
                self.report_outcome(outcome);
            }
        }
    }

    /// Returns the time of the next round if no event comes before: a step may be due, or the end of a wait has come.
    fn wake(&self, now: Instant) -> Instant {
        let rest = (self.terms.overlap() / 4).min(LONGEST_REST);
        let awaited = [self.patient_until, self.written_until, self.beginning_until];
        let ahead = awaited.into_iter().filter(|awaited| *awaited > now);
        ahead.fold(now + rest, Instant::min)
    }

    /// Logs a failure that differs from the last one, but none in the first seconds of an installation. Until a
    /// certificate is in use, the outcome is also the reason that the replica is not ready.
    fn report_outcome(&mut self, outcome: Result<(), AgreementError>) {
        let text = outcome.err().map(|failed| failed.to_string()).unwrap_or_default();
        if self.adopted.is_none() {
            self.readiness.set_trust(CaBundleState::Missing(text.clone()));
        }
        if !text.is_empty() && self.told != text {
            if Instant::now() < self.beginning_until {
                return;
            }
            tracing::warn!(reason = %text, "the webhook's certificate is not as it should be; trying on");
        }
        self.told = text;
    }

    /// Takes all steps that are due, and records whether the CA in use is in the webhook configuration. After a success
    /// the CA in the Secret is in use and in the webhook configuration; the error is the first of all that failed.
    async fn settle(&mut self) -> Result<(), AgreementError> {
        // A Secret that cannot be written is still adopted as it is. A Secret that cannot be read is an error, but the
        // content in use is still put in place.
        let advanced = self.advance_all().await;
        let advanced = advanced.and(self.adopt());
        let Some((_, content)) = &self.adopted else {
            return advanced;
        };
        let placed = self.put_in_place(&content.bundle()).await;
        match &placed {
            Ok(()) => self.readiness.set_trust(CaBundleState::InPlace),
            // Nothing is known about the webhook configuration, so that the last trust stays.
            Err(AgreementError::Silence) => {}
            Err(failed) => self.readiness.set_trust(CaBundleState::Missing(failed.to_string())),
        }
        advanced.and(placed)
    }

    /// Takes all steps that are due, at most [`STEPS_AT_ONCE`] of them; none within a second after the last ones. Fails
    /// at the first step that fails.
    async fn advance_all(&mut self) -> Result<(), AgreementError> {
        if Instant::now() < self.written_until {
            return Ok(());
        }
        for _ in 0..STEPS_AT_ONCE {
            if !self.advance().await? {
                break;
            }
            self.written_until = Instant::now() + PAUSE;
        }
        Ok(())
    }

    /// Takes one step: writes the Secret if a change is due. Returns true if the Secret changed, by this replica or by
    /// another that was first; then the Secret is read again. Fails if there is no Secret, or if it cannot be read or
    /// written.
    async fn advance(&mut self) -> Result<bool, AgreementError> {
        let secret = self.secret.object.as_ref().ok_or_else(|| self.no_secret())?;
        let data = secret.data.clone().unwrap_or_default();
        let bundle = SecretContent::read(&data).map(|content| content.bundle());
        let announced = match (&bundle, self.configuration.object.as_ref()) {
            (Some(bundle), Some(configuration)) => webhook::holds(configuration, bundle),
            _ => false,
        };
        let RotationStep::Write(data, why) =
            rotation::step(&data, SystemTime::now(), &self.terms, announced)?
        else {
            return Ok(false);
        };
        let wanted = Secret { data: Some(data), ..secret.clone() };
        let field_manager = Some(MANAGER.to_owned());
        let parameters = PostParams { field_manager, ..PostParams::default() };
        let written = self.secrets.replace(&self.names.secret, &parameters, &wanted);
        match timeout(PATIENCE, written).await.map_err(|_| AgreementError::Silence)? {
            Ok(secret) => {
                tracing::info!(why, secret = %self.names.secret, "the webhook's certificates changed");
                self.secret.object = Some(secret);
                Ok(true)
            }
            Err(kube::Error::Api(status)) if status.code == 409 => {
                tracing::info!(secret = %self.names.secret, "another replica was first; what it wrote is taken");
                self.reload().await?;
                Ok(true)
            }
            Err(error) => Err(AgreementError::Write(error)),
        }
    }

    /// Reads the Secret anew, which may be missing. Fails if the cluster refuses, or does not answer in time.
    async fn reload(&mut self) -> Result<(), AgreementError> {
        let found = timeout(PATIENCE, self.secrets.get_opt(&self.names.secret)).await;
        self.secret.object =
            found.map_err(|_| AgreementError::Silence)?.map_err(AgreementError::Read)?;
        Ok(())
    }

    /// Puts the certificate of the Secret in use, unless it is in use already, and records the expiry of its CA. Fails,
    /// and leaves the one in use, if the Secret is missing, empty or unusable.
    fn adopt(&mut self) -> Result<(), AgreementError> {
        let data = self.secret.object.as_ref().and_then(|secret| secret.data.as_ref());
        if data.is_some() && data == self.adopted.as_ref().map(|(data, _)| data) {
            return Ok(());
        }
        let (data, content) = data
            .and_then(|data| Some((data.clone(), SecretContent::read(data)?)))
            .ok_or_else(|| self.no_secret())?;
        let pair = &content.serving;
        let serving =
            Serving::from_pem(pair.certificate.as_bytes(), pair.key.as_bytes(), SystemTime::now())?;
        self.readiness.current.replace(serving);
        self.readiness.authority_ends(content.authority.not_after);
        self.adopted = Some((data, content));
        Ok(())
    }

    /// Patches the webhook configuration so that each webhook has this `caBundle`, unless all have it already; counts
    /// and logs the patch. Fails if the configuration or its webhooks are missing, if it was patched less than a second
    /// ago, or if the API server refuses or does not answer.
    async fn put_in_place(&mut self, bundle: &str) -> Result<(), AgreementError> {
        let name = || self.names.configuration.clone();
        let Some(configuration) = self.configuration.object.as_ref() else {
            return Err(AgreementError::NoConfiguration(name()));
        };
        if webhook::holds(configuration, bundle) {
            return Ok(());
        }
        let patch = webhook::patch(configuration, bundle);
        if patch.0.is_empty() {
            return Err(AgreementError::NoWebhooks(name()));
        }
        if Instant::now() < self.patient_until {
            return Err(AgreementError::Contested);
        }
        self.patient_until = Instant::now() + PAUSE;
        let patch = Patch::Json::<()>(patch);
        let field_manager = Some(MANAGER.to_owned());
        let parameters = PatchParams { field_manager, ..PatchParams::default() };
        let patched = self.configurations.patch(&self.names.configuration, &parameters, &patch);
        let patched = timeout(PATIENCE, patched).await.map_err(|_| AgreementError::Silence)?;
        self.configuration.object = Some(patched.map_err(AgreementError::Patch)?);
        self.readiness.patched();
        tracing::info!(configuration = %self.names.configuration, "our CA is in place");
        Ok(())
    }

    fn no_secret(&self) -> AgreementError {
        AgreementError::NoSecret(format!("{}/{}", self.names.namespace, self.names.secret))
    }
}

impl<K: Resource<DynamicType = ()>> WatchedObject<K> {
    const NOTHING: Self = Self { object: None, listed: false, known: false, told: false };

    /// Records an event of the watch; logs a failure once until the next success, and keeps the object seen last. An
    /// event may be older than the injector's own last write; a write that is based on it fails with a conflict, and
    /// the Secret is then read again.
    fn note(&mut self, event: Result<Event<K>, watcher::Error>) {
        if event.is_ok() {
            self.told = false;
        }
        match event {
            Ok(Event::Apply(object)) => self.object = Some(object),
            Ok(Event::Delete(_)) => self.object = None,
            Ok(Event::Init) => self.listed = false,
            Ok(Event::InitApply(object)) => {
                self.object = Some(object);
                self.listed = true;
            }
            Ok(Event::InitDone) => {
                self.known = true;
                if !self.listed {
                    self.object = None;
                }
            }
            // The last seen object stays; the watcher starts again by itself.
            Err(error) if !self.told => {
                let kind = K::kind(&());
                tracing::warn!(%error, %kind, "the API server cannot be watched; trying on");
                self.told = true;
            }
            Err(_) => {}
        }
    }
}

impl Default for WatchPause {
    fn default() -> Self {
        Self(Backoff::new(FIRST_PAUSE))
    }
}

impl Iterator for WatchPause {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.0.after_failure(LONGEST_PAUSE, fastrand::f64()))
    }
}

impl utils::Backoff for WatchPause {
    fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{BufRead as _, BufReader, Read as _, Write as _},
        net::TcpListener,
        thread,
    };

    use kube::core::ObjectMeta;

    use super::*;
    use crate::drain::Drain;

    /// Makes an agreement before an API server that answers reads of the Secret with the status `read` and writes with
    /// `write`.
    fn agreement(read: u16, write: u16) -> Agreement {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for client in listener.incoming() {
                let mut client = client.unwrap();
                let mut request = BufReader::new(&client);
                let mut head = Vec::new();
                while head.last().is_none_or(|line: &String| line != "\r\n") {
                    let mut line = String::new();
                    request.read_line(&mut line).unwrap();
                    head.push(line);
                }
                let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
                let length = length.map_or(0, |length| length.trim().parse().unwrap());
                request.read_exact(&mut vec![0; length]).unwrap();
                let code = if head[0].starts_with("GET") { read } else { write };
                let body = format!(
                    r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"it says {code}","reason":"x","code":{code}}}"#
                );
                let head = format!(
                    "HTTP/1.1 {code} x\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n"
                );
                client.write_all(format!("{head}{body}").as_bytes()).unwrap();
            }
        });
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let config = kube::Config::new(format!("http://{address}").parse().unwrap());
        let names =
            AgreementNames { namespace: "a".into(), secret: "b".into(), configuration: "c".into() };
        let terms = CertificateTerms {
            authority: Duration::from_hours(3),
            certificate: Duration::from_hours(1),
            name: "d.a.svc".into(),
        };
        let readiness = Arc::new(Readiness::new(Drain::default()).unwrap());
        let client = Client::try_from(config).unwrap();
        let mut agreement = Agreement::new(client, names, terms, readiness);
        let metadata = ObjectMeta { name: Some("b".into()), ..ObjectMeta::default() };
        agreement.secret.object = Some(Secret { metadata, ..Secret::default() });
        agreement
    }

    #[tokio::test]
    async fn fault_24_a_read_of_the_secret_that_fails_is_called_a_read_and_a_write_a_write() {
        let after_a_conflict = agreement(403, 409).advance().await.unwrap_err().to_string();
        assert_eq!(after_a_conflict, "the Secret cannot be read: it says 403");
        let at_once = agreement(200, 403).advance().await.unwrap_err().to_string();
        assert_eq!(at_once, "the Secret cannot be written: it says 403");
    }
}
