//! The certificates and keys that a plan was made with, by the files that they were read from.

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::tls::{Identity, Trust};

/// The certificates, keys and trusts of a plan.
#[derive(Debug, Clone, Default)]
pub struct Credentials {
    /// The trusted certificates of each file; the key `None` holds the system's roots.
    pub trusts: BTreeMap<Option<PathBuf>, Arc<Trust>>,
    /// The client certificates with their keys.
    pub identities: BTreeMap<IdentityFiles, Arc<Identity>>,
    /// The files among these that cannot be used now; for each, what was in force before stays.
    pub stale: Vec<UnusableFiles>,
    /// The digests of the files that everything was read from. They are not compared by `==`, which is about the
    /// certificates and keys alone.
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

/// The SHA-256 of the content of each trust and each identity that was read from files.
#[derive(Debug, Clone, Default)]
pub struct Contents {
    /// The digests of trusts, by file.
    pub trusts: HashMap<PathBuf, Vec<u8>>,
    /// The digests of identities, by files; certificate and key are two digests in a row.
    pub identities: HashMap<IdentityFiles, Vec<u8>>,
}

/// The files of one identity (client certificate and key).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IdentityFiles {
    /// The certificate chain and the key in two files.
    Pair {
        /// The file of the client certificate, followed by its chain.
        certificate: PathBuf,
        /// The file of the private key.
        key: PathBuf,
    },
    /// The key and the certificate chain in one file.
    Bundle(PathBuf),
}

/// The files of a trust or identity that cannot be used now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnusableFiles {
    /// The paths of the files.
    pub files: Vec<PathBuf>,
    /// The words for people: what is wrong with which file, and what would be right.
    pub reason: String,
}

impl IdentityFiles {
    /// Returns the path of the file that holds the certificate.
    #[must_use]
    pub fn certificate(&self) -> &Path {
        match self {
            Self::Pair { certificate, .. } | Self::Bundle(certificate) => certificate,
        }
    }

    /// Returns the paths of all files of the identity.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Pair { certificate, key } => vec![certificate.clone(), key.clone()],
            Self::Bundle(path) => vec![path.clone()],
        }
    }
}

impl Credentials {
    /// True if the same files may give another certificate at another time, because one of them holds several.
    #[must_use]
    pub fn depend_on_time(&self) -> bool {
        self.identities.values().any(|identity| identity.is_one_of_several())
    }

    /// Returns every file that was read.
    #[must_use]
    pub fn files(&self) -> Vec<PathBuf> {
        let identities = self.identities.keys().flat_map(IdentityFiles::paths);
        self.trusts.keys().flatten().cloned().chain(identities).collect()
    }
}
