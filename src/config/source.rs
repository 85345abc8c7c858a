//! Where configurations, certificates and keys come from: files, for now.

use std::{
    fs::File,
    io::{self, Read as _},
    path::Path,
    time::SystemTime,
};

use super::{Context, Errors, Plan, compile, hash};
use crate::tls::trust::{Trust, TrustError};

/// Reads what a configuration names.
pub trait Files {
    /// A file's content.
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// The machine's own roots.
    fn system_trust(&self) -> Result<Trust, TrustError>;
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// Far above any bundle of certificates, and above what a `ConfigMap` may hold.
const LARGEST: u64 = 1024 * 1024;

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        File::open(path)?.take(LARGEST + 1).read_to_end(&mut content)?;
        if content.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "it is larger than 1 MiB"));
        }
        Ok(content)
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Trust::system()
    }
}

/// A configuration from a file.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be done.
    pub plan: Plan,
    /// Of the text: [`hash`].
    pub hash: String,
}

/// Reads and compiles a file, with the certificates and keys that it names, as of now.
pub fn load(path: &Path, terminal: bool) -> Result<Loaded, Errors> {
    let source = path.display().to_string();
    let unreadable = |reason: &dyn std::fmt::Display| {
        Errors::unreadable(
            &source,
            format!("cannot be read: {reason}; name a YAML file that this process may read"),
        )
    };
    let bytes = Disk.read(path).map_err(|error| unreadable(&error))?;
    let text = String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))?;
    let context = Context { source: &source, terminal, files: &Disk, now: SystemTime::now() };
    let plan = compile(&text, &context)?;
    Ok(Loaded { plan, hash: hash(&text) })
}
