//! `/plan`: the configuration in force, in the form in which users write it, with every default. No secret is shown: of
//! certificates and keys only the paths.

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    moment::Moment,
    snapshot::{Configuration, Snapshot},
};
use crate::config::{ShownPlan, SourceKind};

/// Renders the page as JSON, for programs: the configuration, its hash and source, and the changes that were refused
/// since.
pub(super) fn json(snapshot: &Snapshot) -> String {
    let page = serde_json::to_string_pretty(&Page::of(snapshot));
    page.unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string()) + "\n"
}

/// Renders the page as text, for people: the configuration as YAML, under a comment with hash, source and time.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let configuration = &snapshot.configuration;
    let since = Moment(configuration.in_force.since);
    format!("# {}, {}, since {since}\n{}", configuration.hash(), source(snapshot), yaml(snapshot))
}

/// Renders the configuration alone, as YAML.
pub(super) fn yaml(snapshot: &Snapshot) -> String {
    let plan = ShownPlan(&snapshot.configuration.in_force.plan);
    serde_yaml::to_string(&plan).unwrap_or_else(|error| format!("# {error}\n"))
}

/// Returns the source of the configuration, as part of a sentence.
pub(super) fn source(snapshot: &Snapshot) -> String {
    let Configuration { source, place, .. } = &snapshot.configuration;
    match (place, source) {
        (None, _) => "made by the program itself, follows no file".into(),
        (Some(place), SourceKind::Kept) => {
            format!("kept from before the last restart, for {place}")
        }
        (Some(place), SourceKind::File | SourceKind::Watch) => format!("from {place}"),
    }
}

#[derive(Serialize)]
struct Page<'a> {
    hash: &'a str,
    source: &'static str,
    place: Option<&'a str>,
    since: String,
    refused: Value,
    plan: ShownPlan<'a>,
}

impl<'a> Page<'a> {
    /// Takes the page's content from the snapshot: the configuration in force, and the refused changes since.
    fn of(snapshot: &'a Snapshot) -> Self {
        let configuration = &snapshot.configuration;
        Self {
            hash: configuration.hash(),
            source: configuration.source.as_str(),
            place: configuration.place.as_deref(),
            since: Moment(configuration.in_force.since).to_string(),
            refused: refused(snapshot),
            plan: ShownPlan(&configuration.in_force.plan),
        }
    }
}

/// Returns the later changes that cannot be used as JSON: `configuration` (null if none was refused) and `credentials`
/// (one entry for each group of files).
fn refused(snapshot: &Snapshot) -> Value {
    let refused = &snapshot.configuration.refused;
    let configuration = refused.configuration.as_ref().map(|refusal| {
        let since = Moment(refusal.since).to_string();
        json!({ "hash": refusal.hash, "reason": refusal.reason, "since": since })
    });
    let credentials = refused.credentials.iter().map(|(stale, since)| {
        let since = Moment(*since).to_string();
        json!({ "files": stale.files, "reason": stale.reason, "since": since })
    });
    json!({ "configuration": configuration, "credentials": credentials.collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
