//! The routes of the two ports.

use std::{sync::Arc, time::Instant};

use axum::{
    Router,
    extract::{Query, State as Shared},
    http::{
        HeaderMap, HeaderName, HeaderValue, StatusCode,
        header::{
            CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY, X_FRAME_OPTIONS,
        },
    },
    middleware,
    response::{Html, IntoResponse, Response},
    routing::{get, post},
};
use tower::ServiceBuilder;
use tower_http::set_header::response::SetMultipleResponseHeadersLayer;

use super::{
    State,
    accept::accepts,
    acts, certificates,
    host::only_loopback,
    metrics as exposition,
    origin::only_own_page,
    page, plan, pools,
    readiness::{Readiness, Report},
    snapshot::Snapshot,
};
use crate::latest::Latest;

const METRICS_PORT: &str = "\
warmline: metrics and health
  /metrics    counters, gauges and histograms for Prometheus
  /livez      200 as long as the process answers
  /readyz     503 until warm connections are there, and in the drain; ?verbose shows each check
  /startupz   200 once every port is open
";

const ADMIN_PORT: &str = "\
warmline: administration
  /                           the page, for a browser
  /pools                      connections, handshakes and reuse of each upstream
  /certificates               each certificate with its end
  /plan                       the configuration in force
                              these three are text; ?format=json for programs
  POST /upstreams/NAME/flush  close its idle connections
  POST /upstreams/NAME/drain  replace every connection as soon as its exchange is over
  POST /reload                look at the files now
";

const JSON: &str = "application/json";
const NO_SNIFF: HeaderName = HeaderName::from_static("x-content-type-options");
const OWN_RESOURCE: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

type Parameters = Query<Vec<(String, String)>>;

/// Makes the routes of the port for metrics and health: `/metrics`, `/livez`, `/readyz`, `/startupz`, and an index at
/// `/`.
pub(super) fn metrics(state: Arc<State>) -> Router {
    let router = Router::new()
        .route("/metrics", get(exposed))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/startupz", get(startup));
    with_index(router, METRICS_PORT).with_state(state)
}

/// Makes the routes of that port while there is no configuration: alive, but neither started nor ready, for this
/// reason.
pub(super) fn waiting(reason: &Arc<Latest<String>>) -> Router {
    let answer = |path: &'static str| {
        let reason = Arc::clone(reason);
        get(move || async move { health(Readiness::waiting(path, &reason.get()), &[]) })
    };
    Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", answer("readyz"))
        .route("/startupz", answer("startupz"))
        .fallback(|| async {
            let text = "warmline: waiting for its configuration; /readyz says why\n";
            (StatusCode::SERVICE_UNAVAILABLE, text)
        })
}

/// Makes the routes of the administration port. Requests to a Host that is not loopback, and POST requests from another
/// page, get 403.
pub(super) fn admin(state: Arc<State>) -> Router {
    let asset = |content_type: &'static str, text: &'static str| {
        get(move || async move { ([(CONTENT_TYPE, content_type)], text) })
    };
    let router = Router::new()
        .route("/", get(front))
        .route("/page.css", asset("text/css; charset=utf-8", page::STYLE))
        .route("/page.js", asset("text/javascript; charset=utf-8", page::SCRIPT))
        .route("/icon.svg", asset("image/svg+xml", page::ICON))
        .route("/pools", get(pools_page))
        .route("/certificates", get(certificates_page))
        .route("/plan", get(plan_page))
        .route("/upstreams/{name}/flush", post(acts::flush))
        .route("/upstreams/{name}/drain", post(acts::drain))
        .route("/reload", post(acts::reload));
    let guards = ServiceBuilder::new()
        .layer(browser_guards())
        .layer(middleware::from_fn(only_loopback))
        .layer(middleware::from_fn(only_own_page));
    with_fallbacks(router, ADMIN_PORT).layer(guards).with_state(state)
}

fn with_index(router: Router<Arc<State>>, index: &'static str) -> Router<Arc<State>> {
    with_fallbacks(router.route("/", get(move || async move { index })), index)
}

/// Adds the answers to requests that no route takes: 404 with the port's index of paths, and 405 for a method that the
/// path does not have.
fn with_fallbacks(router: Router<Arc<State>>, index: &'static str) -> Router<Arc<State>> {
    let lost =
        move || async move { (StatusCode::NOT_FOUND, format!("no such path; this is {index}")) };
    let other_method = || async {
        let text =
            "warmline: not with this method; the Allow field names those that are served here\n";
        (StatusCode::METHOD_NOT_ALLOWED, text)
    };
    router.fallback(lost).method_not_allowed_fallback(other_method)
}

/// Makes the layer that adds the fields that protect a browser to every answer of the administration port. With a
/// stricter Referrer-Policy browsers would send the page's own forms with the Origin `null`.
fn browser_guards() -> SetMultipleResponseHeadersLayer<Response> {
    let fields = [
        (CONTENT_SECURITY_POLICY, page::POLICY),
        (X_FRAME_OPTIONS, "DENY"),
        (NO_SNIFF, "nosniff"),
        (OWN_RESOURCE, "same-origin"),
        (REFERRER_POLICY, "same-origin"),
        (CACHE_CONTROL, "no-store"),
    ];
    let fields = fields.map(|(name, value)| (name, HeaderValue::from_static(value)).into());
    SetMultipleResponseHeadersLayer::overriding(fields.into())
}

async fn front(Shared(state): Shared<Arc<State>>) -> Html<String> {
    Html(page::render(&Snapshot::take(&state, Instant::now())))
}

/// Answers with the text of a scrape, or with 500 and the reason if it cannot be made.
async fn exposed(Shared(state): Shared<Arc<State>>) -> Response {
    match exposition::render(&Snapshot::counts(&state, Instant::now())) {
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

/// Answers with the report. A failure always comes with its checks, a success only if `verbose` was asked for.
fn health(report: Report, parameters: &[(String, String)]) -> Response {
    if !report.good {
        (StatusCode::SERVICE_UNAVAILABLE, report.text).into_response()
    } else if value(parameters, "verbose").is_some() {
        report.text.into_response()
    } else {
        "ok\n".into_response()
    }
}

async fn pools_page(state: Shared<Arc<State>>, asked: Parameters, headers: HeaderMap) -> Response {
    either(&state, &asked, &headers, pools::json::render, pools::text::render)
}

/// Answers `/certificates`, as JSON or as text.
async fn certificates_page(
    state: Shared<Arc<State>>,
    asked: Parameters,
    headers: HeaderMap,
) -> Response {
    either(&state, &asked, &headers, certificates::json, certificates::text)
}

async fn plan_page(state: Shared<Arc<State>>, asked: Parameters, headers: HeaderMap) -> Response {
    either(&state, &asked, &headers, plan::json, plan::text)
}

/// Answers with the page as JSON or as text, as the parameter `format` or the Accept field asks.
fn either(
    state: &State,
    asked: &[(String, String)],
    headers: &HeaderMap,
    json: fn(&Snapshot) -> String,
    text: fn(&Snapshot) -> String,
) -> Response {
    let snapshot = Snapshot::take(state, Instant::now());
    match value(asked, "format") {
        Some("json") => typed(JSON, json(&snapshot)),
        None if accepts(headers, JSON) => typed(JSON, json(&snapshot)),
        None | Some("text") => text(&snapshot).into_response(),
        Some(_) => (StatusCode::BAD_REQUEST, "warmline: format is json or text\n").into_response(),
    }
}

fn value<'a>(parameters: &'a [(String, String)], name: &str) -> Option<&'a str> {
    parameters.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

fn typed(content_type: &'static str, body: String) -> Response {
    ([(CONTENT_TYPE, content_type)], body).into_response()
}
