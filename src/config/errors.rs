//! What is wrong with a configuration, and where.

use std::fmt;

use super::written::{Kind, Position, Written};

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The key, such as `upstreams[0].pool.maxIdle`; empty for the whole document.
    pub path: String,
    /// Its place; `None` where there is no text.
    pub at: Option<Position>,
    /// What is wrong, and after a semicolon what would be right.
    pub message: String,
}

/// Everything that is wrong with one configuration; never empty.
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

    /// A configuration that cannot even be read.
    pub(super) fn unreadable(source: &str, message: String) -> Self {
        Self::new(source, "", vec![Finding { path: String::new(), at: None, message }])
    }

    /// The text is right if these files are: says whether that is so.
    pub(super) fn of_files(self, only_files: bool) -> Self {
        Self { only_files, ..self }
    }

    /// Whether nothing is wrong but certificates, keys and trust: they may come, or get well, without another text.
    #[must_use]
    pub const fn only_files(&self) -> bool {
        self.only_files
    }

    /// Each of them, in the order in which they were found.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }
}

impl std::error::Error for Errors {}

/// More than a screen full helps nobody.
const SHOWN: usize = 20;

impl fmt::Display for Errors {
    /// Each as `FILE:LINE:COLUMN: PATH: what is wrong; what would be right`, then its line with a
    /// caret.
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

/// A line of the text around a place, and the caret's column in it. Nothing of a text that holds
/// PEM, which may be a key.
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
    let shown = line.chars().skip(skipped).take(2 * SIDE);
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    Some((shown.map(plain).collect::<String>().trim_end().into(), column - skipped))
}

/// Collects what is wrong while a plan is made.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    /// How many of them are about the content of files.
    of_files: usize,
}

impl Findings {
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

    /// Whether there is nothing wrong but the content of files.
    pub(super) fn are_of_files(&self) -> bool {
        self.list.len() == self.of_files
    }

    /// All of them, in the document's order.
    pub(super) fn into_sorted(mut self) -> Vec<Finding> {
        self.list.sort_by_key(|finding| finding.at.map(|at| (at.line, at.column)));
        self.list
    }

    /// A mapping of the document, whose keys are read one by one.
    pub(super) fn section(&mut self, path: impl Into<String>) -> Section<'_> {
        Section { findings: self, path: path.into() }
    }
}

/// A mapping of the document, whose keys are read one by one.
pub(super) struct Section<'a> {
    findings: &'a mut Findings,
    path: String,
}

impl Section<'_> {
    /// A key's value; where it was left out or is wrong, the default.
    pub(super) fn value<K: Kind>(
        &mut self,
        key: &str,
        written: Option<&Written<K>>,
        default: K::Value,
    ) -> K::Value {
        self.written(key, written).unwrap_or(default)
    }

    /// A key's value; `None` where it was left out or is wrong.
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

    /// Each element of a list, with its own path and place; those that are wrong are left out.
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

    /// The path of a key of this mapping; of the mapping itself for the empty key.
    pub(super) fn path(&self, key: &str) -> String {
        join(&self.path, key)
    }

    /// Says what was found elsewhere.
    pub(super) fn push(&mut self, finding: Finding) {
        self.findings.push(finding);
    }

    /// Says that a key is wrong.
    pub(super) fn add(&mut self, key: &str, at: Position, message: impl Into<String>) {
        self.findings.add(join(&self.path, key), at, message);
    }

    /// Says that the file that a key names cannot be used.
    pub(super) fn add_file(&mut self, key: &str, at: Position, message: impl Into<String>) {
        self.findings.of_files += 1;
        self.add(key, at, message);
    }

    /// A mapping below this one.
    pub(super) fn section(&mut self, key: &str) -> Section<'_> {
        self.findings.section(join(&self.path, key))
    }
}

/// A path and a key below it.
pub(super) fn join(path: &str, key: &str) -> String {
    match (path, key) {
        ("", key) => key.into(),
        (path, "") => path.into(),
        (path, key) => format!("{path}.{key}"),
    }
}
