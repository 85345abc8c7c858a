//! Where configurations, certificates and keys come from: files, and a watched `ConfigMap`.

use std::{
    ffi::OsStr,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use rustix::fs::OFlags;

use super::{
    Context, Credentials, Errors, Plan, compile,
    compile::default_log,
    configmap::{Away, ConfigMap, Known},
    digests::Digests,
    hash,
    lead::Lead,
};
use crate::{
    label,
    telemetry::log::{self, Access, Level},
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

    /// The digest of what the file held a moment ago, where it is known: a file that has not changed is not read again.
    fn digest(&self, _: &Path) -> Option<&[u8]> {
        None
    }

    /// True if the files are on another machine: none is read, and nothing is said of their content.
    fn are_elsewhere(&self) -> bool {
        false
    }
}

/// Files of another machine.
#[derive(Debug, Clone, Copy)]
struct Elsewhere;

impl Files for Elsewhere {
    fn read(&self, _: &Path) -> io::Result<Vec<u8>> {
        Err(io::ErrorKind::NotFound.into())
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Ok(Trust::not_read())
    }

    fn are_elsewhere(&self) -> bool {
        true
    }
}

/// The file system.
#[derive(Debug, Clone, Copy)]
pub struct Disk;

/// Far above any bundle of certificates, and above what a `ConfigMap` may hold.
pub(super) const LARGEST: u64 = 1024 * 1024;
/// With less room than this behind a file's content its end is looked for in many small steps.
const END_FOUND_IN: usize = 64;
/// `O_NONBLOCK`: does nothing to regular files.
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

impl Files for Disk {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        // A pipe that nobody writes into must not hold up who reads: it is refused, without waiting for its writer.
        let file = File::options().read(true).custom_flags(NONBLOCK).open(path)?;
        let metadata = file.metadata()?;
        if !metadata.is_file() {
            return Err(io::Error::other("it is no regular file"));
        }
        // Room for all of it, and for the reader to find its end.
        let room = metadata.len().min(LARGEST) as usize + END_FOUND_IN;
        let mut content = Vec::with_capacity(room);
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

label! {
    /// Where a configuration came from.
    #[derive(Default)]
    pub enum Origin {
        /// A file; beside a watch, the copy of the `ConfigMap` that kubelet mounted.
        #[default]
        File = "file",
        /// The watched `ConfigMap`.
        Watch = "watch",
        /// What was in force before the last restart.
        Kept = "kept",
    }
}

/// Where a configuration comes from, and what the command line says above it.
#[derive(Debug, Clone)]
pub struct Source {
    places: Places,
    terms: Terms,
}

#[derive(Debug, Clone)]
enum Places {
    File(PathBuf),
    ConfigMap { configmap: ConfigMap, copy: Option<PathBuf>, lead: Lead },
}

/// What the command line says, whatever the configuration says.
#[derive(Debug, Clone, Copy, Default)]
pub struct Terms {
    /// Whether the log goes to a terminal.
    pub terminal: bool,
    /// Which requests get a log line.
    pub access: Option<Access>,
    /// How much is logged.
    pub level: Option<Level>,
    /// Whoever writes the configuration may not open this process to others, nor read files with it.
    pub confined: bool,
}

/// A configuration.
#[derive(Debug)]
pub struct Loaded {
    /// What is to be done.
    pub plan: Plan,
    /// What says so.
    pub text: String,
    /// Where that came from.
    pub origin: Origin,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// What is wrong.
    pub errors: Errors,
    /// Of the text, where there is one: [`hash`].
    pub hash: Option<String>,
}

/// What a source has at the moment: the text, or why there is none.
pub struct Found {
    origin: Origin,
    text: Result<String, String>,
}

impl Found {
    /// The digests of the text and of these files, beside those of the look before; `None` where there is no text.
    #[must_use]
    pub fn digests(&self, files: Vec<PathBuf>, before: Option<&Digests>) -> Option<Digests> {
        let text = self.text.as_ref().ok()?;
        Some(Digests::take(text, self.origin, files, before, SystemTime::now()))
    }
}

/// The file system, of some of whose files the digests were taken a moment ago.
#[derive(Debug, Clone, Copy)]
struct Noted<'a>(&'a Digests);

impl Files for Noted<'_> {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        Disk.read(path)
    }

    fn read_together(&self, paths: [&Path; 2]) -> [io::Result<Vec<u8>>; 2] {
        Disk.read_together(paths)
    }

    fn system_trust(&self) -> Result<Trust, TrustError> {
        Disk.system_trust()
    }

    fn digest(&self, path: &Path) -> Option<&[u8]> {
        self.0.of(path)
    }
}

impl Source {
    /// A file alone.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::of_file(path.into(), Terms::default())
    }

    /// The same on these terms.
    #[must_use]
    pub const fn of_file(path: PathBuf, terms: Terms) -> Self {
        Self { places: Places::File(path), terms }
    }

    /// A `ConfigMap`, and the copy of it that is mounted, if one is.
    #[must_use]
    pub const fn of_configmap(configmap: ConfigMap, copy: Option<PathBuf>, terms: Terms) -> Self {
        Self { places: Places::ConfigMap { configmap, copy, lead: Lead::Watch }, terms }
    }

    /// The `ConfigMap`, where one is followed.
    #[must_use]
    pub const fn configmap(&self) -> Option<&ConfigMap> {
        match &self.places {
            Places::File(_) => None,
            Places::ConfigMap { configmap, .. } => Some(configmap),
        }
    }

    /// The file, where there is one.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.places {
            Places::File(path) => Some(path),
            Places::ConfigMap { copy, .. } => copy.as_deref(),
        }
    }

    /// What people call it.
    #[must_use]
    pub fn name(&self, origin: Origin) -> String {
        match (&self.places, origin) {
            (Places::File(path), _)
            | (Places::ConfigMap { copy: Some(path), .. }, Origin::File) => {
                path.display().to_string()
            }
            (Places::ConfigMap { configmap, .. }, _) => configmap.reference().to_string(),
        }
    }

    /// How to log before there is a configuration.
    #[must_use]
    pub fn log(&self) -> log::Settings {
        let mut settings = default_log(self.terms.terminal);
        settings.level = self.terms.level.unwrap_or(settings.level);
        settings
    }

    /// Whether a first configuration is waited for that is not there, or whose files are not: where others bring them.
    #[must_use]
    pub const fn may_come(&self) -> bool {
        self.terms.confined || matches!(self.places, Places::ConfigMap { .. })
    }

    /// Waits for news of the `ConfigMap`; for ever where none is followed.
    pub async fn changed(&mut self) {
        match &mut self.places {
            Places::File(_) => std::future::pending().await,
            Places::ConfigMap { configmap, .. } => configmap.changed().await,
        }
    }

    /// Reads and compiles what leads now, with the certificates and keys that it names, as of now. Of those `in_force`,
    /// one whose file cannot be used stays.
    pub fn load(&mut self, in_force: Option<&Credentials>) -> Result<Loaded, Unusable> {
        let found = self.find();
        self.load_found(found, None, in_force)
    }

    /// Reads what leads now.
    pub fn find(&mut self) -> Found {
        self.places.find(Instant::now())
    }

    /// Compiles what was found, as [`Source::load`] does; with these digests of it a file that is as it was for those `in_force`
    /// is not read again.
    pub fn load_found(
        &self,
        found: Found,
        digests: Option<&Digests>,
        in_force: Option<&Credentials>,
    ) -> Result<Loaded, Unusable> {
        let noted = digests.map(Noted);
        let files = noted.as_ref().map_or(&Disk as &dyn Files, |noted| noted);
        let Found { origin, text } = found;
        match text {
            Ok(text) => self.compile_with(text, origin, in_force, files),
            Err(reason) => Err(self.unreadable(origin, reason)),
        }
    }

    /// Reads and compiles what leads now without the files that it names: they are elsewhere, and the plan trusts nobody.
    pub fn load_without_files(&mut self) -> Result<Loaded, Unusable> {
        let Found { origin, text } = self.places.find(Instant::now());
        match text {
            Ok(text) => self.compile_with(text, origin, None, &Elsewhere),
            Err(reason) => Err(self.unreadable(origin, reason)),
        }
    }

    fn unreadable(&self, origin: Origin, reason: String) -> Unusable {
        Unusable { errors: Errors::unreadable(&self.name(origin), reason), hash: None }
    }

    /// Compiles a text as if it had come from there.
    pub fn compile(
        &self,
        text: String,
        origin: Origin,
        in_force: Option<&Credentials>,
    ) -> Result<Loaded, Unusable> {
        self.compile_with(text, origin, in_force, &Disk)
    }

    fn compile_with(
        &self,
        text: String,
        origin: Origin,
        in_force: Option<&Credentials>,
        files: &dyn Files,
    ) -> Result<Loaded, Unusable> {
        let Terms { terminal, access, level, confined } = self.terms;
        let name = self.name(origin);
        let now = SystemTime::now();
        let context = Context { source: &name, terminal, files, now, in_force, confined };
        match compile(&text, &context) {
            Ok(mut plan) => {
                plan.log.access = access.unwrap_or(plan.log.access);
                plan.log.level = level.unwrap_or(plan.log.level);
                Ok(Loaded { plan, text, origin })
            }
            Err(errors) => Err(Unusable { errors, hash: Some(hash(&text)) }),
        }
    }
}

impl Places {
    /// The mounted copy leads until the watch is in sync; after that as [`Lead`] says.
    fn find(&mut self, now: Instant) -> Found {
        let (configmap, copy, lead) = match self {
            Self::File(path) => return Found { origin: Origin::File, text: read_text(path) },
            Self::ConfigMap { configmap, copy, lead } => (configmap, copy.as_deref(), lead),
        };
        let Known { content, away, .. } = configmap.known();
        match (content, copy) {
            (Some(content), copy) => {
                let since = away.map(|away| away.since);
                let read = || copy.and_then(|path| read_text(path).ok());
                match lead.copy(since, now, read) {
                    Some(text) => Found { origin: Origin::File, text: Ok(text) },
                    None => {
                        Found { origin: Origin::Watch, text: content.map(|text| text.to_string()) }
                    }
                }
            }
            (None, Some(path)) => Found { origin: Origin::File, text: read_text(path) },
            (None, None) => Found { origin: Origin::Watch, text: Err(unknown(away.as_ref())) },
        }
    }
}

fn unknown(away: Option<&Away>) -> String {
    match away {
        Some(away) => format!("not read yet: {}", away.reason),
        None => "not read yet".into(),
    }
}

fn read_text(path: &Path) -> Result<String, String> {
    let unreadable = |reason: &dyn std::fmt::Display| {
        format!("cannot be read: {reason}; name a YAML file that this process may read")
    };
    let bytes = Disk.read(path).map_err(|error| unreadable(&error))?;
    String::from_utf8(bytes).map_err(|_| unreadable(&"it is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fault_29_a_look_at_unchanged_files_needs_no_compiling_and_each_change_is_seen() {
        let folder = tempfile::tempdir().expect("a folder");
        let [config, trust] = ["config.yaml", "trust.pem"].map(|name| folder.path().join(name));
        let write = |path, text| std::fs::write(path, text).expect("a file");
        let digest = || Source::file(&config).find().digests(vec![trust.clone()], None);
        assert_eq!(digest(), None, "there is no text");
        write(&config, "a");
        let without = digest();
        write(&trust, "one");
        let first = digest();
        assert_eq!(digest(), first, "nothing has changed");
        write(&trust, "two");
        let second = digest();
        write(&config, "b");
        let third = digest();
        write(&config, "a");
        write(&trust, "one");
        assert_eq!(digest(), first, "all is as it was");
        let all = [&without, &first, &second, &third];
        assert!((0..4).all(|a| (0..a).all(|b| all[a] != all[b])), "{all:?}");
    }
}
