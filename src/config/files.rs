//! The files that a configuration consists of and names, and how they are read.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use crate::tls::trust::{Trust, TrustError};

/// Access to the files that a configuration names.
pub trait Files {
    /// Reads a file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Reads two files that belong together, such as a certificate and its key; from one moment, if the implementation
    /// can.
    fn read_together(&self, paths: [&Path; 2]) -> [io::Result<Vec<u8>>; 2] {
        paths.map(|path| self.read(path))
    }

    /// Reads the system's trusted root certificates.
    fn system_trust(&self) -> Result<Trust, TrustError>;

    /// Returns the SHA-256 of the content that the file had a moment ago, if it is known: a file whose digest is
    /// unchanged is not read again.
    fn digest(&self, _: &Path) -> Option<&[u8]> {
        None
    }

    /// True if the files are on another machine (`check --without-files`): then none is read, and nothing is reported
    /// about their content.
    fn are_elsewhere(&self) -> bool {
        false
    }
}

/// The [`Files`] of this machine's file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// The most bytes of a file or `ConfigMap` that are read. Larger than any bundle of certificates, and than a
/// `ConfigMap` may be.
pub(super) const LARGEST: u64 = 1024 * 1024;
/// The spare room behind a file's content in the buffer; with less, `read_to_end` looks for the end in many small
/// reads.
const END_FOUND_IN: usize = 64;
/// The flag `O_NONBLOCK`, which has no effect on regular files.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // Opened without waiting: a pipe without a writer would block the reader, and is refused below.
        let file = File::options().read(true).custom_flags(NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is not a regular file"));
        }
        // Room for the whole content, and for `read_to_end` to find its end.
        let room = metadata.len().min(LARGEST) as usize + END_FOUND_IN;
        let mut content = Vec::with_capacity(room);
        file.take(LARGEST + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
        }
        Ok(content)
    }

    /// Reads both files from the folder that `..data` leads to now: Kubernetes swaps this link when it updates a
    /// mounted folder, so that both files are from one version.
    fn read_together(&self, paths: [&Path; 2]) -> [io::Result<Vec<u8>>; 2] {
        match common_folder(paths) {
            Some((folder, names)) => names.map(|name| self.read(&folder.join(name))),
            None => paths.map(|path| self.read(path)),
        }
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::system()
    }
}

/// Returns the folder that the files' common `..data` link leads to, and their names in it; `None` if the files are in
/// different folders or the link does not hold both.
fn common_folder(paths: [&Path; 2]) -> Option<(PathBuf, [&OsStr; 2])> {
    let [first, second] = paths;
    let folder = first.parent().filter(|folder| second.parent() == Some(folder))?;
    let real = folder.join("..data").canonicalize().ok()?;
    let names = [first.file_name()?, second.file_name()?];
    names.iter().all(|name| real.join(name).exists()).then_some((real, names))
}
