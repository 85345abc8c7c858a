//! Follows the configuration's source and the files that it names: a change is compiled and put in force as a whole, or
//! reported.
//!
//! Changes that the kernel does not announce (network file systems) are found by a look at everything every few
//! seconds.

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::mpsc::{Receiver, channel},
    time::{Instant, sleep, timeout_at},
};

use super::{ReconfigureError, RefusedKey, folders::Folders, live::Live};
use crate::{
    admin::{LookOutcome, LookRequest},
    config::{
        self, Digests, InForce, KeptConfiguration, Loaded, Plan, Source, SourceKind, SourceReading,
        Unusable, UnusableFiles, configmap::Rejected,
    },
    upstream,
};

/// The time without a change after which the files are read.
const QUIET: Duration = Duration::from_millis(20);
/// The longest wait for the files to be quiet.
const RESTLESS: Duration = Duration::from_millis(200);
/// The period of looks at everything without a sign of a change.
const LOOK_AROUND: Duration = Duration::from_secs(10);
/// The period while something is refused that may become usable without a sign (by time alone), and while the kernel
/// gives no signs.
const LOOK_AROUND_SOON: Duration = Duration::from_secs(1);
/// The least wait before the next look, as a multiple of the time that the last look took: looking takes at most one
/// part in fifty of a core.
const LOOK_SHARE: u32 = 50;

/// The follower of the configuration's source and files.
pub(super) struct Watch {
    source: Source,
    kept: Option<KeptConfiguration>,
    live: Arc<Live>,
    /// Operators' requests for a look now; each is answered with the outcome.
    look_requests: Receiver<LookRequest>,
    /// The reason why changed certificates are not in force beside a refused configuration, as it was logged last.
    not_followed: Option<String>,
    /// The digests that the last look took.
    digests: Option<Digests>,
    /// The plan in force, if everything that it was made of has these digests. `None` if another look may find
    /// something new in the same content.
    seen: Option<Arc<InForce>>,
}

/// The reasons for which a plan that was compiled is not in force.
enum NotApplied {
    /// Warmline is ending.
    Ending,
    /// The plan cannot be put in force.
    Refused {
        /// The hash of its text.
        hash: String,
        /// The words for people.
        reason: String,
    },
}

impl Watch {
    /// Makes the follower of this source; nothing is read before [`Watch::run`].
    pub(super) fn new(
        source: Source,
        kept: Option<KeptConfiguration>,
        live: Arc<Live>,
        look_requests: Receiver<LookRequest>,
    ) -> Self {
        Self { source, kept, live, look_requests, not_followed: None, digests: None, seen: None }
    }

    /// Follows the source for as long as it is polled: looks at everything at the start, then at each change in the
    /// files' folders or the `ConfigMap`, on SIGHUP, at an operator's request, and at least every 10 s (every second
    /// while something is refused or cannot be watched). Keeps the text in force for the next start.
    pub(super) async fn run(mut self) {
        let mut hangups = hangups();
        let (sign, mut signs) = channel(1);
        let mut folders = Folders::new(sign);
        let mut asking = None;
        self.keep();
        loop {
            // The folders are watched before the look, so that a change in between gives a sign.
            folders.watch(&self.files());
            let began = Instant::now();
            let looked = self.look();
            let patience = self.patience(&folders).max(LOOK_SHARE * began.elapsed());
            if let Some(ask) = Option::<LookRequest>::take(&mut asking) {
                // The operator who asked may have left.
                let _ = ask.send(looked);
            }
            tokio::select! {
                Some(()) = signs.recv() => settle(&mut signs).await,
                Some(ask) = self.look_requests.recv() => asking = Some(ask),
                Some(()) = next(&mut hangups) => tracing::info!("SIGHUP: the files are looked at"),
                () = self.source.changed() => {}
                () = sleep(patience) => {}
            }
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let mut files = self.live.configuration.in_force().plan.credentials.files();
        files.extend(self.source.path().map(Into::into));
        files
    }

    fn patience(&self, folders: &Folders) -> Duration {
        if self.is_well() && !folders.are_incomplete() { LOOK_AROUND } else { LOOK_AROUND_SOON }
    }

    /// True if nothing is refused: time alone could make a refused file usable.
    fn is_well(&self) -> bool {
        let refused = self.live.configuration.refused();
        refused.configuration.is_none() && refused.credentials.is_empty()
    }

    /// Reads the source and its files, compiles them, and puts the result in force if it is another plan. If the
    /// content is that of the plan in force, nothing is compiled: with many upstreams that takes a noticeable part of a
    /// core.
    fn look(&mut self) -> LookOutcome {
        let in_force = self.live.configuration.in_force();
        let found = self.source.find();
        let files = in_force.plan.credentials.files();
        let digests = found.digests(files, self.digests.as_ref());
        let is_seen = digests == self.digests && self.has_seen(&in_force);
        self.digests = digests;
        if is_seen && self.is_well() {
            return LookOutcome::Unchanged;
        }
        let looked = self.look_at(found, &in_force);
        let now_in_force = self.live.configuration.in_force();
        let is_final = self.is_well() && !now_in_force.plan.credentials.depend_on_time();
        self.seen = (is_final && self.digests.is_some()).then_some(now_in_force);
        looked
    }

    fn has_seen(&self, in_force: &Arc<InForce>) -> bool {
        self.seen.as_ref().is_some_and(|seen| Arc::ptr_eq(seen, in_force))
    }

    /// Compiles the content that was found and puts it in force if it is another plan. On an error records the
    /// rejection, and at least puts changed certificates of the plan in force. During the drain nothing changes.
    fn look_at(&mut self, found: SourceReading, in_force: &Arc<InForce>) -> LookOutcome {
        let credentials = Some(&in_force.plan.credentials);
        let refused = match self.source.load_found(found, self.digests.as_ref(), credentials) {
            Ok(loaded) => match self.put_in_force(loaded, in_force) {
                Ok(looked) => {
                    self.accept();
                    return looked;
                }
                // Exchanges in flight finish under the old plan.
                Err(NotApplied::Ending) => return LookOutcome::Unchanged,
                Err(NotApplied::Refused { hash, reason }) => self.reject(Some(hash), &reason),
            },
            Err(Unusable { errors, hash }) => self.reject(hash, &errors.to_string()),
        };
        self.follow_credentials(in_force);
        refused
    }

    /// Puts changed certificates in force while the configuration is refused, by compiling the text in force again.
    /// Logs a failure to put them in force once, and changes nothing then.
    fn follow_credentials(&mut self, in_force: &InForce) {
        let (text, origin) = (in_force.text.clone(), self.live.configuration.origin());
        let compiled = self.source.compile(text, origin, Some(&in_force.plan.credentials));
        let error = match compiled.map(|loaded| self.put_in_force(loaded, in_force)) {
            Ok(Err(NotApplied::Refused { reason, .. })) => Some(reason),
            Ok(Ok(_) | Err(NotApplied::Ending)) | Err(_) => None,
        };
        if let Some(reason) = error.as_ref().filter(|_| error != self.not_followed) {
            tracing::error!(
                reason,
                "changed certificates cannot be put in force; the old ones stay"
            );
        }
        self.not_followed = error;
    }

    /// Puts a configuration in force, unless it is in force already. In both cases records the unusable files and the
    /// source that it came from. The outcome is `Refused` if some files cannot be used.
    fn put_in_force(&self, loaded: Loaded, in_force: &InForce) -> Result<LookOutcome, NotApplied> {
        let Loaded { mut plan, text, origin } = loaded;
        // The faults of files do not make this another plan.
        let stale = std::mem::take(&mut plan.credentials.stale);
        let same_text = text == in_force.text;
        if plan == in_force.plan && same_text {
            self.came_from(origin);
            return Ok(self
                .record_unusable_files(&stale)
                .map_or(LookOutcome::Unchanged, LookOutcome::Refused));
        }
        let hash = config::hash(&text);
        let upstreams = touched(&in_force.plan, &plan);
        let moved = moved(&in_force.plan, &plan);
        let applied = self.live.reconfigure(plan, text.clone());
        applied.map_err(|error| self.not_applied(&hash, &text, origin, error))?;
        // Faults of files are reported once the plan is in force: a plan that is refused may name other files, and its
        // report would contradict that of the plan in force.
        let stale = self.record_unusable_files(&stale);
        self.came_from(origin);
        if same_text {
            tracing::info!(%hash, upstreams, "changed certificates are in force");
        } else {
            tracing::info!(%hash, source = origin.as_str(), upstreams, "changed configuration is in force");
            moved.iter().for_each(MovedPort::tell);
            self.keep();
        }
        // A part of what is in force now may be older than its files.
        Ok(stale.map_or(LookOutcome::Applied, LookOutcome::Refused))
    }

    /// Makes the reason of a text that could not be put in force; a refused key gets its place, as in other errors.
    fn not_applied(
        &self,
        hash: &str,
        text: &str,
        origin: SourceKind,
        error: ReconfigureError,
    ) -> NotApplied {
        let reason = match error {
            ReconfigureError::Ending => return NotApplied::Ending,
            ReconfigureError::Refused(keys) => {
                let keys = keys.into_iter().map(|RefusedKey { path, message }| (path, message));
                config::errors_at(&self.source.name(origin), text, keys).to_string()
            }
            ReconfigureError::Start(error) => error.to_string(),
        };
        NotApplied::Refused { hash: hash.to_owned(), reason }
    }

    /// Records that the changed configuration cannot be used, publishes that to the cluster (if a `ConfigMap` is
    /// followed), and logs each rejection once. `hash` is that of the text, `None` if there is no text.
    fn reject(&self, hash: Option<String>, reason: &str) -> LookOutcome {
        self.publish_to_cluster(Some(Rejected {
            // Without a text, rejections are distinguished by their reason.
            hash: hash.clone().unwrap_or_else(|| config::hash(reason)),
            reason: reason.into(),
        }));
        if self.live.configuration.rejected(hash, reason, SystemTime::now()) {
            tracing::error!(
                reason,
                "the changed configuration cannot be used; the old one stays in force"
            );
        }
        LookOutcome::Refused(reason.into())
    }

    /// Publishes to the cluster that the configuration is not rejected, and logs that if it was.
    fn accept(&self) {
        self.publish_to_cluster(None);
        if self.live.configuration.accepted() {
            tracing::info!("the configuration is good again, and what it says is in force");
        }
    }

    fn publish_to_cluster(&self, rejected: Option<Rejected>) {
        if let Some(configmap) = self.source.configmap() {
            configmap.publish_rejected(rejected);
        }
    }

    /// Notes the source that the text in force came from; logs it if it is another one than before.
    fn came_from(&self, origin: SourceKind) {
        if self.live.configuration.came_from(origin) {
            let name = self.source.name(origin);
            tracing::info!(source = origin.as_str(), name, "another source leads now");
        }
    }

    /// Writes the text in force to the folder for the next start, if there is one; logs a failure.
    fn keep(&self) {
        let Some(kept) = &self.kept else { return };
        if let Err(error) = kept.write(&self.live.configuration.in_force().text) {
            tracing::warn!(%error, "the configuration in force cannot be kept for the next start");
        }
    }

    /// Records the files that cannot be used, and logs new ones and their end; returns the reasons of all of them, or
    /// `None`.
    fn record_unusable_files(&self, stale: &[UnusableFiles]) -> Option<String> {
        if stale.is_empty() && self.live.configuration.has_stale() {
            tracing::info!("certificates, keys and trust are good again");
        }
        for new in self.live.configuration.stale(stale, SystemTime::now()) {
            tracing::error!(
                reason = new.reason,
                "changed certificates cannot be used; the old ones stay in force"
            );
        }
        let reasons: Vec<_> = stale.iter().map(|stale| stale.reason.as_str()).collect();
        (!reasons.is_empty()).then(|| reasons.join("\n"))
    }
}

/// Returns a plan's upstreams by name: a plan may have a thousand, which are not compared each with each.
fn by_name(plan: &Plan) -> HashMap<&str, &upstream::Settings> {
    plan.upstreams.iter().map(|upstream| (upstream.name.as_str(), &**upstream)).collect()
}

/// Returns the names of the upstreams that one plan alone has, or that differ between the two.
fn touched(old: &Plan, new: &Plan) -> String {
    let (before, after) = (by_name(old), by_name(new));
    let names: BTreeSet<_> = before.keys().chain(after.keys()).copied().collect();
    let touched = names.into_iter().filter(|name| before.get(name) != after.get(name));
    touched.collect::<Vec<_>>().join(" ")
}

/// A port of an upstream that closes while the upstream stays.
#[derive(Debug, PartialEq, Eq)]
struct MovedPort {
    upstream: String,
    closed: u16,
    /// The port that the upstream has instead, if it has one.
    open: Option<u16>,
}

impl MovedPort {
    /// Logs what it means for applications.
    fn tell(&self) {
        let Self { upstream, closed, open } = self;
        tracing::warn!(
            upstream,
            closed,
            open,
            "the upstream's own port has changed: applications that hold the old URL get connection refused until they are restarted"
        );
    }
}

/// Returns the ports of upstreams that close with the new plan, although their upstreams stay.
fn moved(old: &Plan, new: &Plan) -> Vec<MovedPort> {
    let before = by_name(old);
    let moved = |after: &Arc<upstream::Settings>| {
        let before = before.get(after.name.as_str())?;
        let closed = before.port.filter(|_| before.port != after.port)?;
        Some(MovedPort { upstream: after.name.clone(), closed, open: after.port })
    };
    new.upstreams.iter().filter_map(moved).collect()
}

/// Returns the stream of SIGHUP, the signal that makes servers read their files again. If the signal cannot be
/// followed, logs that and returns `None`.
fn hangups() -> Option<Signal> {
    let followed = signal(SignalKind::hangup());
    followed.inspect_err(|error| tracing::warn!(%error, "SIGHUP is not followed")).ok()
}

/// Waits for the next signal; `None` at once if the signal is not followed.
async fn next(signal: &mut Option<Signal>) -> Option<()> {
    match signal {
        Some(signal) => signal.recv().await,
        None => None,
    }
}

/// Waits until nothing has changed for 20 ms, at most 200 ms: files are often written in several steps.
async fn settle(signs: &mut Receiver<()>) {
    let end = Instant::now() + RESTLESS;
    while let Ok(Some(())) = timeout_at(end.min(Instant::now() + QUIET), signs.recv()).await {}
}
