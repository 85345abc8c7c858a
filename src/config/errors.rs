//! Errors of a configuration with their places, and the collection of them while a plan is made.

use std::fmt;

use super::{
    kind::without_password,
    written::{Kind, Position, Written},
};

/// A single error in a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The path of the key, such as `upstreams[0].pool.maxIdle`; empty if the error is about the whole document.
    pub path: String,
    /// The place in the text; `None` if the text could not be read.
    pub at: Option<Position>,
    /// The words for people: what is wrong, then a semicolon, then what would be right.
    pub message: String,
}

/// All errors of one configuration; never empty.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Errors {
    source: String,
    text: String,
    findings: Vec<Finding>,
    only_files: bool,
}

impl Errors {
    pub(super) fn new(source: &str, text: &str, findings: Vec<Finding>) -> Self {
        debug_assert!(!findings.is_empty());
        Self { source: source.into(), text: text.into(), findings, only_files: false }
    }

    /// Makes the error of a configuration whose text cannot be read; `message` says why.
    pub(super) fn of_unread_text(source: &str, message: String) -> Self {
        Self::new(source, "", vec![Finding { path: String::new(), at: None, message }])
    }

    /// Sets [`Errors::only_files`].
    pub(super) fn of_files(self, only_files: bool) -> Self {
        Self { only_files, ..self }
    }

    /// True if nothing is wrong except the content of certificate, key and trust files: these may appear or be repaired
    /// without a change of the text.
    #[must_use]
    pub const fn only_files(&self) -> bool {
        self.only_files
    }

    /// Returns the errors in the order of their places in the text.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl std::error::Error for Errors {}

/// The number of errors that are shown; the others are only counted.
const SHOWN: usize = 20;

impl fmt::Display for Errors {
    /// Writes each error as `FILE:LINE:COLUMN: PATH: what is wrong; what would be right`, followed by the line of the
    /// text and a caret below the column.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, finding) in self.findings.iter().take(SHOWN).enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            self.write_one(f, finding)?;
        }
        match self.findings.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n{}: and {more} more", self.source),
        }
    }
}

impl Errors {
    /// Writes one error with its place, and below it the line of the text and a caret, if the line may be shown.
    fn write_one(&self, f: &mut fmt::Formatter<'_>, finding: &Finding) -> fmt::Result {
        write!(f, "{}:", self.source)?;
        if let Some(Position { line, column }) = finding.at {
            write!(f, "{line}:{column}:")?;
        }
        if !finding.path.is_empty() {
            write!(f, " {}:", finding.path)?;
        }
        write!(f, " {}", finding.message)?;
        match finding.at.and_then(|at| excerpt(&self.text, at)) {
            Some((line, caret)) => {
                write!(f, "\n  {line}\n  {caret:>width$}", caret = '^', width = caret)
            }
            None => Ok(()),
        }
    }
}

/// Returns the line at a place and the caret's column in it, at most 120 characters around the place, without passwords
/// of URLs. Returns `None` if the line is blank or does not exist, or if the text contains PEM, because the line could
/// be a private key.
fn excerpt(text: &str, at: Position) -> Option<(String, usize)> {
    const SIDE: usize = 60;
    let line = text
        .trim_start_matches('\u{feff}')
        .lines()
        .nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
    if line.trim().is_empty() || text.contains("-----BEGIN") {
        return None;
    }
    let column = usize::try_from(at.column).ok()?.max(1);
    let skipped = column.saturating_sub(SIDE);
    let line = without_password(line);
    let shown = line.chars().skip(skipped).take(2 * SIDE);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Some((shown.map(plain).collect::<String>().trim_end().into(), column - skipped))
}

/// The errors that were found so far while a plan is made.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// The number of findings that are about the content of files.
    of_files: usize,
}

impl Findings {
    /// Adds a finding about the key at `path`, with its place.
    pub(super) fn add(
        &mut self,
        path: impl Into<String>,
        at: Position,
        message: impl Into<String>,
    ) {
        self.list.push(Finding { path: path.into(), at: Some(at), message: message.into() });
    }

    pub(super) fn push(&mut self, finding: Finding) {
        self.list.push(finding);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// True if every finding is about the content of files; also true if there is none.
    pub(super) fn are_of_files(&self) -> bool {
        self.list.len() == self.of_files
    }

    /// Returns all findings in the order of their places in the document.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|finding| finding.at.map(|at| (at.line, at.column)));
        self.list
    }

    /// Begins a mapping of the document, whose keys are then read one by one.
    pub(super) fn section(&mut self, path: impl Into<String>) -> Section<'_> {
        Section { findings: self, path: path.into() }
    }
}

/// A mapping of the document that is being read, with its path and the findings that its errors are added to.
pub(super) struct Section<'a> {
    findings: &'a mut Findings,
    path: String,
}

impl Section<'_> {
    /// Reads a key's value. Returns the default if the key was left out or is wrong; an error is added to the findings.
    pub(super) fn value<K: Kind>(
        &mut self,
        key: &str,
        written: Option<&Written<K>>,
        default: K::Value,
    ) -> K::Value {
        self.written(key, written).unwrap_or(default)
    }

    /// Reads a key's value. Returns `None` if the key was left out or is wrong; an error is added to the findings.
    pub(super) fn written<K: Kind>(
        &mut self,
        key: &str,
        written: Option<&Written<K>>,
    ) -> Option<K::Value> {
        let written = written?;
        match written.read() {
            Ok(value) => Some(value),
            Err(message) => {
                self.findings.add(join(&self.path, key), written.at, message);
                None
            }
        }
    }

    /// Reads each element of a list; returns each value with its path and place. Wrong elements are left out and added
    /// to the findings.
    pub(super) fn list<K: Kind>(
        &mut self,
        key: &str,
        list: &[Written<K>],
    ) -> Vec<(K::Value, String, Position)> {
        let read = |(index, written): (usize, &Written<K>)| {
            let element = format!("{key}[{index}]");
            let value = self.written(&element, Some(written))?;
            Some((value, join(&self.path, &element), written.at))
        };
        list.iter().enumerate().filter_map(read).collect()
    }

    /// Returns the path of a key of this mapping; for an empty key, the path of the mapping itself.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Adds a finding that names its own path.
    pub(super) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Adds a finding about a key of this mapping.
    pub(super) fn add(&mut self, key: &str, at: Position, message: impl Into<String>) {
        self.findings.add(join(&self.path, key), at, message);
    }

    /// Adds a finding about the content of the file that a key names; see [`Errors::only_files`].
    pub(super) fn add_file(&mut self, key: &str, at: Position, message: impl Into<String>) {
        self.findings.of_files += 1;
        self.add(key, at, message);
    }

    /// Begins the mapping at a key of this one.
    pub(super) fn section(&mut self, key: &str) -> Section<'_> {
        self.findings.section(join(&self.path, key))
    }
}

/// Joins a path and a key below it with a dot; either may be empty.
pub(super) fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.into(),
        (path, "") => path.into(),
        (path, key) => format!("{path}.{key}"),
    }
}
