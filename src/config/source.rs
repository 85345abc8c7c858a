//! Where configurations, certificates and keys come from: files, for now.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use rustix::fs::OFlags;

use super::{Context, Credentials, Errors, Plan, compile, hash};
use crate::{
    telemetry::log::Access,
    tls::trust::{Trust, TrustError},
};

/// Reads what a configuration names.
pub trait Files {
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The contents of two files that belong together, as of one moment where that can be had.
    fn read_together(&self, paths: [&Path; 2]) -> [io::Result<Vec<u8>>; 2] {
        paths.map(|path| self.read(path))
    }

    /// The machine's own roots.
    fn system_trust(&self) -> Result<Trust, TrustError>;
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// Far above any bundle of certificates, and above what a `ConfigMap` may hold.
const LARGEST: u64 = 1024 * 1024;
/// `O_NONBLOCK`: does nothing to regular files.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe that nobody writes into must not hold up who reads: it is refused, without waiting for its writer.
        let file = File::options().read(true).custom_flags(NONBLOCK).open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        let mut content = Vec::new();
        file.take(LARGEST + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
        }
        Ok(content)
    }

    /// Kubernetes swaps a mounted folder's `..data` link: both are read from the folder that it leads to now.
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

/// The folder that both files' `..data` leads to, and their names in it.
fn common_folder(paths: [&Path; 2]) -> Option<(PathBuf, [&OsStr; 2])> {
    let [first, second] = paths;
    let folder = first.parent().filter(|folder| second.parent() == Some(folder))?;
    let real = folder.join("..data").canonicalize().ok()?;
    let names = [first.file_name()?, second.file_name()?];
    names.iter().all(|name| real.join(name).exists()).then_some((real, names))
}

/// Where a configuration comes from: a file, and what the command line says above it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The file.
    pub path: PathBuf,
    /// Whether the log goes to a terminal.
    pub terminal: bool,
    /// Which requests get a log line, whatever the file says.
    pub access: Option<Access>,
}

/// A configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be done.
    pub plan: Plan,
    /// What says so.
    pub text: String,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// What is wrong.
    pub errors: Errors,
    /// Of the text, where it could be read: [`hash`].
    pub hash: Option<String>,
}

impl Source {
    /// A file alone.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self { path: path.into(), terminal: false, access: None }
    }

    /// Reads and compiles it, with the certificates and keys that it names, as of now. Of those `in_force`, one whose
    /// file cannot be used stays.
    pub fn load(&self, in_force: Option<&Credentials>) -> Result<Loaded, Unusable> {
        let text = read_text(&self.path, &self.path.display().to_string())
            .map_err(|errors| Unusable { errors, hash: None })?;
        self.compile(text, in_force)
    }

    /// Compiles a text as if it were the file's.
    pub fn compile(
        &self,
        text: String,
        in_force: Option<&Credentials>,
    ) -> Result<Loaded, Unusable> {
        let source = self.path.display().to_string();
        let context = Context {
            source: &source,
            terminal: self.terminal,
            files: &Disk,
            now: SystemTime::now(),
            in_force,
        };
        match compile(&text, &context) {
            Ok(mut plan) => {
                plan.log.access = self.access.unwrap_or(plan.log.access);
                Ok(Loaded { plan, text })
            }
            Err(errors) => Err(Unusable { errors, hash: Some(hash(&text)) }),
        }
    }
}

fn read_text(path: &Path, source: &str) -> Result<String, Errors> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        Errors::unreadable(
            source,
            format!("cannot be read: {reason}; name a YAML file that this process may read"),
        )
    };
    let bytes = Disk.read(path).map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))
}
