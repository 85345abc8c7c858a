//! The API server's protocol: an `AdmissionReview` of `admission.k8s.io/v1` in, its answer out.
//!
//! Only the fields that the answer needs are parsed. The pod in the review is passed on as JSON.

use k8s_openapi::ByteString;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    decision::{Decision, decide},
    pod::Pod,
    sidecar::Settings,
};

/// An answered review, with the facts about it that the log and the metrics need.
#[derive(Debug)]
pub(super) struct Reviewed {
    /// The `AdmissionReview` to send back, in JSON.
    pub(super) answer: Vec<u8>,
    pub(super) result: Outcome,
    /// The reason for the outcome, for people; empty if the pod was injected.
    pub(super) reason: String,
    pub(super) namespace: String,
    /// The pod's name, or the prefix that its name will be generated from; empty if it has neither.
    pub(super) pod: String,
    pub(super) dry_run: bool,
}

/// The outcome of a review.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    Injected,
    LeftAlone,
    Skipped,
    Denied,
}

/// A request body that is not a review that can be answered.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAReview {
    #[error("the body is not an AdmissionReview in JSON: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the body is of another kind: an AdmissionReview of {VERSION} is wanted")]
    OtherKind,
    #[error(
        "this version of AdmissionReview is not spoken here, only {VERSION} (admissionReviewVersions: [v1])"
    )]
    OtherVersion,
    #[error("the AdmissionReview has no request with a uid")]
    NoRequest,
    #[error("the body has more than {ELEMENTS} elements, and no pod has")]
    TooManyElements,
}

const KIND: &str = "AdmissionReview";
const VERSION: &str = "admission.k8s.io/v1";
/// The largest number of JSON elements in a body. In memory an element takes up to a hundred times its bytes in the
/// body.
const ELEMENTS: usize = 200_000;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    kind: String,
    request: Option<Request>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(default)]
    uid: String,
    kind: Option<Kind>,
    sub_resource: Option<String>,
    namespace: Option<String>,
    operation: Option<String>,
    object: Option<Value>,
    dry_run: Option<bool>,
}

#[derive(Deserialize)]
struct Kind {
    group: Option<String>,
    kind: Option<String>,
}

/// Answers the review in this body: decides about the creation of a pod, and allows everything else unchanged. Fails if
/// the body is not a review that can be answered.
pub(super) fn answer(body: &[u8], settings: &Settings) -> Result<Reviewed, NotAReview> {
    let request = read(body)?;
    let object = request.object.as_ref().unwrap_or(&Value::Null);
    let decision = if request.creates_a_pod() {
        decide(object, settings)
    } else {
        Decision::LeaveAlone("it is not the creation of a pod")
    };
    let pod = Pod::read(object);
    // An object that is not stored yet may lack a namespace of its own.
    let namespace = request.namespace.as_deref().filter(|namespace| !namespace.is_empty());
    let namespace = namespace.or_else(|| pod.and_then(Pod::namespace)).unwrap_or_default();
    Ok(Reviewed {
        answer: respond(&request.uid, &decision)?,
        result: Outcome::of(&decision),
        namespace: namespace.to_owned(),
        pod: pod.and_then(Pod::name).unwrap_or_default().to_owned(),
        dry_run: request.dry_run.unwrap_or_default(),
        reason: match decision {
            Decision::Inject(_) => String::new(),
            Decision::LeaveAlone(why) => why.to_owned(),
            Decision::Skip(why) | Decision::Deny(why) => why,
        },
    })
}

/// Reads the request of a review. Fails if the body has too many elements, is not JSON, or is not a review of this
/// version with a uid.
fn read(body: &[u8]) -> Result<Request, NotAReview> {
    let elements = body.iter().filter(|byte| matches!(byte, b'{' | b'[' | b','));
    if elements.count() > ELEMENTS {
        return Err(NotAReview::TooManyElements);
    }
    let review: Review = serde_json::from_slice(body)?;
    if review.kind != KIND {
        return Err(NotAReview::OtherKind);
    }
    if review.api_version != VERSION {
        return Err(NotAReview::OtherVersion);
    }
    review.request.filter(|request| !request.uid.is_empty()).ok_or(NotAReview::NoRequest)
}

impl Request {
    /// True if the request is the creation of a pod itself, not of a subresource.
    fn creates_a_pod(&self) -> bool {
        let kind = self.kind.as_ref();
        let of_core = |kind: &Kind| kind.group.as_deref().unwrap_or_default().is_empty();
        kind.is_some_and(|kind| of_core(kind) && kind.kind.as_deref() == Some("Pod"))
            && self.sub_resource.as_deref().unwrap_or_default().is_empty()
            && self.operation.as_deref() == Some("CREATE")
    }
}

/// Returns the `AdmissionReview` that answers the request with this uid by the decision, in JSON. A skipped pod is
/// allowed with a warning; a denied one is refused with status 403 and the reason.
fn respond(uid: &str, decision: &Decision) -> Result<Vec<u8>, serde_json::Error> {
    let response = match decision {
        Decision::Inject(patch) => {
            let patch = ByteString(serde_json::to_vec(patch)?);
            json!({"uid": uid, "allowed": true, "patchType": "JSONPatch", "patch": patch})
        }
        Decision::LeaveAlone(_) => json!({"uid": uid, "allowed": true}),
        Decision::Skip(why) => json!({"uid": uid, "allowed": true, "warnings": [why]}),
        Decision::Deny(why) => {
            let status = json!({"code": 403, "reason": "Forbidden", "message": why});
            json!({"uid": uid, "allowed": false, "status": status})
        }
    };
    serde_json::to_vec(&json!({"apiVersion": VERSION, "kind": KIND, "response": response}))
}

impl Outcome {
    pub(super) const ALL: [Self; 4] =
        [Self::Injected, Self::LeftAlone, Self::Skipped, Self::Denied];

    /// Returns the outcome that a decision is counted and logged as.
    const fn of(decision: &Decision) -> Self {
        match decision {
            Decision::Inject(_) => Self::Injected,
            Decision::LeaveAlone(_) => Self::LeftAlone,
            Decision::Skip(_) => Self::Skipped,
            Decision::Deny(_) => Self::Denied,
        }
    }

    /// Returns the outcome's name in metrics and in the log.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Injected => "injected",
            Self::LeftAlone => "left-alone",
            Self::Skipped => "skipped",
            Self::Denied => "denied",
        }
    }
}
