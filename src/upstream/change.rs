//! The change of an upstream's settings while it runs: in place or, if a part of the generation's key differs, with a
//! new generation ("Configuration" and "Rotation of certificates" in docs/design.md).

use std::{
    sync::{Arc, MutexGuard, PoisonError, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use tokio::time::sleep_until;

use super::{
    Settings, Upstream,
    generation::{Generation, difference},
    open::Chain,
    target::Target,
};
use crate::{
    pool::{Advanced, ConnectionId, EndReason},
    telemetry::log::seconds,
    tls::{self, CertificateUse, Trust},
};

/// The shortest time between two rounds that end connections of a retired upstream, so that a `rotationDeadline` of 0
/// does not keep a thread busy.
const SHORTEST_RETIREMENT: Duration = Duration::from_millis(50);

/// Prepared settings for an upstream. Applying them cannot fail any more.
pub struct Change {
    settings: Arc<Settings>,
    next: Option<NextGeneration>,
}

/// The parts of a new generation, and the reason for it.
struct NextGeneration {
    reason: EndReason,
    target: Arc<Target>,
    /// The new trust, if it differs. Connections to servers that the new trust does not cover end at once, even during
    /// an exchange.
    trust: Option<Arc<Trust>>,
}

impl Upstream {
    /// Prepares a change to these settings, and changes nothing yet. Fails if TLS cannot be set up with them.
    pub fn prepare(&self, settings: Arc<Settings>) -> Result<Change, rustls::Error> {
        let now = self.settings();
        let next = match difference(&now, &settings) {
            Some(reason) => Some(self.next(reason, &now, &settings)?),
            None => None,
        };
        Ok(Change { settings, next })
    }

    /// Makes the parts of the next generation. The target stays if endpoint and TLS are the same; where only
    /// certificates, keys or trust differ, the new one knows what was learned of addresses. Fails if TLS cannot be set
    /// up.
    fn next(
        &self,
        reason: EndReason,
        old: &Settings,
        new: &Settings,
    ) -> Result<NextGeneration, rustls::Error> {
        let known = Arc::clone(&self.generation.get().target);
        let target = if old.tls == new.tls && old.endpoint == new.endpoint {
            known
        } else {
            let target = known.after(new, self.key_log.clone())?;
            if reason == EndReason::Rotated {
                target.tls.learn_from(&known.tls);
            }
            target
        };
        let trust = (old.tls.trust != new.tls.trust).then(|| Arc::clone(&new.tls.trust));
        Ok(NextGeneration { reason, target, trust })
    }

    /// Puts prepared settings in force: in the pool, and with a new generation if they need one, for which connections
    /// to servers that a new trust does not cover end at once. If the upstream was retired, that is taken back.
    pub fn apply(&self, change: Change, now: Instant) {
        let resumed = self.resume();
        let Change { settings, next } = change;
        let old = self.settings.replace(Arc::clone(&settings));
        // A plan with many upstreams mostly changes few of them; unchanged upstreams are not woken.
        if *old == *settings && !resumed {
            return;
        }
        if old.pool.idle_timeout != settings.pool.idle_timeout {
            self.timeout_told.store(false, SeqCst);
            self.habit_told.store(false, SeqCst);
        }
        self.pool.reconfigure(settings.pool.clone(), now);
        self.generation.get().target.tls.resize(settings.pool.max_connections);
        if let Some(NextGeneration { reason, target, trust }) = next {
            self.begin_generation(&settings, reason, target, now);
            if let Some(trust) = trust {
                self.end_untrusted(&trust);
            }
        }
    }

    /// Ends connections to servers that the trust does not cover, in every replaced generation: a change of the trust
    /// often follows closely on a change of the identity, so that not only the last generation may have such
    /// connections.
    fn end_untrusted(&self, trust: &Arc<Trust>) {
        let older = self.older().clone();
        let untrusted: usize = older.iter().map(|old| old.end_untrusted(trust)).sum();
        if untrusted > 0 {
            tracing::warn!(upstream = %self.name, connections = untrusted, "connections ended: the new trust does not cover their servers");
        }
    }

    /// Replaces every connection that exists now as soon as its exchange is over (`POST /upstreams/NAME/drain`): idle
    /// ones close now. Settings and TLS sessions stay. Returns how many were closed, and how many are in use.
    pub fn replace_connections(&self, now: Instant) -> Advanced {
        let (old, advanced) = self.succeed(Generation::successor, EndReason::Drained, None, now);
        self.report_gone(&old, now);
        advanced
    }

    /// Puts a generation with this target in the place of the newest, and logs that. Exchanges on the old one end after
    /// `rotationDeadline`.
    fn begin_generation(
        &self,
        settings: &Settings,
        reason: EndReason,
        target: Arc<Target>,
        now: Instant,
    ) {
        let next = |old: &Generation| old.after(target, settings.header_case);
        let deadline = now.checked_add(settings.rotation_deadline);
        let (old, advanced) = self.succeed(next, reason, deadline, now);
        let identity = settings.tls.identity.as_ref();
        tracing::info!(
            upstream = %self.name,
            generation = old.number + 1,
            %reason,
            identity = identity.map(|identity| tls::fingerprint(&identity.chain()[0])),
            not_after = identity.map(|identity| identity.not_after_text()),
            trust = tls::fingerprint(&settings.tls.trust.certificates()[0]),
            idle_closed = advanced.idle_closed,
            in_flight = advanced.in_use,
            "generation replaced: new handshakes use the new one"
        );
        // A generation without connections is gone at once.
        self.report_gone(&old, now);
    }

    /// Puts another generation in the place of the newest, in the upstream and in the pool, whose idle connections of
    /// older ones close, and returns the old one. Exchanges on the old one end at `deadline`, if there is one. The lock
    /// makes one caller wait for another (the watch and an operator), so that each successor is made from the newest
    /// generation.
    fn succeed(
        &self,
        next: impl FnOnce(&Generation) -> Arc<Generation>,
        reason: EndReason,
        deadline: Option<Instant>,
        now: Instant,
    ) -> (Arc<Generation>, Advanced) {
        let _alone = self.succeeding.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next(&self.generation.get());
        let number = next.number;
        let old = self.generation.replace(next);
        old.open.replace(reason, now, deadline);
        self.note_older(&old, reason, deadline);
        let advanced = self.pool.advance(number, reason, now);
        self.replaced.notify_one();
        (old, advanced)
    }

    /// Adds a replaced generation to the older ones. Older generations without a deadline get this one's.
    fn note_older(&self, old: &Arc<Generation>, reason: EndReason, deadline: Option<Instant>) {
        let mut older = self.older();
        older.iter().for_each(|before| before.open.bound(reason, deadline));
        older.push(Arc::clone(old));
    }

    /// Retires the upstream, because it is no longer configured. Idle connections close. Exchanges get the deadline
    /// that they have on a replaced generation (`rotationDeadline`), because later rotations and changes of the trust
    /// do not reach a retired upstream.
    pub fn retire(&self, now: Instant) {
        self.pool.drain();
        *self.retired_until() = now.checked_add(self.settings().rotation_deadline);
        self.replaced.notify_one();
    }

    /// True if the upstream is retired: no longer configured.
    pub fn is_retired(&self) -> bool {
        self.retired_until().is_some()
    }

    /// Takes a retirement back. Returns true if there was one.
    fn resume(&self) -> bool {
        *self.retired_until() = None;
        self.pool.resume()
    }

    /// Ends exchanges on replaced generations and on a retired upstream once their deadline has come, for as long as
    /// the future is polled.
    pub(super) async fn end_replaced(&self) {
        loop {
            let replaced = self.replaced.notified();
            match self.next_deadline() {
                Some(at) => tokio::select! {
                    () = sleep_until(at.into()) => self.end_due(Instant::now()),
                    () = replaced => {}
                },
                None => replaced.await,
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let retired = *self.retired_until();
        self.older().iter().filter_map(|old| old.open.deadline()).chain(retired).min()
    }

    fn end_due(&self, now: Instant) {
        self.end_overdue(now);
        self.end_retired(now);
    }

    /// Ends the connections of each replaced generation whose deadline has come, and logs how many.
    fn end_overdue(&self, now: Instant) {
        for old in self.older().iter() {
            let ended = old.open.end_overdue(now);
            if ended > 0 {
                tracing::warn!(upstream = %self.name, generation = old.number, connections = ended, "rotationDeadline is over: exchanges on a replaced generation end");
            }
        }
    }

    /// Ends all connections of a retired upstream if its deadline has come, logs how many, and sets the deadline of the
    /// next round.
    fn end_retired(&self, now: Instant) {
        let mut until = self.retired_until();
        if until.is_none_or(|until| until > now) {
            return;
        }
        // Another round is due later: waiters and retries may get new connections, which must not last for ever either.
        *until = now.checked_add(self.settings().rotation_deadline.max(SHORTEST_RETIREMENT));
        let mut generations = self.older().clone();
        generations.push(self.generation.share());
        let ended =
            generations.iter().map(|g| g.open.end_all(EndReason::Reconfigured)).sum::<usize>();
        if ended > 0 {
            tracing::warn!(upstream = %self.name, connections = ended, "rotationDeadline is over: exchanges on a removed upstream end");
        }
    }

    /// Has these connections probe whether their peers are alive.
    pub(super) fn examine(&self, ids: &[ConnectionId]) {
        self.generation.get().open.doubt(ids);
        self.older().iter().for_each(|old| old.open.doubt(ids));
    }

    /// Returns the number of open connections of replaced generations.
    pub fn old_generation_connections(&self) -> usize {
        self.older().iter().map(|old| old.open.count()).sum()
    }

    /// Returns the certificate chain that the upstream showed last, as it was verified; `None` before the newest
    /// generation's first connection.
    pub fn shown(&self) -> Option<Chain> {
        self.generation.get().open.shown()
    }

    /// Returns the outcome of the upstream's last question for Warmline's certificate, under the newest generation.
    pub fn identity_shown(&self) -> CertificateUse {
        self.generation.get().target.tls.shown()
    }

    /// Notes that a generation's connection is closed, and logs the end of a replaced generation with its last one.
    pub(super) fn connection_gone(&self, generation: &Generation, id: ConnectionId, now: Instant) {
        generation.open.closed(id);
        self.report_gone(generation, now);
    }

    /// Removes a replaced generation from the list of older ones, and logs that, once its last connection is closed.
    fn report_gone(&self, generation: &Generation, now: Instant) {
        let Some(gone) = generation.open.gone(now) else { return };
        let mut older = self.older();
        let known = older.len();
        older.retain(|old| old.number != generation.number);
        if older.len() < known {
            tracing::info!(
                upstream = %self.name,
                generation = generation.number,
                reason = %gone.reason,
                after = seconds(gone.after),
                "generation gone: its last connection is closed"
            );
        }
    }

    fn older(&self) -> MutexGuard<'_, Vec<Arc<Generation>>> {
        self.older.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn retired_until(&self) -> MutexGuard<'_, Option<Instant>> {
        self.retired_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
