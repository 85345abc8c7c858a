//! Which configuration is in force, and what became of later ones: for metrics, pages and people.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use super::{Credentials, Origin, Plan, Stale, hash};
use crate::{label, latest::Latest, telemetry::Tally};

label! {
    /// What became of a changed configuration, or of a changed certificate, key or trust.
    pub enum Outcome {
        /// It is in force.
        Applied = "applied",
        /// It cannot be used: what was in force before stays.
        Rejected = "rejected",
    }
}

/// See the module.
#[derive(Debug)]
pub struct Standing {
    in_force: Latest<InForce>,
    /// Where what is in force came from: of several that say the same, the one that leads.
    origin: Latest<Origin>,
    /// What cannot be used, as long as it lies there.
    refused: Mutex<Refused>,
    /// Configurations since the start.
    pub configurations: Tally<Outcome>,
    /// Certificates, keys and trusts whose files changed since the start.
    pub credentials: Tally<Outcome>,
}

/// The configuration in force.
#[derive(Debug)]
pub struct InForce {
    /// What it came to.
    pub plan: Plan,
    /// Its text.
    pub text: String,
    /// [`super::hash`] of that.
    pub hash: String,
    /// Since when.
    pub since: SystemTime,
}

/// What was refused, and lies there still.
#[derive(Debug, Clone, Default)]
pub struct Refused {
    /// The newest configuration.
    pub configuration: Option<Refusal>,
    /// Certificates, keys and trusts.
    pub credentials: Vec<(Stale, SystemTime)>,
}

/// A configuration that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// [`super::hash`] of its text, where it could be read.
    pub hash: Option<String>,
    /// What is wrong, where, and what would be right.
    pub reason: String,
    /// Since when.
    pub since: SystemTime,
}

impl Standing {
    /// At the start.
    #[must_use]
    pub fn new(plan: Plan, text: String, now: SystemTime) -> Arc<Self> {
        let hash = hash(&text);
        Arc::new(Self {
            in_force: Latest::new(InForce { plan, text, hash, since: now }),
            origin: Latest::new(Origin::File),
            refused: Mutex::default(),
            configurations: Tally::default(),
            credentials: Tally::default(),
        })
    }

    /// What is in force.
    #[must_use]
    pub fn in_force(&self) -> Arc<InForce> {
        self.in_force.share()
    }

    /// Where what is in force came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        **self.origin.get()
    }

    /// What is in force came from there; says whether that is new.
    pub fn came_from(&self, origin: Origin) -> bool {
        *self.origin.replace(origin) != origin
    }

    /// What was refused, and lies there still.
    #[must_use]
    pub fn refused(&self) -> Refused {
        self.lock().clone()
    }

    /// Another plan is in force.
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

    /// The configuration as it lies there is the one in force; says whether another one had been refused.
    pub fn accepted(&self) -> bool {
        self.lock().configuration.take().is_some()
    }

    /// The configuration as it lies there cannot be used; says whether that is new.
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

    /// Whether credentials cannot be used as they lie there.
    #[must_use]
    pub fn has_stale(&self) -> bool {
        !self.lock().credentials.is_empty()
    }

    /// These credentials as they lie there cannot be used; gives back those that are new.
    pub fn stale(&self, stale: &[Stale], now: SystemTime) -> Vec<Stale> {
        let mut refused = self.lock();
        refused.credentials.retain(|(known, _)| stale.contains(known));
        let known = |one: &&Stale| !refused.credentials.iter().any(|(known, _)| known == *one);
        let new: Vec<_> = stale.iter().filter(known).cloned().collect();
        for one in &new {
            self.credentials.increment(Outcome::Rejected);
            refused.credentials.push((one.clone(), now));
        }
        new
    }

    fn lock(&self) -> MutexGuard<'_, Refused> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How many certificates, keys and trusts came out of the same files with other bytes.
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
