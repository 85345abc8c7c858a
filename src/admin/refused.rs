//! The changes that were refused and not replaced since, in the form of each page.

use std::{fmt::Write as _, time::SystemTime};

use serde_json::{Value, json};

use super::{
    moment::{Moment, Span},
    on_one_line,
    readiness::Remarks,
    snapshot::Snapshot,
};
use crate::config::RefusedChanges;

/// Returns a line for each refused change, with since when and why; empty if there is none. The lines of a reason after
/// its first are indented.
pub(super) fn text(snapshot: &Snapshot) -> String {
    let RefusedChanges { configuration, credentials } = &snapshot.configuration.refused;
    let configuration = configuration.iter().map(|refusal| (&refusal.reason, refusal.since));
    let credentials = credentials.iter().map(|(stale, since)| (&stale.reason, *since));
    let mut text = String::new();
    for (reason, since) in configuration.chain(credentials) {
        let lines: Vec<_> = reason.lines().map(on_one_line).collect();
        let (at, span) = (Moment(since), Span::between(since, snapshot.at));
        let _ = writeln!(text, "REFUSED since {at} ({span}): {}", lines.join("\n  "));
    }
    text
}

/// Returns the refused changes for programs: `configuration` (null if none was refused) and `credentials` (one entry
/// for each group of files).
pub(super) fn json(snapshot: &Snapshot) -> Value {
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

/// Returns the remarks of `/readyz` about refused changes. Reasons are left out: kubelets record this text, and reasons
/// are long.
pub(super) fn remarks(refused: &RefusedChanges) -> Remarks {
    let newer = |what: &str, since: SystemTime| {
        let since = Moment(since);
        format!("{what} refused since {since}; the page, /pools and the log say why")
    };
    let first = refused.credentials.iter().map(|(_, since)| *since).min();
    Remarks {
        configuration: refused.configuration.as_ref().map(|r| newer("a newer one is", r.since)),
        credentials: first.map(|since| newer("changed files are", since)),
    }
}
