//! Intent: what users write (`spec`), and the validated, immutable plan that comes of it.
//!
//! The way: text → `document` (structure, the first error alone) → `compile` (meaning, all errors
//! at once) → [`Plan`].

mod compile;
pub mod configmap;
mod credentials;
mod defaults;
mod digests;
mod document;
mod errors;
mod kept;
mod kind;
mod lead;
mod name;
mod outline;
mod plan;
mod quick;
mod source;
mod spec;
mod standing;
mod suggestion;
mod warnings;
mod written;

use serde_json::Value;

pub use credentials::{Credentials, IdentityFiles, Stale};
pub use digests::Digests;
pub use errors::{Errors, Finding};
pub use kept::Kept;
pub use plan::{Bind, Listener, ListenerLimits, Plan};
pub use source::{Disk, Files, Found, Loaded, Origin, Source, Terms, Unusable};
pub use standing::{InForce, Outcome, Refusal, Refused, Standing};
pub use warnings::{expired_trust, unread_roots, warnings};
pub use written::Position;

use crate::tls;
use errors::Findings;

/// What a compilation needs besides the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What messages call the text: its file, usually.
    pub source: &'a str,
    /// Whether the log goes to a terminal: it is text there by default, and every request gets a
    /// line.
    pub terminal: bool,
    /// Reads certificates and keys.
    pub files: &'a dyn Files,
    /// When: a client certificate must be valid now.
    pub now: std::time::SystemTime,
    /// What is in force: where a file cannot be used, what came from it before stays.
    pub in_force: Option<&'a Credentials>,
    /// Whoever writes it may use this process's identity, but neither open it to others nor have it read files that are
    /// not its own (`warmline run --confined`).
    pub confined: bool,
}

/// Where metrics and health are bound unless a configuration says otherwise.
#[must_use]
pub fn default_metrics() -> Vec<Bind> {
    defaults::binds(defaults::METRICS_BIND)
}

/// Makes a plan of a text, or says everything that is wrong with it.
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

/// A complete configuration that this version accepts, with every default written out.
#[must_use]
pub const fn example() -> &'static str {
    include_str!("example.yaml")
}

/// The first 16 hexadecimal digits of the text's SHA-256.
#[must_use]
pub fn hash(text: &str) -> String {
    let first = tls::sha256(text.as_bytes()).first_chunk().copied().map(u64::from_be_bytes);
    format!("{:016x}", first.unwrap_or_default())
}

/// The JSON Schema (draft 2020-12) of the document.
#[must_use]
pub fn schema() -> Value {
    let settings = schemars::generate::SchemaSettings::draft2020_12().for_deserialize();
    let mut schema = settings.into_generator().into_root_schema_for::<spec::Document>().to_value();
    refuse_null(&mut schema);
    schema
}

/// A key may be left out, but null is refused; schemars takes the one for the other.
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

/// Every path at which the schema knows a key.
fn places_of(key: &str) -> Vec<String> {
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
