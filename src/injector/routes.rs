//! The routes of the two ports: reviews on one, health and metrics on the other.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    http::{
        StatusCode,
        header::{CONTENT_LENGTH, CONTENT_TYPE},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use tokio::{
    sync::{Semaphore, SemaphorePermit},
    time::timeout,
};

use super::{
    readiness::Readiness,
    review::{self, Outcome, Reviewed},
    sidecar::Settings,
};

/// The path that the API server sends reviews to.
const PATH: &str = "/mutate";
/// The largest body of a review, in bytes. The API server itself accepts objects of at most 3 MiB.
const LARGEST: usize = 4 * 1024 * 1024;
/// The bytes of all large bodies together that may be read or judged at the same time.
const ALL_BODIES: usize = 4 * LARGEST;
/// The largest body, in bytes, that does not count towards `ALL_BODIES`. Nearly all reviews are that small, so that
/// large reviews hold up none of them.
const SMALL: usize = 64 * 1024;
/// The time limit for a body to arrive, and for a large body to wait for others. The API server waits 5 s for its
/// answer.
const PATIENCE: Duration = Duration::from_secs(3);

const INDEX: &str = "\
warmline injector: metrics and health
  /metrics    for Prometheus
  /livez      200 as long as the process answers
  /readyz     503 until pods can be reviewed, and during the end; ?verbose shows each check
";

/// The state that the review handler needs.
pub(super) struct ReviewState {
    pub(super) readiness: Arc<Readiness>,
    pub(super) settings: Settings,
    room: Semaphore,
}

impl ReviewState {
    pub(super) fn new(readiness: Arc<Readiness>, settings: Settings) -> Arc<Self> {
        Arc::new(Self { readiness, settings, room: Semaphore::new(ALL_BODIES) })
    }
}

/// The reason that a review gets no answer.
enum ReviewError {
    TooLarge,
    TooSlow,
    Busy,
    BodyBroken,
    NotAReview(review::NotAReview),
}

/// Makes the routes of the webhook's port.
pub(super) fn webhook(state: Arc<ReviewState>) -> Router {
    let lost = || async { (StatusCode::NOT_FOUND, "warmline injector: reviews come to /mutate\n") };
    Router::new().route(PATH, post(reviewed)).fallback(lost).with_state(state)
}

/// Makes the routes of the port for metrics and health: `/metrics`, `/livez`, `/readyz`, and an index at `/`.
pub(super) fn health(readiness: Arc<Readiness>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/livez", get(|| async { "ok\n" }))
        .route("/readyz", get(ready))
        .route("/", get(|| async { INDEX }))
        .fallback(|| async { (StatusCode::NOT_FOUND, INDEX) })
        .with_state(readiness)
}

/// Answers a request to `/mutate` with the answer to its review, and counts and logs the review. A request that is not
/// a review, is too large or too slow, or finds no room gets an error status with the reason.
async fn reviewed(State(state): State<Arc<ReviewState>>, request: Request) -> Response {
    let outcome = async {
        let (_place, body) = receive(&state.room, request).await?;
        let begun = Instant::now();
        let reviewed = review::answer(&body, &state.settings).map_err(ReviewError::NotAReview)?;
        state.readiness.reviewed(reviewed.result, begun.elapsed());
        Ok(reviewed)
    };
    match outcome.await {
        Ok(reviewed) => {
            log_review(&reviewed);
            ([(CONTENT_TYPE, "application/json")], reviewed.answer).into_response()
        }
        Err(refused) => {
            state.readiness.refused();
            let refused: ReviewError = refused;
            let (status, why) = refused.status_and_reason();
            tracing::warn!(status = status.as_u16(), reason = %why, "a review cannot be answered");
            (status, format!("warmline injector: {why}\n")).into_response()
        }
    }
}

/// Logs the outcome of a review: as a warning if the pod asked for a sidecar and gets none, else as information.
fn log_review(reviewed: &Reviewed) {
    let Reviewed { namespace, pod, reason, dry_run, .. } = reviewed;
    let result = reviewed.result.name();
    match reviewed.result {
        Outcome::Injected | Outcome::LeftAlone => {
            tracing::info!(result, %namespace, %pod, dry_run, %reason, "a pod is reviewed");
        }
        Outcome::Skipped | Outcome::Denied => {
            tracing::warn!(result, %namespace, %pod, dry_run, %reason, "a pod is reviewed");
        }
    }
}

/// Reads the whole body within all bounds. A large body comes with a semaphore permit for its bytes, which the caller
/// holds until the review is judged. Fails if the body is too large, does not arrive or find room within 3 s, or breaks
/// off.
async fn receive(
    room: &Semaphore,
    request: Request,
) -> Result<(Option<SemaphorePermit<'_>>, Bytes), ReviewError> {
    let declared = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok());
    let declared = declared.and_then(|length| length.parse().ok()).unwrap_or(LARGEST);
    if declared > LARGEST {
        discard(request.into_body()).await;
        return Err(ReviewError::TooLarge);
    }
    let place = if declared > SMALL { Some(place(room, declared).await?) } else { None };
    let mut body = request.into_body();
    let read = timeout(PATIENCE, Limited::new(&mut body, LARGEST).collect()).await;
    match read {
        Ok(Ok(body)) => Ok((place, body.to_bytes())),
        Ok(Err(error)) if error.is::<LengthLimitError>() => {
            discard(body).await;
            Err(ReviewError::TooLarge)
        }
        Ok(Err(_)) => Err(ReviewError::BodyBroken),
        Err(_) => Err(ReviewError::TooSlow),
    }
}

async fn place(room: &Semaphore, bytes: usize) -> Result<SemaphorePermit<'_>, ReviewError> {
    let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
    let place = timeout(PATIENCE, room.acquire_many(bytes)).await;
    place.ok().and_then(Result::ok).ok_or(ReviewError::Busy)
}

/// Reads and drops the rest of a body that is too large, up to four times the limit: a client that is still writing
/// would not read the answer.
async fn discard(body: Body) {
    let mut body = Limited::new(body, 4 * LARGEST);
    let _ = timeout(PATIENCE, async { while let Some(Ok(_)) = body.frame().await {} }).await;
}

impl ReviewError {
    /// Returns the status and the reason of the answer to a request whose review gets none.
    fn status_and_reason(&self) -> (StatusCode, String) {
        let (status, text) = match self {
            Self::TooLarge => (
                StatusCode::PAYLOAD_TOO_LARGE,
                format!("a review of more than {} MiB is not read", LARGEST / 1024 / 1024),
            ),
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                format!("the review's body did not come within {} s", PATIENCE.as_secs()),
            ),
            Self::Busy => {
                (StatusCode::SERVICE_UNAVAILABLE, "too many reviews at once; try again".into())
            }
            Self::BodyBroken => (StatusCode::BAD_REQUEST, "the review's body broke off".into()),
            Self::NotAReview(error) => (StatusCode::BAD_REQUEST, error.to_string()),
        };
        (status, text)
    }
}

/// Answers `/readyz`: 503 with all checks if one fails, else 200, with the checks if the query begins with `verbose`.
async fn ready(State(readiness): State<Arc<Readiness>>, request: Request) -> Response {
    let (text, good) = readiness.checks(SystemTime::now());
    if !good {
        (StatusCode::SERVICE_UNAVAILABLE, text).into_response()
    } else if request.uri().query().is_some_and(|query| query.starts_with("verbose")) {
        text.into_response()
    } else {
        "ok\n".into_response()
    }
}

/// Answers with the text of a scrape, or with 500 and the reason if it cannot be made.
async fn metrics(State(readiness): State<Arc<Readiness>>) -> Response {
    match readiness.metrics() {
        Ok(text) => ([(CONTENT_TYPE, prometheus::TEXT_FORMAT)], text).into_response(),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")).into_response(),
    }
}
