//! Publishes one Kubernetes Event for each rejected content, however many pods reject it: the Event's name carries the
//! content's hash, so that only the first can be created.

use std::time::Duration;

use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    jiff::Timestamp,
};
use kube::{Api, Client, api::PostParams};
use tokio::{
    sync::watch::Receiver,
    time::{Instant, sleep_until},
};

use super::{ConfigMapState, Reference, Rejected};

/// The time within which each pod publishes at random, so that chance decides which pod is first.
const SPREAD: Duration = Duration::from_secs(10);
/// The least time between two Events of this process.
const PACE: Duration = Duration::from_mins(1);
/// The most bytes of an Event's note, and of the name of the pod that reports it.
const NOTE: usize = 1024;
const INSTANCE: usize = 128;
/// The most bytes of an object's name.
const NAME: usize = 253;

/// Publishes each rejection that still holds after its random delay, once, and at most one a minute, until the sender
/// of rejections is gone.
pub(super) async fn publish(
    client: Client,
    namespace: String,
    reference: Reference,
    known: Receiver<ConfigMapState>,
    mut rejected: Receiver<Option<Rejected>>,
) {
    let events: Api<Event> = Api::namespaced(client, &namespace);
    let mut told = None;
    let mut earliest = Instant::now();
    loop {
        let rejection = rejected.borrow_and_update().clone();
        let Some(rejection) = rejection.filter(|rejection| told.as_ref() != Some(&rejection.hash))
        else {
            if rejected.changed().await.is_err() {
                return;
            }
            continue;
        };
        let due = earliest.max(Instant::now() + SPREAD.mul_f64(fastrand::f64()));
        tokio::select! {
            // The content may be good again by now, or another one may be rejected.
            changed = rejected.changed() => if changed.is_err() { return },
            () = sleep_until(due) => {
                let about = regarding(&reference, &namespace, known.borrow().uid.clone());
                let event = event(&about, &rejection, &instance(), Timestamp::now());
                create(&events, &event).await;
                earliest = Instant::now() + PACE;
                told = Some(rejection.hash);
            }
        }
    }
}

/// Creates the Event, unless another pod has created the same one; logs a failure.
async fn create(events: &Api<Event>, event: &Event) {
    match events.create(&PostParams::default(), event).await {
        Ok(_) => {}
        // Another pod has created this Event.
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => {
            tracing::warn!(%error, "no Event could be created about the rejected configuration");
        }
    }
}

/// Returns the reporting pod's name, which is its host name.
fn instance() -> String {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    if name.is_empty() { "warmline".into() } else { cut(&name, INSTANCE).into() }
}

/// Returns the Event's reference to the `ConfigMap`. `kubectl describe` finds the Event by the `ConfigMap`'s UID too.
pub(super) fn regarding(
    reference: &Reference,
    namespace: &str,
    uid: Option<String>,
) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("ConfigMap".into()),
        name: Some(reference.name.clone()),
        namespace: Some(namespace.into()),
        uid,
        ..ObjectReference::default()
    }
}

/// Makes the Event about a rejected content. All pods give it the same name, made of the `ConfigMap`'s name and the
/// content's hash; `instance` is the reporting pod.
pub(super) fn event(
    regarding: &ObjectReference,
    rejected: &Rejected,
    instance: &str,
    now: Timestamp,
) -> Event {
    let suffix = format!(".{}", rejected.hash);
    let name = regarding.name.as_deref().unwrap_or_default();
    let name = cut(name, NAME - suffix.len()).trim_end_matches(['-', '.']);
    Event {
        metadata: ObjectMeta {
            name: Some(format!("{name}{suffix}")),
            namespace: regarding.namespace.clone(),
            ..ObjectMeta::default()
        },
        event_time: Some(MicroTime(now)),
        reporting_controller: Some("warmline.dev/sidecar".into()),
        reporting_instance: Some(instance.into()),
        type_: Some("Warning".into()),
        action: Some("Reload".into()),
        reason: Some("ConfigurationRejected".into()),
        note: Some(cut(&rejected.reason, NOTE).into()),
        regarding: Some(regarding.clone()),
        ..Event::default()
    }
}

/// Returns at most this many bytes of a text, in whole characters.
fn cut(text: &str, bytes: usize) -> &str {
    &text[..text.floor_char_boundary(bytes)]
}
