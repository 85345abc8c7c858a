//! Reads certificates and keys, each file once for all upstreams that name it. If a file cannot be used, what is in
//! force from it stays, because the file may be in the middle of its replacement. Bytes that were parsed for the plan
//! in force are not parsed again.

use std::{
    fmt::Display,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::{
    config::{
        Context,
        credentials::{Credentials, IdentityFiles, UnusableFiles},
    },
    tls::{Identity, Trust, identity::Concern, sha256},
};

/// The reader of certificates and keys for one compilation.
pub(super) struct CredentialReader<'a> {
    context: &'a Context<'a>,
    found: Credentials,
}

/// An error of an identity, and the part of the identity that it concerns.
pub(super) struct IdentityFinding {
    pub(super) concern: Concern,
    pub(super) message: String,
}

impl<'a> CredentialReader<'a> {
    pub(super) fn new(context: &'a Context<'a>) -> Self {
        Self { context, found: Credentials::default() }
    }

    /// Returns all certificates and keys that were asked for.
    pub(super) fn into_found(self) -> Credentials {
        self.found
    }

    /// Returns the trusted certificates of this file; a `path` of `None` means the system's roots. If the file cannot
    /// be used, notes that and returns what is in force from it; fails with the reason if nothing is.
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
                self.found
                    .stale
                    .push(UnusableFiles { files: path.iter().cloned().collect(), reason });
                self.keep_trust_digest(path.as_deref());
                Arc::clone(kept)
            }
            (Err(reason), None) => return Err(reason),
        };
        self.found.trusts.insert(path, Arc::clone(&trust));
        Ok(trust)
    }

    /// Returns the trust of this file, or the system's roots if `path` is `None`; the roots are read once in a
    /// process's life. Fails with the reason if they cannot be read or used.
    fn read_trust(
        &mut self,
        path: Option<&Path>,
        kept: Option<&Arc<Trust>>,
    ) -> Result<Arc<Trust>, String> {
        match (path, kept) {
            // The system's roots are read once in a process's life.
            (None, Some(kept)) => Ok(Arc::clone(kept)),
            (None, None) => {
                self.context.files.system_trust().map(Arc::new).map_err(|error| error.to_string())
            }
            (Some(path), kept) => self.read_trust_file(path, kept),
        }
    }

    /// Returns the trust of this file and records the digest of its content. The trust in force (`kept`) is returned,
    /// and the file not read, if its digest is known and unchanged.
    fn read_trust_file(
        &mut self,
        path: &Path,
        kept: Option<&Arc<Trust>>,
    ) -> Result<Arc<Trust>, String> {
        let before = self.context.in_force.and_then(|before| before.contents.trusts.get(path));
        let known = kept.zip(before);
        let (trust, digest) = match known {
            Some((kept, before)) if self.context.files.digest(path) == Some(before) => {
                (Arc::clone(kept), before.clone())
            }
            _ => self.reread_trust(path, known, kept)?,
        };
        self.found.contents.trusts.insert(path.into(), digest);
        Ok(trust)
    }

    /// Reads the file, and parses it if its bytes are not those that the trust in `known` was read from.
    fn reread_trust(
        &self,
        path: &Path,
        known: Option<(&Arc<Trust>, &Vec<u8>)>,
        kept: Option<&Arc<Trust>>,
    ) -> Result<(Arc<Trust>, Vec<u8>), String> {
        let pem = self.context.files.read(path).map_err(|error| unread_pem_file(path, &error))?;
        let digest = sha256(&pem);
        if let Some((known, _)) = known.filter(|(_, before)| **before == digest) {
            return Ok((Arc::clone(known), digest));
        }
        let trust = Trust::from_pem(&pem).map_err(|error| about(path, &error))?;
        Ok((unchanged(kept, trust), digest))
    }

    /// Keeps the digest of the bytes that the trust in force was read from; the file's new content cannot be used.
    fn keep_trust_digest(&mut self, path: Option<&Path>) {
        let before = self.context.in_force.map(|before| &before.contents.trusts);
        if let Some((path, digest)) =
            before.zip(path).and_then(|(all, path)| all.get_key_value(path))
        {
            self.found.contents.trusts.insert(path.clone(), digest.clone());
        }
    }

    /// Returns the certificate and key of these files; `None` if files are not read (`check --without-files`). If they
    /// cannot be used, notes that and returns what is in force from them; fails if nothing is.
    pub(super) fn identity(
        &mut self,
        files: IdentityFiles,
    ) -> Result<Option<Arc<Identity>>, Vec<IdentityFinding>> {
        if self.context.files.are_elsewhere() {
            return Ok(None);
        }
        self.read_once(files).map(Some)
    }

    /// Returns the identity of these files, read once for all upstreams. If the files cannot be used, notes that and
    /// returns the identity in force; fails if there is none.
    fn read_once(&mut self, files: IdentityFiles) -> Result<Arc<Identity>, Vec<IdentityFinding>> {
        if let Some(identity) = self.found.identities.get(&files) {
            return Ok(Arc::clone(identity));
        }
        let kept = self.context.in_force.and_then(|in_force| in_force.identities.get(&files));
        let identity = match (self.read_identity(&files, kept), kept) {
            (Ok(identity), _) => identity,
            (Err(wrong), Some(kept)) => {
                let reasons: Vec<_> = wrong.into_iter().map(|wrong| wrong.message).collect();
                self.found
                    .stale
                    .push(UnusableFiles { files: files.paths(), reason: reasons.join("; ") });
                self.keep_identity_digest(&files);
                Arc::clone(kept)
            }
            (Err(wrong), None) => return Err(wrong),
        };
        self.found.identities.insert(files, Arc::clone(&identity));
        Ok(identity)
    }

    /// Returns the identity of these files and records the digest of their content. The identity in force (`kept`) is
    /// returned, and the files not read, if their digests are known and unchanged, unless a file holds several
    /// certificates.
    fn read_identity(
        &mut self,
        files: &IdentityFiles,
        kept: Option<&Arc<Identity>>,
    ) -> Result<Arc<Identity>, Vec<IdentityFinding>> {
        let before = self.context.in_force.and_then(|before| before.contents.identities.get(files));
        // If the file holds several certificates, another one may be right now, though the bytes are the same.
        let known = kept.filter(|kept| !kept.is_one_of_several()).zip(before);
        let (identity, digest) = match known {
            Some((kept, before)) if self.digest(files).as_ref() == Some(before) => {
                (Arc::clone(kept), before.clone())
            }
            _ => self.reread_identity(files, known, kept)?,
        };
        self.found.contents.identities.insert(files.clone(), digest);
        Ok(identity)
    }

    /// Returns the digest of what the files held a moment ago: the SHA-256 of the certificate's file, then that of the
    /// key's. `None` if either is not known.
    fn digest(&self, files: &IdentityFiles) -> Option<Vec<u8>> {
        let digest = |path: &Path| self.context.files.digest(path);
        let both = match files {
            IdentityFiles::Pair { certificate, key } => [digest(certificate)?, digest(key)?],
            IdentityFiles::Bundle(path) => [digest(path)?; 2],
        };
        Some(both.concat())
    }

    /// Reads the files, and parses them if their bytes are not those that the identity in `known` was read from.
    fn reread_identity(
        &self,
        files: &IdentityFiles,
        known: Option<(&Arc<Identity>, &Vec<u8>)>,
        kept: Option<&Arc<Identity>>,
    ) -> Result<(Arc<Identity>, Vec<u8>), Vec<IdentityFinding>> {
        let [chain, secret] = self.read_files(files)?;
        let digest = [sha256(&chain), sha256(&secret)].concat();
        let identity = match known.filter(|(_, before)| **before == digest) {
            Some((known, _)) => Arc::clone(known),
            None => self.parse_identity(files, [&chain, &secret], kept)?,
        };
        Ok((identity, digest))
    }

    /// Keeps the digest of the bytes that the identity in force was read from; the files' new content cannot be used.
    fn keep_identity_digest(&mut self, files: &IdentityFiles) {
        let before = self.context.in_force.and_then(|before| before.contents.identities.get(files));
        if let Some(digest) = before {
            self.found.contents.identities.insert(files.clone(), digest.clone());
        }
    }

    /// Parses chain and key, and checks that they match and are valid now; an identity equal to the one in force
    /// (`kept`) is returned as that one, and its validity is not checked again.
    fn parse_identity(
        &self,
        files: &IdentityFiles,
        [chain, secret]: [&[u8]; 2],
        kept: Option<&Arc<Identity>>,
    ) -> Result<Arc<Identity>, Vec<IdentityFinding>> {
        let identity = Identity::from_pem(chain, secret, self.context.now);
        let identity = identity.map(|identity| unchanged(kept, identity));
        let valid = identity.and_then(|identity| {
            // The validity of a certificate in force is not checked again: when it expires, the upstream decides.
            let known = kept.is_some_and(|kept| Arc::ptr_eq(kept, &identity));
            if known { Ok(()) } else { identity.check_validity(self.context.now) }
                .map(|()| identity)
        });
        valid.map_err(|error| {
            let message = about_files(files, error.concern(), &error);
            vec![IdentityFinding { concern: error.concern(), message }]
        })
    }

    /// Reads the PEM texts of chain and key; for a bundle both are the same text.
    fn read_files(&self, files: &IdentityFiles) -> Result<[Vec<u8>; 2], Vec<IdentityFinding>> {
        match files {
            IdentityFiles::Pair { certificate, key } => self.read_pair(certificate, key),
            IdentityFiles::Bundle(path) => {
                let bundle = self.context.files.read(path);
                let bundle = bundle.map_err(|error| vec![missing(Concern::Both, path, &error)])?;
                Ok([bundle.clone(), bundle])
            }
        }
    }

    /// Reads both files as of one moment, or returns what is wrong with each.
    fn read_pair(
        &self,
        certificate: &Path,
        key: &Path,
    ) -> Result<[Vec<u8>; 2], Vec<IdentityFinding>> {
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

/// Returns the value in force if it equals the new one, so that equal values stay one and the same.
fn unchanged<T: PartialEq>(kept: Option<&Arc<T>>, found: T) -> Arc<T> {
    match kept {
        Some(kept) if **kept == found => Arc::clone(kept),
        _ => Arc::new(found),
    }
}

fn missing(concern: Concern, path: &Path, error: &io::Error) -> IdentityFinding {
    IdentityFinding { concern, message: unread_pem_file(path, error) }
}

/// Returns the error for a PEM file that cannot be read, with a remedy. A path of an injected pod's mounts is explained
/// by the Kubernetes object behind it.
fn unread_pem_file(path: &Path, error: &io::Error) -> String {
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

/// Returns the Kubernetes object that a sidecar's pod mounts at this path, and the key in it; `None` for other paths.
fn mounted(path: &Path) -> Option<(&'static str, &str)> {
    let object = match path.parent()?.to_str()? {
        "/etc/warmline/identity" => "the Secret warmline-identity",
        "/etc/warmline/trust" => "the ConfigMap warmline-trust",
        _ => return None,
    };
    Some((object, path.file_name()?.to_str()?))
}

/// Returns the error with the file's name before it.
fn about(path: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", path.display())
}

/// Returns the error with the name of the file or files at fault before it.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)] // a failed test is what it is for
mod tests {
    use std::{cell::RefCell, collections::HashMap, time::SystemTime};

    use super::*;
    use crate::{config::Files, tls::trust::TrustError};

    /// Files in memory.
    #[derive(Default)]
    struct Written(RefCell<HashMap<PathBuf, String>>);

    impl Written {
        fn write(&self, path: &str, text: impl Into<String>) {
            self.0.borrow_mut().insert(path.into(), text.into());
        }

        /// Reads all three files, as a compilation does while `in_force` are in force.
        fn load(&self, in_force: Option<&Credentials>) -> Credentials {
            load(self, in_force)
        }
    }

    fn load(files: &dyn Files, in_force: Option<&Credentials>) -> Credentials {
        let context = Context { in_force, ..Context::new("config.yaml", files, SystemTime::now()) };
        let mut reader = CredentialReader::new(&context);
        reader.trust(Some("trust".into())).unwrap();
        reader.identity(pair()).map_err(|_| "no identity").unwrap();
        reader.into_found()
    }

    impl Files for Written {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            let found = self.0.borrow().get(path).map(|text| text.clone().into_bytes());
            found.ok_or_else(|| io::ErrorKind::NotFound.into())
        }

        fn system_trust(&self) -> Result<Trust, TrustError> {
            Ok(Trust::not_read())
        }
    }

    /// Files whose digests are known, with a count of the reads that happen nevertheless.
    struct Noted<'a> {
        files: &'a Written,
        digests: HashMap<PathBuf, Vec<u8>>,
        read: RefCell<usize>,
    }

    impl<'a> Noted<'a> {
        fn new(files: &'a Written) -> Self {
            let texts = files.0.borrow();
            let digest = |text: &String| sha256(text.as_bytes());
            let digests = texts.iter().map(|(path, text)| (path.clone(), digest(text))).collect();
            Self { files, digests, read: RefCell::default() }
        }
    }

    impl Files for Noted<'_> {
        fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
            *self.read.borrow_mut() += 1;
            self.files.read(path)
        }

        fn system_trust(&self) -> Result<Trust, TrustError> {
            self.files.system_trust()
        }

        fn digest(&self, path: &Path) -> Option<&[u8]> {
            self.digests.get(path).map(Vec::as_slice)
        }
    }

    fn pair() -> IdentityFiles {
        IdentityFiles::Pair { certificate: "certificate".into(), key: "key".into() }
    }

    /// Makes a self-signed certificate and its key.
    fn made() -> [String; 2] {
        let key = rcgen::KeyPair::generate().unwrap();
        let parameters = rcgen::CertificateParams::new(["a.example".into()]).unwrap();
        [parameters.self_signed(&key).unwrap().pem(), key.serialize_pem()]
    }

    /// Writes all three files, and returns them with credentials that have the digests of their content, but other
    /// certificates and keys: so whatever is parsed again differs.
    fn marked() -> (Written, Credentials) {
        let files = Written::default();
        let [certificate, key] = made();
        files.write("trust", made()[0].as_str());
        files.write("certificate", certificate);
        files.write("key", key);
        let mut in_force = files.load(None);
        let [other, secret] = made();
        let trust = Trust::from_pem(other.as_bytes()).unwrap();
        let identity =
            Identity::from_pem(other.as_bytes(), secret.as_bytes(), SystemTime::now()).unwrap();
        in_force.trusts.insert(Some("trust".into()), Arc::new(trust));
        in_force.identities.insert(pair(), Arc::new(identity));
        (files, in_force)
    }

    /// Returns the number of trusts and identities (of one each) that were parsed again.
    fn parsed(before: &Credentials, after: &Credentials) -> usize {
        let path = Some("trust".into());
        let same = [
            Arc::ptr_eq(&before.trusts[&path], &after.trusts[&path]),
            Arc::ptr_eq(&before.identities[&pair()], &after.identities[&pair()]),
        ];
        same.iter().filter(|same| !**same).count()
    }

    #[test]
    fn fault_29_unchanged_certificates_keys_and_trust_are_not_parsed_again() {
        let (files, first) = marked();
        let second = files.load(Some(&first));
        assert_eq!(parsed(&first, &second), 0);
        assert_eq!(parsed(&first, &files.load(Some(&second))), 0, "nor later");
        files.write("trust", made()[0].as_str());
        let third = files.load(Some(&second));
        assert_eq!(parsed(&second, &third), 1, "the trust has changed");
        let [certificate, key] = made();
        files.write("certificate", certificate);
        files.write("key", key);
        assert_eq!(parsed(&third, &files.load(Some(&third))), 1, "the identity has changed");
    }

    #[test]
    fn fault_29_a_file_is_read_once_for_a_look_unless_it_has_changed() {
        let (files, first) = marked();
        let loaded = |in_force: &Credentials| {
            let noted = Noted::new(&files);
            let found = load(&noted, Some(in_force));
            (parsed(in_force, &found), noted.read.into_inner(), found)
        };
        let (parsed, read, second) = loaded(&first);
        assert_eq!((parsed, read), (0, 0), "nothing has changed");
        files.write("trust", made()[0].as_str());
        let (parsed, read, third) = loaded(&second);
        assert_eq!((parsed, read), (1, 1), "the trust has changed");
        let [certificate, key] = made();
        files.write("certificate", certificate);
        files.write("key", key);
        let (parsed, read, fourth) = loaded(&third);
        assert_eq!((parsed, read), (1, 2), "the identity has changed");
        assert_eq!(loaded(&fourth).1, 0);
    }

    #[test]
    fn fault_29_broken_files_are_refused_at_each_look_and_taken_up_when_they_are_good_again() {
        let (files, first) = marked();
        let good = ["trust", "key"].map(|path| files.0.borrow()[Path::new(path)].clone());
        files.write("trust", "broken");
        files.write("key", "broken");
        let second = files.load(Some(&first));
        assert_eq!((second.stale.len(), parsed(&first, &second)), (2, 0));
        let third = files.load(Some(&second));
        assert_eq!(third.stale, second.stale, "the same broken bytes are not what is in force");
        files.write("trust", good[0].as_str());
        files.write("key", good[1].as_str());
        let fourth = files.load(Some(&third));
        assert_eq!((fourth.stale.len(), parsed(&first, &fourth)), (0, 0));
    }

    #[test]
    fn fault_29_one_of_several_certificates_may_give_way_to_another_without_a_change() {
        let (files, one) = marked();
        assert!(!one.depend_on_time());
        let certificate = files.0.borrow()[Path::new("certificate")].clone();
        files.write("certificate", format!("{certificate}{}", made()[0]));
        assert!(files.load(None).depend_on_time());
    }
}
