//! Parses the YAML text into the document, and turns the parser's errors into words that name the key and the remedy.

use std::{collections::HashMap, sync::LazyLock};

use serde_json::Value;
use serde_yaml::{
    DuplicateKeyPolicy, Error, MessageFormatter as _, Options, UserMessageFormatter,
    granit_parser::{self, Parser},
};

use super::{
    errors::{Errors, Finding, Findings},
    kind::quote,
    outline::{Outline, UnknownKey},
    quick,
    spec::Document,
    suggestion::remedy_for_key,
    written::{Placed, Position},
};

/// The document's start, used as the place of errors that have no place of their own.
pub(super) const START: Position = Position { line: 1, column: 1 };

/// Reads the document. Unknown keys and keys without a value are added to the findings, beside those of `compile`; of
/// structural errors only the first is returned.
///
/// A key without a value (null) does not mean the default, so that an empty template value cannot turn `trust` into the
/// system's roots.
pub(super) fn read(text: &str, findings: &mut Findings) -> Result<Document, Finding> {
    match quick::read(text) {
        Some(document) => Ok(document),
        None => read_thoroughly(text, findings),
    }
}

/// Reads the document in three passes: tags are refused, then the shape is compared with the schema, then the values
/// are read.
pub(super) fn read_thoroughly(text: &str, findings: &mut Findings) -> Result<Document, Finding> {
    refuse_tags(text)?;
    let outline = outline(text)?;
    let unknown = outline.unknown_keys(&SCHEMA);
    if let Some(other) = other_document(&unknown) {
        return Err(other);
    }
    for unknown in unknown {
        let message = remedy_for_key(unknown.key, &unknown.known);
        findings.add(unknown.path, unknown.at, message);
    }
    let document = serde_yaml::from_str_with_options(text, options(DuplicateKeyPolicy::Error))
        .map_err(|error| misshapen(&error, &outline, text))?;
    for (path, at) in outline.nulls() {
        findings.add(path, at, NOTHING);
    }
    Ok(document)
}

/// Returns the error for a text that is no configuration but what one is made of or packed into: the chart's values, or
/// an object of Kubernetes; else `None`. All its keys would be reported otherwise.
fn other_document(unknown: &[UnknownKey<'_>]) -> Option<Finding> {
    let find = |keys: &[&str]| unknown.iter().find(|unknown| keys.contains(&unknown.path.as_str()));
    let (found, message) = match (find(&["apiVersion", "kind"]), find(OF_VALUES)) {
        (Some(object), _) => (object, IS_OBJECT),
        (None, Some(values)) => (values, IS_VALUES),
        (None, None) => return None,
    };
    Some(Finding { path: found.path.clone(), at: Some(found.at), message: message.into() })
}

/// Keys that only the values of the chart `warmline-egress` have.
const OF_VALUES: &[&str] = &[
    "config",
    "configMap",
    "configMaps",
    "configSource",
    "podMonitor",
    "prometheusRule",
    "dashboard",
];
const IS_VALUES: &str = "this looks like values of the chart warmline-egress; what is read here is the `config.yaml` that the \
                         chart makes of them, which `helm template` prints";
const IS_OBJECT: &str = "this looks like an object of Kubernetes, such as a ConfigMap; what is read here is its `config.yaml`: \
                         write that to a file";

fn outline(text: &str) -> Result<Placed<Outline>, Finding> {
    serde_yaml::from_str_with_options(text, options(DuplicateKeyPolicy::LastWins))
        .map_err(|error| malformed(&error, text))
}

/// The place of each value of a document, by the value's path.
#[derive(Debug, Default)]
pub(super) struct Positions(HashMap<String, Position>);

/// Finds the place of each value in a text that was accepted; empty if the text cannot be parsed.
pub(super) fn places(text: &str) -> Positions {
    outline(text).map(|outline| Positions(outline.places())).unwrap_or_default()
}

/// Makes the errors of a text that was accepted and cannot be put in force all the same, from the path of each key and
/// what is wrong with it; never empty.
pub fn errors_at(
    source: &str,
    text: &str,
    keys: impl IntoIterator<Item = (String, String)>,
) -> Errors {
    let places = places(text);
    let findings = keys.into_iter().map(|(path, message)| {
        let at = Some(places.nearest(&path));
        Finding { path, at, message }
    });
    Errors::new(source, text, findings.collect())
}

impl Positions {
    /// Returns the place of the value at a path. If the value is not written, returns the place of the nearest mapping
    /// or list around it.
    pub(super) fn nearest<'p>(&self, path: &'p str) -> Position {
        let around = |path: &&'p str| path.rfind(['.', '[']).map(|end| &path[..end]);
        let mut paths = std::iter::successors(Some(path), around);
        paths.find_map(|path| self.0.get(path)).copied().unwrap_or(START)
    }
}

/// Refuses the first tag, also a standard one: `!!binary` would be decoded, and `!!str` or `!!int` changes how a value
/// is read.
///
/// Syntax errors before the tag are ignored here, because the next pass finds and reports them.
fn refuse_tags(text: &str) -> Result<(), Finding> {
    let parser_options = granit_parser::options! { emit_comments: false };
    let events = Parser::new_from_str_with_options(text, parser_options);
    let tagged = events.map_while(Result::ok).find_map(|(event, span)| {
        let start = span.tag_start().unwrap_or(span.start);
        event.tag().map(|tag| (tag.original(), start))
    });
    tagged.map_or(Ok(()), |(tag, start)| {
        let at = Position { line: start.line() as u64, column: start.col() as u64 + 1 };
        Err(Finding { path: String::new(), at: Some(at), message: tag_refused(&tag) })
    })
}

/// Returns the text of the finding about this tag, with the remedy.
fn tag_refused(tag: &str) -> String {
    format!(
        "the tag {} is not read here; write the key or value alone, without a tag (text that begins with ! needs quotes)",
        quote(tag)
    )
}

/// The JSON Schema, made once: every configuration's keys are compared with it.
static SCHEMA: LazyLock<Value> = LazyLock::new(super::schema);

const NOTHING: &str = "nothing is written here; write a value, or remove the key";

/// Returns the parser's options. Their bounds are above what an honest document of a megabyte needs: aliases can make a
/// small text large, and nesting uses stack.
fn options(duplicate_keys: DuplicateKeyPolicy) -> Options {
    serde_yaml::options! {
        duplicate_keys: duplicate_keys,
        reject_unsupported_tags: true,
        with_snippet: false,
        emit_comments: false,
        budget: serde_yaml::budget! { max_depth: 16, flow_nesting_limit: 64, max_events: 500_000 },
        alias_limits: serde_yaml::alias_limits! {
            max_total_replayed_events: 50_000,
            max_replay_stack_depth: 8,
        },
    }
}

/// Describes an error in the YAML itself, or a use of YAML that is refused here, such as a second document.
fn malformed(error: &Error, text: &str) -> Finding {
    let at = place(error);
    if let Some(message) = foreign_syntax(text, at) {
        return Finding { path: String::new(), at: Some(at), message: message.into() };
    }
    let message = match innermost(error) {
        Error::UnknownAnchor { .. } => "an unquoted * begins a YAML alias, and no anchor has this \
                                        name; write \"*\" for the asterisk"
            .into(),
        Error::Budget { .. } | Error::AliasReplayLimitExceeded { .. } => {
            "the document is too large, too deep, or its aliases make it so; write it out plainly"
                .into()
        }
        Error::UnsupportedTag { tag, .. } => tag_refused(tag),
        Error::MultipleDocuments { .. } => {
            "a second document begins here; write one, without `---`".into()
        }
        Error::Unexpected { .. } => syntax("a list or mapping is in the place of a key"),
        other => syntax(&UserMessageFormatter.format_message(other)),
    };
    Finding { path: String::new(), at: Some(at), message }
}

/// Returns the error for the line at this position if it has a tab in its indentation, or a template's `{{ }}`; `None`
/// for other lines.
fn foreign_syntax(text: &str, at: Position) -> Option<&'static str> {
    let line = text.lines().nth(usize::try_from(at.line).ok()?.checked_sub(1)?)?;
    let indentation = &line[..line.len() - line.trim_start().len()];
    if indentation.contains('\t') {
        Some("a tab indents this line, which YAML does not allow; write spaces")
    } else if line.contains("{{") && line.contains("}}") {
        Some(
            "this is a template that was not rendered; write what comes of it, such as by `helm template`",
        )
    } else {
        None
    }
}

/// Describes an error in a text that is valid YAML, but whose keys and shapes are not the document's.
fn misshapen(error: &Error, outline: &Placed<Outline>, text: &str) -> Finding {
    let at = place(error);
    let (path, message) = match innermost(error) {
        Error::DuplicateMappingKey { key, .. } => {
            (outline.path_of_key(at), duplicate(key.as_deref()))
        }
        Error::Unexpected { expected, .. } => wrong_shape(expected, outline.value_at(at)),
        Error::NullIntoString { .. } => (outline.null_at(at), NOTHING.into()),
        _ => {
            let Finding { message, .. } = malformed(error, text);
            (outline.value_at(at).map(|(path, _)| path), message)
        }
    };
    Finding { path: path.unwrap_or_default(), at: Some(at), message }
}

/// Returns the error without the layers that the parser wraps around it.
fn innermost(error: &Error) -> &Error {
    match error {
        Error::WithSnippet { error, .. } | Error::AliasError { error, .. } => innermost(error),
        other => other,
    }
}

fn place(error: &Error) -> Position {
    error.location().map(Position::from).filter(|at| at.line > 0).unwrap_or(START)
}

fn duplicate(key: Option<&str>) -> String {
    let key = key.map(quote).unwrap_or_default();
    format!("the key {key} is written twice; keep one of them")
}

/// Returns the path and the message for a value of the wrong shape; `expected` is the parser's `mapping start`,
/// `sequence start` or `string scalar`.
fn wrong_shape(expected: &str, found: Option<(String, &'static str)>) -> (Option<String>, String) {
    let right = match expected {
        "mapping start" => "a mapping: keys with values, such as `key: value`",
        "sequence start" => "a list, such as `[a, b]`",
        _ => "a single value",
    };
    match found {
        Some((path, shape)) => (Some(path), format!("this is {shape}; write {right}")),
        None => (None, format!("this has another shape; write {right}")),
    }
}

/// Returns the message for text that is not valid YAML: the parser's words, at most 300 characters, with a remedy.
fn syntax(said: &str) -> String {
    let said: String = said.chars().filter(|c| !c.is_control()).take(300).collect();
    format!(
        "not valid YAML: {said}; check indentation, brackets and quotes (an address such as \
         \"[::1]:13301\", and any value that begins with * & ! @ %, needs quotes)"
    )
}
