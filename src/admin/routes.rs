//! What the two ports answer.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Query, State as Shared},
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    middleware,
    response::{IntoResponse, Response},
    routing::get,
};

use super::{
    State, host::only_loopback, metrics as exposition, pools, readiness::Report, snapshot::Snapshot,
};

const METRICS_PORT: &str = "\
warmline: metrics and health
  /metrics    counters, gauges and histograms for Prometheus
  /livez      200 as long as the process answers
  /readyz     503 until the start is over and during the drain; ?verbose shows each check
  /startupz   200 once the start is over
";

const ADMIN_PORT: &str = "\
warmline: administration
  /pools      connections, handshakes and reuse of each upstream; ?format=json for programs
";

const JSON: &str = "application/json";

type Parameters = Query<Vec<(String, String)>>;

/// The port for metrics and health.
pub(super) fn metrics(state: Arc<State>) -> Router {
    let router = Router::new()
        .route("/metrics", get(exposed))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/startupz", get(startup));
    with_index(router, METRICS_PORT).with_state(state)
}

/// The port for administration.
pub(super) fn admin(state: Arc<State>) -> Router {
    let router = Router::new().route("/pools", get(pools_page));
    with_index(router, ADMIN_PORT).layer(middleware::from_fn(only_loopback)).with_state(state)
}

fn with_index(router: Router<Arc<State>>, index: &'static str) -> Router<Arc<State>> {
    let lost =
        move || async move { (StatusCode::NOT_FOUND, format!("no such path; this is {index}")) };
    let reading_only = || async {
        (StatusCode::METHOD_NOT_ALLOWED, "warmline: only GET and HEAD are served here\n")
    };
    router
        .route("/", get(move || async move { index }))
        .fallback(lost)
        .method_not_allowed_fallback(reading_only)
}

async fn exposed(Shared(state): Shared<Arc<State>>) -> Response {
    match exposition::render(&Snapshot::take(&state, Instant::now())) {
        Ok(text) => typed(exposition::CONTENT_TYPE, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}

async fn ready(Shared(state): Shared<Arc<State>>, Query(parameters): Parameters) -> Response {
    health(state.ready(Instant::now()), &parameters)
}

async fn startup(Shared(state): Shared<Arc<State>>, Query(parameters): Parameters) -> Response {
    health(state.readiness.startup(), &parameters)
}

/// A failure says why without being asked.
fn health(report: Report, parameters: &[(String, String)]) -> Response {
    if !report.good {
        (StatusCode::SERVICE_UNAVAILABLE, report.text).into_response()
    } else if value(parameters, "verbose").is_some() {
        report.text.into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn pools_page(
    Shared(state): Shared<Arc<State>>,
    Query(parameters): Parameters,
    headers: HeaderMap,
) -> Response {
    let snapshot = Snapshot::take(&state, Instant::now());
    match value(&parameters, "format") {
        Some("json") => typed(JSON, pools::json::render(&snapshot)),
        None if accepts_json(&headers) => typed(JSON, pools::json::render(&snapshot)),
        None | Some("text") => pools::text::render(&snapshot).into_response(),
        Some(_) => (StatusCode::BAD_REQUEST, "warmline: format is json or text\n").into_response(),
    }
}

fn accepts_json(headers: &HeaderMap) -> bool {
    let mut accepted = headers.get_all(ACCEPT).iter().filter_map(|accept| accept.to_str().ok());
    accepted.any(|accept| accept.contains(JSON))
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn typed(content_type: &'static str, body: String) -> Response {
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
