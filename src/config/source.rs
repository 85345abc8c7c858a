//! The sources of configurations: a file, or a watched `ConfigMap` with its mounted copy.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Instant, SystemTime},
};

use super::{
    Context, Credentials, Errors, Plan, compile,
    configmap::{ConfigMap, ConfigMapState, LostContact},
    digests::Digests,
    files::{Disk, Files},
    hash,
    lead::Lead,
    source_kind::SourceKind,
};
use crate::{
    telemetry::log::{self, Access, Level},
    tls::trust::{Trust, TrustError},
};

/// The source that is followed for configurations, with the settings of the command line that override them.
#[derive(Debug, Clone)]
pub struct Source {
    location: SourceLocation,
    overrides: CommandLineOverrides,
}

#[derive(Debug, Clone)]
enum SourceLocation {
    File(PathBuf),
    ConfigMap { configmap: ConfigMap, copy: Option<PathBuf>, lead: Lead },
}

/// Settings of the command line, which override those of the configuration.
#[derive(Debug, Clone, Copy, Default)]
pub struct CommandLineOverrides {
    /// True if the log goes to a terminal.
    pub terminal: bool,
    /// The requests that get an access line; `None`: as configured.
    pub access: Option<Access>,
    /// The least severe level that is logged; `None`: as configured.
    pub level: Option<Level>,
    /// True under `--confined`: the configuration may neither open this process to others nor name files outside
    /// `/etc/warmline`.
    pub confined: bool,
}

/// A configuration that was read and compiled.
#[derive(Debug)]
pub struct Loaded {
    /// The plan that the text was compiled to.
    pub plan: Plan,
    /// The YAML text.
    pub text: String,
    /// The kind of source that the text came from.
    pub origin: SourceKind,
}

/// A configuration that cannot be used.
#[derive(Debug)]
pub struct Unusable {
    /// The errors of the text, or the reason why there is none.
    pub errors: Errors,
    /// The [`hash`] of the text; `None` if the text could not be read.
    pub hash: Option<String>,
}

/// The result of reading a source once: the text, or the reason why there is none.
pub struct SourceReading {
    origin: SourceKind,
    text: Result<String, String>,
}

impl SourceReading {
    /// Returns the digests of the text and of the given files. A file that has not changed since `before` was taken is
    /// not read again. `None` if there is no text.
    #[must_use]
    pub fn digests(&self, files: Vec<PathBuf>, before: Option<&Digests>) -> Option<Digests> {
        let text = self.text.as_ref().ok()?;
        Some(Digests::take(text, self.origin, files, before, SystemTime::now()))
    }
}

/// The [`Files`] of `check --without-files`, which cannot be read here.
#[derive(Debug, Clone, Copy)]
struct UnreadFiles;

impl Files for UnreadFiles {
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

/// The file system, with digests that were taken of some of its files a moment ago.
#[derive(Debug, Clone, Copy)]
struct DigestedFiles<'a>(&'a Digests);

impl Files for DigestedFiles<'_> {
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
    /// Makes a source that is a file, without settings of the command line.
    #[must_use]
    pub fn file(path: &Path) -> Self {
        Self::of_file(path.into(), CommandLineOverrides::default())
    }

    /// Makes a source that is a file, with settings of the command line.
    #[must_use]
    pub const fn of_file(path: PathBuf, overrides: CommandLineOverrides) -> Self {
        Self { location: SourceLocation::File(path), overrides }
    }

    /// Makes a source that is a `ConfigMap`, with the path of its mounted copy if there is one.
    #[must_use]
    pub const fn of_configmap(
        configmap: ConfigMap,
        copy: Option<PathBuf>,
        overrides: CommandLineOverrides,
    ) -> Self {
        Self {
            location: SourceLocation::ConfigMap { configmap, copy, lead: Lead::Watch },
            overrides,
        }
    }

    /// Returns the followed `ConfigMap`; `None` if the source is a file alone.
    #[must_use]
    pub const fn configmap(&self) -> Option<&ConfigMap> {
        match &self.location {
            SourceLocation::File(_) => None,
            SourceLocation::ConfigMap { configmap, .. } => Some(configmap),
        }
    }

    /// Returns the path of the file or of the mounted copy; `None` if there is neither.
    #[must_use]
    pub fn path(&self) -> Option<&Path> {
        match &self.location {
            SourceLocation::File(path) => Some(path),
            SourceLocation::ConfigMap { copy, .. } => copy.as_deref(),
        }
    }

    /// Returns the source's name for messages and log lines: the file's path, or `configmap/NAME/KEY`.
    #[must_use]
    pub fn name(&self, origin: SourceKind) -> String {
        match (&self.location, origin) {
            (SourceLocation::File(path), _)
            | (SourceLocation::ConfigMap { copy: Some(path), .. }, SourceKind::File) => {
                path.display().to_string()
            }
            (SourceLocation::ConfigMap { configmap, .. }, _) => configmap.reference().to_string(),
        }
    }

    /// Returns the log settings to use until there is a configuration.
    #[must_use]
    pub fn log(&self) -> log::Settings {
        let mut settings = log::Settings::by_default(self.overrides.terminal);
        settings.level = self.overrides.level.unwrap_or(settings.level);
        settings
    }

    /// True if the process waits for a first configuration, or for the files that it names, instead of failing at the
    /// start: other programs create them if the source is a `ConfigMap` or the process is confined.
    #[must_use]
    pub const fn may_come(&self) -> bool {
        self.overrides.confined || matches!(self.location, SourceLocation::ConfigMap { .. })
    }

    /// Waits for a change of the followed `ConfigMap`; for ever if the source is a file.
    pub async fn changed(&mut self) {
        match &mut self.location {
            SourceLocation::File(_) => std::future::pending().await,
            SourceLocation::ConfigMap { configmap, .. } => configmap.changed().await,
        }
    }

    /// Reads and compiles the leading text with the certificates and keys that it names. If one of their files cannot
    /// be used, its predecessor among those `in_force` stays.
    pub fn load(&mut self, in_force: Option<&Credentials>) -> Result<Loaded, Unusable> {
        let found = self.find();
        self.load_found(found, None, in_force)
    }

    /// Reads the leading text: the file's, the `ConfigMap`'s, or that of its mounted copy.
    pub fn find(&mut self) -> SourceReading {
        self.location.find(Instant::now())
    }

    /// Compiles a text that [`Source::find`] returned, as [`Source::load`] does; fails if there is none. Given
    /// `digests`, files whose digest is that of the credentials `in_force` are not read again.
    pub fn load_found(
        &self,
        found: SourceReading,
        digests: Option<&Digests>,
        in_force: Option<&Credentials>,
    ) -> Result<Loaded, Unusable> {
        let noted = digests.map(DigestedFiles);
        let files = noted.as_ref().map_or(&Disk as &dyn Files, |noted| noted);
        let SourceReading { origin, text } = found;
        match text {
            Ok(text) => self.compile_with(text, origin, in_force, files),
            Err(reason) => Err(self.without_text(origin, reason)),
        }
    }

    /// Reads and compiles the leading text without the files that it names, because they are on another machine. The
    /// plan then trusts no certificate.
    pub fn load_without_files(&mut self) -> Result<Loaded, Unusable> {
        let SourceReading { origin, text } = self.location.find(Instant::now());
        match text {
            Ok(text) => self.compile_with(text, origin, None, &UnreadFiles),
            Err(reason) => Err(self.without_text(origin, reason)),
        }
    }

    /// Makes the error for a source whose text could not be read, for this reason.
    fn without_text(&self, origin: SourceKind, reason: String) -> Unusable {
        Unusable { errors: Errors::of_unread_text(&self.name(origin), reason), hash: None }
    }

    /// Compiles a text, with the files that it names, as if this source had just returned it with that origin.
    pub fn compile(
        &self,
        text: String,
        origin: SourceKind,
        in_force: Option<&Credentials>,
    ) -> Result<Loaded, Unusable> {
        self.compile_with(text, origin, in_force, &Disk)
    }

    /// Compiles a text with the certificates and keys in `files`, and applies the command line's settings to its log.
    /// The error comes with the hash of the text.
    fn compile_with(
        &self,
        text: String,
        origin: SourceKind,
        in_force: Option<&Credentials>,
        files: &dyn Files,
    ) -> Result<Loaded, Unusable> {
        let CommandLineOverrides { terminal, access, level, confined } = self.overrides;
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

impl SourceLocation {
    /// Reads the leading text: the mounted copy's until the watch has answered for the first time, and after that as
    /// [`Lead`] decides.
    fn find(&mut self, now: Instant) -> SourceReading {
        let (configmap, copy, lead) = match self {
            Self::File(path) => {
                return SourceReading { origin: SourceKind::File, text: read_text(path) };
            }
            Self::ConfigMap { configmap, copy, lead } => (configmap, copy.as_deref(), lead),
        };
        let ConfigMapState { content, away, .. } = configmap.known();
        match (content, copy) {
            (Some(content), copy) => {
                let since = away.map(|away| away.since);
                let read = || copy.and_then(|path| read_text(path).ok());
                match lead.copy(since, now, read) {
                    Some(text) => SourceReading { origin: SourceKind::File, text: Ok(text) },
                    None => SourceReading {
                        origin: SourceKind::Watch,
                        text: content.map(|text| text.to_string()),
                    },
                }
            }
            (None, Some(path)) => SourceReading { origin: SourceKind::File, text: read_text(path) },
            (None, None) => {
                SourceReading { origin: SourceKind::Watch, text: Err(unknown(away.as_ref())) }
            }
        }
    }
}

/// Returns the reason why the cluster's text is not known yet; `away` is the failure of the last contact, if it failed.
fn unknown(away: Option<&LostContact>) -> String {
    match away {
        Some(away) => format!("not read yet: {}", away.reason),
        None => "not read yet".into(),
    }
}

/// Reads the document from a file, at most 1 MiB of UTF-8. The error is the reason with a remedy, without the file's
/// name.
fn read_text(path: &Path) -> Result<String, String> {
    let bytes = Disk.read(path).map_err(|error| {
        let remedy = match error.kind() {
            io::ErrorKind::FileTooLarge => "make it smaller",
            _ => "name a YAML file that this process may read",
        };
        format!("cannot be read: {error}; {remedy}")
    })?;
    String::from_utf8(bytes).map_err(|error| {
        let encoding = match error.as_bytes() {
            [0xFF, 0xFE, ..] | [0xFE, 0xFF, ..] => "UTF-16, and not UTF-8",
            _ => "not UTF-8",
        };
        format!("cannot be read: it is {encoding}; save it as UTF-8")
    })
}

#[cfg(test)]
mod tests {
    use super::{super::files::LARGEST, *};

    #[test]
    fn a_configuration_that_is_no_text_is_refused_with_what_would_be_right() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config.yaml");
        let too_large = vec![b'#'; LARGEST as usize + 1];
        for (content, told) in [
            (&b"\xFF\xFEd\0"[..], "cannot be read: it is UTF-16, and not UTF-8; save it as UTF-8"),
            (b"# \xE4", "cannot be read: it is not UTF-8; save it as UTF-8"),
            (&too_large, "cannot be read: it is larger than 1 MiB; make it smaller"),
        ] {
            std::fs::write(&path, content).expect("a file");
            assert_eq!(read_text(&path), Err(told.to_owned()));
        }
    }

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
