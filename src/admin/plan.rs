//! `/plan`: the configuration in force, in the form in which users write it, with every default. No secret is shown: of
//! certificates and keys only the paths.

use std::fmt::Write as _;

use serde::Serialize;
use serde_json::{Value, json};

use super::{
    moment::Moment,
    refused,
    snapshot::{Configuration, Snapshot},
};
use crate::config::{ShownPlan, SourceKind};

/// Renders the page as JSON, for programs: the configuration, its hash and source, and the changes that were refused
/// since.
pub(super) fn json(snapshot: &Snapshot) -> String {
    let page = serde_json::to_string_pretty(&Page::of(snapshot));
    page.unwrap_or_else(|error| json!({ "error": error.to_string() }).to_string()) + "\n"
}

/// Renders the page as text, for people: the configuration as YAML, under comments with hash, source and time, and with
/// the changes that were refused since.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let configuration = &snapshot.configuration;
    let since = Moment(configuration.in_force.since);
    let mut page = format!("# {}, {}, since {since}\n", configuration.hash(), source(snapshot));
    for line in refused::text(snapshot).lines() {
        let _ = writeln!(page, "# {line}");
    }
    page + &yaml(snapshot)
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
            refused: refused::json(snapshot),
            plan: ShownPlan(&configuration.in_force.plan),
        }
    }
}

#[cfg(test)]
mod tests;
