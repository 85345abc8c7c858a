//! The certificates and keys that a plan was made with, by the files that they came from.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
    sync::Arc,
};

use crate::tls::{Identity, Trust};

/// See the module.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// `None` are the system's roots.
    pub trusts: BTreeMap<Option<PathBuf>, Arc<Trust>>,
    /// Our certificates with their keys.
    pub identities: BTreeMap<IdentityFiles, Arc<Identity>>,
    /// Those among them whose files cannot be used now: what was in force before stays.
    pub stale: Vec<Stale>,
    /// The digests of what they were read from. Where these alone differ, the certificates and keys are equal.
    pub contents: Contents,
}

impl PartialEq for Credentials {
    fn eq(&self, other: &Self) -> bool {
        self.trusts == other.trusts
            && self.identities == other.identities
            && self.stale == other.stale
    }
}

impl Eq for Credentials {}

/// The digest of the files' content for each trust and each identity that was read from files.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// By the file of the trust.
    pub trusts: HashMap<PathBuf, Vec<u8>>,
    /// By the files of the identity.
    pub identities: HashMap<IdentityFiles, Vec<u8>>,
}

/// The files of one identity.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityFiles {
    /// Certificate chain and key.
    Pair {
        /// Our certificate, then its chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// Key and chain in one file.
    Bundle(PathBuf),
}

/// Files that cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stale {
    /// The files.
    pub files: Vec<PathBuf>,
    /// What is wrong with which, and what would be right.
    pub reason: String,
}

impl IdentityFiles {
    /// Each of them.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Pair { certificate, key } => vec![certificate.clone(), key.clone()],
            Self::Bundle(path) => vec![path.clone()],
        }
    }
}

impl Credentials {
    /// True if the same files may give another certificate at another time.
    #[must_use]
    pub fn depend_on_time(&self) -> bool {
        self.identities.values().any(|identity| identity.is_one_of_several())
    }

    /// Every file that was read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let identities = self.identities.keys().flat_map(IdentityFiles::paths);
        self.trusts.keys().flatten().cloned().chain(identities).collect()
    }
}
