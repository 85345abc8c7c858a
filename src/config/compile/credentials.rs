//! Reads certificates and keys, each file once for all upstreams that name it. One that cannot be used leaves the one
//! in force where it is: a file in the middle of its replacement must not end anything.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        Context,
        credentials::{Credentials, IdentityFiles, Stale},
    },
    tls::{Identity, Trust, identity::Concern},
};

/// See the module.
pub(super) struct Reader<'a> {
    context: &'a Context<'a>,
    found: Credentials,
}

/// What is wrong with an identity, and with which part of it.
pub(super) struct Wrong {
    pub(super) concern: Concern,
    pub(super) message: String,
}

impl<'a> Reader<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        Self { context, found: Credentials::default() }
    }

    /// Everything that was asked for.
    pub(super) fn into_found(self) -> Credentials {
        self.found
    }

    /// The certificates of this file; `None` are the system's roots.
    pub(super) fn trust(&mut self, path: Option<PathBuf>) -> Result<Arc<Trust>, String> {
        if self.context.files.are_elsewhere() {
            return Ok(Arc::new(Trust::not_read()));
        }
        if let Some(trust) = self.found.trusts.get(&path) {
            return Ok(Arc::clone(trust));
        }
        let kept = self.context.in_force.and_then(|in_force| in_force.trusts.get(&path));
        let trust = match (self.read_trust(path.as_deref(), kept), kept) {
            (Ok(trust), _) => trust,
            (Err(reason), Some(kept)) => {
                self.found.stale.push(Stale { files: path.iter().cloned().collect(), reason });
                Arc::clone(kept)
            }
            (Err(reason), None) => return Err(reason),
        };
        self.found.trusts.insert(path, Arc::clone(&trust));
        Ok(trust)
    }

    fn read_trust(
        &self,
        path: Option<&Path>,
        kept: Option<&Arc<Trust>>,
    ) -> Result<Arc<Trust>, String> {
        let read = match (path, kept) {
            // The system's roots are read once in a process's life.
            (None, Some(kept)) => return Ok(Arc::clone(kept)),
            (None, None) => self.context.files.system_trust().map_err(|error| error.to_string()),
            (Some(path), _) => {
                let pem = self.context.files.read(path).map_err(|error| unreadable(path, &error));
                pem.and_then(|pem| Trust::from_pem(&pem).map_err(|error| about(path, &error)))
            }
        };
        read.map(|trust| unchanged(kept, trust))
    }

    /// The certificate and key of these files; `None` where the files are not read.
    pub(super) fn identity(
        &mut self,
        files: IdentityFiles,
    ) -> Result<Option<Arc<Identity>>, Vec<Wrong>> {
        if self.context.files.are_elsewhere() {
            return Ok(None);
        }
        self.read_once(files).map(Some)
    }

    fn read_once(&mut self, files: IdentityFiles) -> Result<Arc<Identity>, Vec<Wrong>> {
        if let Some(identity) = self.found.identities.get(&files) {
            return Ok(Arc::clone(identity));
        }
        let kept = self.context.in_force.and_then(|in_force| in_force.identities.get(&files));
        let identity = match (self.read_identity(&files, kept), kept) {
            (Ok(identity), _) => identity,
            (Err(wrong), Some(kept)) => {
                let reasons: Vec<_> = wrong.into_iter().map(|wrong| wrong.message).collect();
                self.found.stale.push(Stale { files: files.paths(), reason: reasons.join("; ") });
                Arc::clone(kept)
            }
            (Err(wrong), None) => return Err(wrong),
        };
        self.found.identities.insert(files, Arc::clone(&identity));
        Ok(identity)
    }

    fn read_identity(
        &self,
        files: &IdentityFiles,
        kept: Option<&Arc<Identity>>,
    ) -> Result<Arc<Identity>, Vec<Wrong>> {
        let identity = match files {
            IdentityFiles::Pair { certificate, key } => {
                let [chain, secret] = self.read_pair(certificate, key)?;
                Identity::from_pem(&chain, &secret, self.context.now)
            }
            IdentityFiles::Bundle(path) => {
                let bundle = self.context.files.read(path);
                let bundle = bundle.map_err(|error| vec![missing(Concern::Both, path, &error)])?;
                Identity::from_bundle(&bundle, self.context.now)
            }
        };
        let identity = identity.map(|identity| unchanged(kept, identity));
        let valid = identity.and_then(|identity| {
            // What is in force was judged when it came; time alone ends nothing here, the upstream judges it.
            let known = kept.is_some_and(|kept| Arc::ptr_eq(kept, &identity));
            if known { Ok(()) } else { identity.check_validity(self.context.now) }
                .map(|()| identity)
        });
        valid.map_err(|error| {
            let message = about_files(files, error.concern(), &error);
            vec![Wrong { concern: error.concern(), message }]
        })
    }

    /// Both as of one moment, or what is wrong with each.
    fn read_pair(&self, certificate: &Path, key: &Path) -> Result<[Vec<u8>; 2], Vec<Wrong>> {
        match self.context.files.read_together([certificate, key]) {
            [Ok(chain), Ok(secret)] => Ok([chain, secret]),
            [chain, secret] => {
                let chain = chain.err().map(|e| missing(Concern::Certificate, certificate, &e));
                let secret = secret.err().map(|e| missing(Concern::Key, key, &e));
                Err(chain.into_iter().chain(secret).collect())
            }
        }
    }
}

/// The one in force where the bytes are the same: it is no new one.
fn unchanged<T: PartialEq>(kept: Option<&Arc<T>>, found: T) -> Arc<T> {
    match kept {
        Some(kept) if **kept == found => Arc::clone(kept),
        _ => Arc::new(found),
    }
}

fn missing(concern: Concern, path: &Path, error: &io::Error) -> Wrong {
    Wrong { concern, message: unreadable(path, error) }
}

fn unreadable(path: &Path, error: &io::Error) -> String {
    let relative = if path.is_relative() { " (relative to the working directory)" } else { "" };
    let right = match mounted(path).filter(|_| error.kind() == io::ErrorKind::NotFound) {
        Some((object, key)) => {
            format!(
                "{object} is not there or has no key {key}, or the container that fills this volume instead has not \
                 written it yet; create it, or name another"
            )
        }
        None => "name a".into(),
    };
    format!(
        "{}{relative}: cannot be read: {error}; {right} PEM file that this process may read",
        path.display()
    )
}

/// What a pod has there, and the key in it: the mounts of design section 9.
fn mounted(path: &Path) -> Option<(&'static str, &str)> {
    let object = match path.parent()?.to_str()? {
        "/etc/warmline/identity" => "the Secret warmline-identity",
        "/etc/warmline/trust" => "the ConfigMap warmline-trust",
        _ => return None,
    };
    Some((object, path.file_name()?.to_str()?))
}

/// Puts the file's name before what is wrong with it.
fn about(path: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", path.display())
}

fn about_files(files: &IdentityFiles, concern: Concern, error: &dyn Display) -> String {
    match (files, concern) {
        (IdentityFiles::Bundle(path), _) => about(path, error),
        (IdentityFiles::Pair { certificate, .. }, Concern::Certificate) => {
            about(certificate, error)
        }
        (IdentityFiles::Pair { key, .. }, Concern::Key) => about(key, error),
        (IdentityFiles::Pair { certificate, key }, Concern::Both) => {
            format!("{} with {}: {error}", key.display(), certificate.display())
        }
    }
}
