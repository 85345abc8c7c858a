//! The configuration: the document that users write (`spec`), and the validated, immutable [`Plan`] that is made from
//! it ("Configuration" in docs/design.md).
//!
//! The way: text → `document` (structure; only the first error is reported) → `compile` (meaning; all errors are
//! reported together) → [`Plan`].

mod compile;
pub mod configmap;
mod credentials;
mod digests;
mod document;
mod errors;
mod files;
mod kept;
mod kind;
mod lead;
mod name;
mod outline;
mod plan;
mod quick;
mod section;
mod shown;
mod source;
mod source_kind;
mod spec;
mod status;
mod suggestion;
mod warnings;
mod written;

use serde_json::Value;

pub use credentials::{Credentials, IdentityFiles, UnusableFiles};
pub use digests::Digests;
pub use document::errors_at;
pub use errors::{Errors, Finding};
pub use files::{Disk, Files};
pub use kept::KeptConfiguration;
pub use plan::{Bind, Listener, ListenerLimits, Plan};
pub(crate) use shown::ShownPlan;
pub use source::{CommandLineOverrides, Loaded, Source, SourceReading, Unusable};
pub use source_kind::SourceKind;
pub use status::{ConfigurationStatus, InForce, Outcome, Refusal, RefusedChanges};
pub use warnings::{expired_trust, unread_roots, warnings};
pub use written::Position;

use crate::tls;
use errors::Findings;

/// The inputs of a compilation besides the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The name of the text in messages, usually its file's path.
    pub source: &'a str,
    /// True if the log goes to a terminal: then its defaults are text instead of JSON, and an access line for every
    /// request.
    pub terminal: bool,
    /// The source of certificates and keys: the file system, or memory in the demo and in tests.
    pub files: &'a dyn Files,
    /// The time of the compilation, at which client certificates must be valid.
    pub now: std::time::SystemTime,
    /// The certificates and keys in force. If a file cannot be used, what was read from the same file before stays;
    /// `None` at the start.
    pub in_force: Option<&'a Credentials>,
    /// True under `warmline run --confined`: the configuration may use this process's identity, but may neither bind
    /// addresses that others can reach nor have the process read files outside `/etc/warmline`.
    pub confined: bool,
}

impl<'a> Context<'a> {
    /// Returns the inputs of a first compilation, whose log does not go to a terminal and which is not confined.
    #[must_use]
    pub fn new(source: &'a str, files: &'a dyn Files, now: std::time::SystemTime) -> Self {
        Self { source, terminal: false, files, now, in_force: None, confined: false }
    }
}

/// Returns the addresses that metrics and health are bound to if the configuration names none.
#[must_use]
pub fn default_metrics() -> Vec<Bind> {
    plan::default_binds(plan::METRICS_BIND)
}

/// Makes a plan from a text, or returns everything that is wrong with the text.
pub fn compile(text: &str, context: &Context<'_>) -> Result<Plan, Errors> {
    let mut findings = Findings::default();
    let document = match document::read(text, &mut findings) {
        Ok(document) => document,
        Err(structure) => {
            findings.push(structure);
            return Err(Errors::new(context.source, text, findings.into_sorted()));
        }
    };
    match compile::plan(&document, context, &mut findings) {
        Some(plan) if findings.is_empty() => Ok(plan),
        _ => {
            let only_files = findings.are_of_files();
            Err(Errors::new(context.source, text, findings.into_sorted()).of_files(only_files))
        }
    }
}

/// Returns a complete configuration that this version accepts, with every default written out (`check --example`).
#[must_use]
pub const fn example() -> &'static str {
    include_str!("example.yaml")
}

/// Returns the first 16 hexadecimal digits of the text's SHA-256, by which people and metrics tell configurations
/// apart.
#[must_use]
pub fn hash(text: &str) -> String {
    let first = tls::sha256(text.as_bytes()).first_chunk().copied().map(u64::from_be_bytes);
    format!("{:016x}", first.unwrap_or_default())
}

/// Returns the JSON Schema (draft 2020-12) of the document (`check --schema`).
#[must_use]
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<spec::Document>().to_value();
    refuse_null(&mut schema);
    schema
}

/// Removes null from the schema's types and choices: schemars allows null for every optional key, but the document may
/// only leave a key out.
fn refuse_null(schema: &mut Value) {
    for key in ["type", "enum"] {
        let Some(Value::Array(choices)) = schema.get_mut(key) else { continue };
        choices.retain(|choice| !choice.is_null() && choice != "null");
        if let ("type", [only]) = (key, choices.as_slice()) {
            schema[key] = only.clone();
        }
    }
    for below in schema
        .get_mut("properties")
        .and_then(Value::as_object_mut)
        .into_iter()
        .flat_map(|map| map.values_mut())
    {
        refuse_null(below);
    }
    if let Some(items) = schema.get_mut("items") {
        refuse_null(items);
    }
}

/// Returns every path at which the schema knows a key, such as `upstreams[].pool.maxIdle`.
fn places_of(key: &str) -> Vec<String> {
    /// Adds the path of every `key` in the part of the schema at `path` to `places`.
    fn walk(schema: &Value, path: &str, key: &str, places: &mut Vec<String>) {
        if let Some(items) = schema.get("items") {
            walk(items, &format!("{path}[]"), key, places);
        }
        for (name, below) in
            schema.get("properties").and_then(Value::as_object).into_iter().flatten()
        {
            let path = errors::join(path, name);
            if name == key {
                places.push(path.clone());
            }
            walk(below, &path, key, places);
        }
    }
    let mut places = Vec::new();
    walk(&schema(), "", key, &mut places);
    places
}
