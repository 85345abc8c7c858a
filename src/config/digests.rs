//! Digests (SHA-256) of everything that a plan is made of. A file is read again only if it may have changed since the
//! last look.

use std::{
    collections::HashMap,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{
    files::{Disk, Files as _},
    source_kind::SourceKind,
};
use crate::tls::sha256;

/// The digests of the text and of each file that it names, and the text's origin. While they are equal, the plan is the
/// same.
#[derive(Debug, PartialEq, Eq)]
pub struct Digests {
    text: Vec<u8>,
    origin: SourceKind,
    files: HashMap<PathBuf, FileDigest>,
}

impl Digests {
    /// Takes the digests at the time `now`; `before` are those of the last look, from which the digests of unchanged
    /// files are copied.
    pub(super) fn take(
        text: &str,
        origin: SourceKind,
        files: Vec<PathBuf>,
        before: Option<&Self>,
        now: SystemTime,
    ) -> Self {
        let files = files.into_iter().map(|file| {
            let before = before.and_then(|before| before.files.get(&file));
            let digest = FileDigest::take(&file, before, now);
            (file, digest)
        });
        Self { text: sha256(text.as_bytes()), origin, files: files.collect() }
    }

    /// Returns the digest of this file's content; `None` if the file is not among the digests or could not be read.
    pub(super) fn of(&self, file: &Path) -> Option<&[u8]> {
        self.files.get(file)?.content.as_deref().ok()
    }
}

#[derive(Debug, Clone)]
struct FileDigest {
    /// The file's stamp; `None` if its content may change without another stamp, or could not be read.
    stamp: Option<Stamp>,
    /// The SHA-256 of the content, or the reason why the file cannot be read.
    content: Result<Vec<u8>, String>,
}

impl PartialEq for FileDigest {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

impl Eq for FileDigest {}

impl FileDigest {
    /// Takes the digest of a file, or the reason why it cannot be read. The file is not read if it has the stamp that
    /// it had at the last look (`before`).
    fn take(file: &Path, before: Option<&Self>, now: SystemTime) -> Self {
        // The stamp is taken before the content is read: a later change has another stamp.
        let stamp = Stamp::of(file).filter(|stamp| stamp.is_settled(now));
        if let Some(before) =
            before.filter(|before| before.stamp.is_some() && before.stamp == stamp)
        {
            return before.clone();
        }
        match Disk.read(file) {
            Ok(content) => Self { stamp, content: Ok(sha256(&content)) },
            Err(error) => Self { stamp: None, content: Err(error.to_string()) },
        }
    }
}

/// The age that a file's last change must have before its stamp is trusted: two changes within the smallest unit of the
/// file system's clock have the same stamp.
const SETTLED: Duration = Duration::from_secs(3);

/// A file's identity, size, and time of last change (`ctime`, which no program can set).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    changed: Duration,
}

impl Stamp {
    /// Returns the stamp of a file, by a question to the kernel; `None` if the file is missing, or its time of change
    /// is before 1970.
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        let seconds = u64::try_from(metadata.ctime()).ok()?;
        let changed = Duration::new(seconds, u32::try_from(metadata.ctime_nsec()).ok()?);
        Some(Self { device: metadata.dev(), inode: metadata.ino(), size: metadata.len(), changed })
    }

    /// True if the file's last change is long enough ago at `now` for its stamp to be trusted.
    fn is_settled(&self, now: SystemTime) -> bool {
        // A file system that has no such time says 0.
        let settled = self.changed.checked_add(SETTLED).filter(|_| !self.changed.is_zero());
        let now = now.duration_since(UNIX_EPOCH).ok();
        settled.zip(now).is_some_and(|(settled, now)| settled < now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The content digest of a file that was not read.
    const UNREAD: &[u8] = b"unread";

    /// True if the digest of a file is taken by reading the file, given its digest `before`.
    fn is_read(file: &Path, before: &FileDigest, now: SystemTime) -> bool {
        let before = FileDigest { content: Ok(UNREAD.into()), ..before.clone() };
        FileDigest::take(file, Some(&before), now).content.as_deref() != Ok(UNREAD)
    }

    #[test]
    fn fault_29_a_file_is_read_again_only_if_it_may_have_changed() {
        let folder = tempfile::tempdir().expect("a folder");
        let [file, new] = ["trust.pem", "new.pem"].map(|name| folder.path().join(name));
        let write = |path, text| fs::write(path, text).expect("a file");
        write(&file, "one");
        let now = SystemTime::now();
        let later = now + 2 * SETTLED;
        let fresh = FileDigest::take(&file, None, now);
        assert!(is_read(&file, &fresh, now), "a change at this moment would leave no other stamp");
        assert!(is_read(&file, &fresh, later), "nor was the digest before of a settled file");
        let settled = FileDigest::take(&file, None, later);
        assert!(!is_read(&file, &settled, later));
        assert!(is_read(&file, &settled, now), "the clock was set back");
        write(&file, "longer");
        assert!(is_read(&file, &settled, later), "it was edited in place");
        let edited = FileDigest::take(&file, None, later);
        write(&new, "LONGER");
        fs::rename(&new, &file).expect("it takes the file's place");
        assert!(is_read(&file, &edited, later), "another file is in its place");
        fs::remove_file(&file).expect("the file goes");
        let gone = FileDigest::take(&file, Some(&edited), later);
        assert!(gone.content.is_err() && gone.stamp.is_none());
        assert!(is_read(&file, &gone, later));
    }
}
