//! The acts that operators can ask for, by POST only: to close an upstream's idle connections, to replace all its
//! connections, and to look at the files now. Each act is logged, and shown on the page.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use axum::{
    extract::{Path, State as Shared},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse as _, Redirect, Response},
};

use super::{LookOutcome, State, accept::accepts};
use crate::upstream::Upstream;

/// An act of an operator, and its outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Act {
    /// The act, as the request's path names it: `flush payments`.
    pub what: String,
    pub outcome: String,
}

/// Answers `POST /upstreams/NAME/flush`: closes the upstream's idle connections, and answers with their number; 404 if
/// no upstream has this name.
pub(super) async fn flush(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    on_upstream(&state, &name, "flush", &headers, |upstream| {
        let closed = upstream.pool().flush();
        format!("{} closed", connections(closed, "idle "))
    })
}

/// Answers `POST /upstreams/NAME/drain`: closes the upstream's idle connections now, and each of the others after its
/// exchange; answers with both numbers, or 404 if no upstream has this name.
pub(super) async fn drain(
    Shared(state): Shared<Arc<State>>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    on_upstream(&state, &name, "drain", &headers, |upstream| {
        let advanced = upstream.replace_connections(Instant::now());
        let (idle, in_use) = (advanced.idle_closed, advanced.in_use);
        let idle = connections(idle, "idle ");
        format!("{idle} closed, {in_use} in use to close after their exchange")
    })
}

/// Answers `POST /reload`: has the followed files read now, and waits for the outcome: 200 if the files' content is in
/// force (now, or already before), 422 if it was refused, 409 if this process follows no file.
pub(super) async fn reload(Shared(state): Shared<Arc<State>>, headers: HeaderMap) -> Response {
    let looked = match &state.follower {
        Some(follower) => follower.look().await,
        None => None,
    };
    let (status, outcome) = match looked {
        Some(LookOutcome::Applied) => {
            (StatusCode::OK, "applied: the changes are in force now".into())
        }
        Some(LookOutcome::Unchanged) => {
            (StatusCode::OK, "unchanged: what was read is in force already".into())
        }
        Some(LookOutcome::Refused(reason)) => {
            (StatusCode::UNPROCESSABLE_ENTITY, format!("refused, the old stays in force: {reason}"))
        }
        None => (
            StatusCode::CONFLICT,
            "this process follows no file: it was started without --config".into(),
        ),
    };
    done(&state, "reload".into(), status, outcome, &headers)
}

/// Performs an act on the upstream of this name, logs and notes the act, and answers with the text that `act` returns.
/// Answers 404 with the names of all upstreams if none has this name; then nothing is logged or noted.
fn on_upstream(
    state: &State,
    name: &str,
    verb: &str,
    headers: &HeaderMap,
    act: impl FnOnce(&Upstream) -> String,
) -> Response {
    let upstreams = state.upstreams.share();
    let observed = upstreams.iter().find(|observed| observed.upstream.name() == name);
    let Some(observed) = observed else {
        let names: Vec<_> = upstreams.iter().map(|observed| observed.upstream.name()).collect();
        let text = format!(
            "warmline: no upstream is called {name:?}; there are: {}\n",
            if names.is_empty() { "none".into() } else { names.join(", ") }
        );
        return (StatusCode::NOT_FOUND, text).into_response();
    };
    let outcome = act(&observed.upstream);
    done(state, format!("{verb} {name}"), StatusCode::OK, outcome, headers)
}

/// Logs the act with its outcome, notes it for the page, and answers. A browser is redirected to the page, which lists
/// the act; other clients get the status and the outcome as text.
fn done(
    state: &State,
    what: String,
    status: StatusCode,
    outcome: String,
    headers: &HeaderMap,
) -> Response {
    tracing::info!(act = what, outcome, "an operator asked by the administration port");
    let text = format!("{what}: {outcome}\n");
    state.acts.note(Act { what, outcome }, SystemTime::now());
    if accepts(headers, "text/html") {
        Redirect::to("/").into_response()
    } else {
        (status, text).into_response()
    }
}

fn connections(count: usize, kind: &str) -> String {
    format!("{count} {kind}connection{}", if count == 1 { "" } else { "s" })
}
