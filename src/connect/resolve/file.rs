//! A file of the system that is read again when it has changed.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// The most bytes that are read of a hosts file, or of `resolv.conf`; the rest is ignored.
const LARGEST: u64 = 4 * 1024 * 1024;

/// A file as it was read just now.
pub(super) struct FileRead {
    /// The text, or the kernel's error.
    pub text: io::Result<String>,
    /// The time since the last change of the file.
    pub age: Duration,
}

/// A file that is followed, and the meaning of its newest content.
#[derive(Debug)]
pub(super) struct FollowedFile<T> {
    path: PathBuf,
    /// The file's state when it was read last.
    seen: Option<FileStamp>,
    value: T,
}

/// The properties of a file that a change of its content changes.
#[derive(Debug, PartialEq, Eq)]
struct FileStamp {
    file: (u64, u64),
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl FileStamp {
    /// Returns the stamp of the file at this path, by a question to the kernel; `None` if the file is missing or the
    /// kernel refuses.
    fn of(path: &Path) -> Option<Self> {
        let about = fs::metadata(path).ok()?;
        Some(Self {
            file: (about.dev(), about.ino()),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
            changed: (about.ctime(), about.ctime_nsec()),
        })
    }
}

impl<T: Clone> FollowedFile<T> {
    /// Creates a followed file that has yet to be read; until then the value is this.
    pub(super) fn new(path: PathBuf, value: T) -> Self {
        Self { path, seen: None, value }
    }

    /// Returns the file's path, for a message.
    pub(super) fn path_text(&self) -> String {
        self.path.display().to_string()
    }

    /// Returns the meaning of the content that was read last.
    pub(super) fn known(&self) -> &T {
        &self.value
    }

    /// Reads the file if it has changed, and returns the meaning of its content, and true if that is new. If `read`
    /// returns `None` for the content, the former meaning stays, and the file is read again at the next call.
    pub(super) fn newest(&mut self, read: impl FnOnce(FileRead) -> Option<T>) -> (T, bool) {
        let now = FileStamp::of(&self.path);
        let changed = now.is_none() || now != self.seen;
        let value = changed.then(|| read(read_file(&self.path))).flatten();
        let replaced = value.is_some();
        if replaced {
            self.seen = now;
        }
        self.value = value.unwrap_or_else(|| self.value.clone());
        (self.value.clone(), replaced)
    }

    /// Makes the next call of [`Self::newest`] read the file, changed or not.
    pub(super) fn distrust(&mut self) {
        self.seen = None;
    }
}

/// Reads a file, up to [`LARGEST`] bytes, and the time since its last change: zero if that is not known. Bytes that are
/// not UTF-8 are replaced; an error is part of the result.
fn read_file(path: &Path) -> FileRead {
    let text = || {
        let mut bytes = Vec::new();
        File::open(path)?.take(LARGEST).read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let changed = fs::metadata(path).and_then(|about| about.modified()).ok();
    let age = changed.and_then(|changed| changed.elapsed().ok()).unwrap_or_default();
    FileRead { text: text(), age }
}
