//! The record of the configuration in force, and of what became of later ones: for metrics, pages and log lines.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Credentials, Plan, SourceKind, UnusableFiles, hash};
use crate::{label, latest::Latest, telemetry::Tally};

label! {
    /// The outcome of a changed configuration, or of a changed certificate, key or trust.
    pub enum Outcome {
        /// The change is in force.
        Applied = "applied",
        /// The change cannot be used; what was in force before stays.
        Rejected = "rejected",
    }
}

/// The record of the configuration in force and of those that were refused.
#[derive(Debug)]
pub struct ConfigurationStatus {
    in_force: Latest<InForce>,
    /// The kind of source that the configuration in force came from; if several sources have the same text, the leading
    /// one.
    origin: Latest<SourceKind>,
    /// The newest configuration and the credentials that cannot be used, until they are replaced.
    refused: Mutex<RefusedChanges>,
    /// The outcomes of changed configurations since the start.
    pub configurations: Tally<Outcome>,
    /// The outcomes of changed certificates, keys and trusts since the start.
    pub credentials: Tally<Outcome>,
}

/// The configuration in force.
#[derive(Debug)]
pub struct InForce {
    /// The plan.
    pub plan: Plan,
    /// The YAML text that the plan was compiled from.
    pub text: String,
    /// The [`super::hash`] of the text.
    pub hash: String,
    /// The time since which this text is in force; a change of certificates alone does not change it.
    pub since: SystemTime,
}

/// The configuration and the credentials that cannot be used as their sources have them now.
#[derive(Debug, Clone, Default)]
pub struct RefusedChanges {
    /// The newest configuration, if it was refused.
    pub configuration: Option<Refusal>,
    /// Certificates, keys and trusts whose files cannot be used, each with the time since when.
    pub credentials: Vec<(UnusableFiles, SystemTime)>,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The [`super::hash`] of its text; `None` if the text could not be read.
    pub hash: Option<String>,
    /// The words for people: what is wrong, at which place, and what would be right.
    pub reason: String,
    /// The time of the refusal.
    pub since: SystemTime,
}

impl ConfigurationStatus {
    /// Makes the record of a process that starts with this plan and its text.
    #[must_use]
    pub fn new(plan: Plan, text: String, now: SystemTime) -> Arc<Self> {
        let hash = hash(&text);
        Arc::new(Self {
            in_force: Latest::new(InForce { plan, text, hash, since: now }),
            origin: Latest::new(SourceKind::File),
            refused: Mutex::default(),
            configurations: Tally::default(),
            credentials: Tally::default(),
        })
    }

    /// Returns the configuration in force.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.share()
    }

    /// Returns the kind of source that the configuration in force came from.
    #[must_use]
    pub fn origin(&self) -> SourceKind {
        **self.origin.get()
    }

    /// Records the source of the configuration in force; returns true if it was another one before.
    pub fn came_from(&self, origin: SourceKind) -> bool {
        *self.origin.replace(origin) != origin
    }

    /// Returns the configuration and the credentials that cannot be used now.
    #[must_use]
    pub fn refused(&self) -> RefusedChanges {
        self.lock().clone()
    }

    /// Records that another plan is in force, and counts what has changed: its text, and certificates, keys and trusts
    /// that were read from the same files with other content.
    pub fn applied(&self, plan: Plan, text: String, now: SystemTime) {
        let hash = hash(&text);
        let old = self.in_force.share();
        for _ in 0..rotated(&old.plan.credentials, &plan.credentials) {
            self.credentials.increment(Outcome::Applied);
        }
        let since = if old.hash == hash { old.since } else { now };
        if old.hash != hash {
            self.configurations.increment(Outcome::Applied);
        }
        self.in_force.replace(InForce { plan, text, hash, since });
    }

    /// Records that the source's configuration is the one in force; returns true if one had been refused until now.
    pub fn accepted(&self) -> bool {
        self.lock().configuration.take().is_some()
    }

    /// Records and counts a configuration of the source that cannot be used; returns true. Returns false and changes
    /// nothing if the same text was refused for the same reason before.
    pub fn rejected(&self, hash: Option<String>, reason: &str, now: SystemTime) -> bool {
        let mut refused = self.lock();
        let known = refused.configuration.as_ref();
        if known.is_some_and(|known| known.hash == hash && known.reason == reason) {
            return false;
        }
        refused.configuration = Some(Refusal { hash, reason: reason.into(), since: now });
        self.configurations.increment(Outcome::Rejected);
        true
    }

    /// True if the files of certificates, keys or trusts cannot be used now.
    #[must_use]
    pub fn has_stale(&self) -> bool {
        !self.lock().credentials.is_empty()
    }

    /// Records the credentials whose files cannot be used now, in place of those recorded before; counts and returns
    /// the new ones.
    pub fn stale(&self, stale: &[UnusableFiles], now: SystemTime) -> Vec<UnusableFiles> {
        let mut refused = self.lock();
        refused.credentials.retain(|(known, _)| stale.contains(known));
        let known =
            |one: &&UnusableFiles| !refused.credentials.iter().any(|(known, _)| known == *one);
        let new: Vec<_> = stale.iter().filter(known).cloned().collect();
        for one in &new {
            self.credentials.increment(Outcome::Rejected);
            refused.credentials.push((one.clone(), now));
        }
        new
    }

    fn lock(&self) -> MutexGuard<'_, RefusedChanges> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the number of certificates, keys and trusts that were read from the same files with other content.
fn rotated(old: &Credentials, new: &Credentials) -> usize {
    let differs = |changed: bool| usize::from(changed);
    let trusts = new
        .trusts
        .iter()
        .map(|(path, trust)| differs(old.trusts.get(path).is_some_and(|old| old != trust)));
    let identities = new.identities.iter().map(|(files, identity)| {
        differs(old.identities.get(files).is_some_and(|old| old != identity))
    });
    trusts.chain(identities).sum()
}
