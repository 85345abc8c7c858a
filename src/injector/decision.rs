//! The injector's decision about one pod. Pure: pod and settings in, decision out.
//!
//! The API server sends pods that asked by their own label, and those of a namespace that asked for all of its pods:
//! which of the two it was, the pod's own label says.

use json_patch::Patch;
use serde_json::Value;

use super::{obstacles, patch, pod::Pod, sidecar::Settings};

/// What becomes of a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// It gets its sidecar.
    Inject(Patch),
    /// It is let through as it is; why, for the log.
    LeaveAlone(&'static str),
    /// It is let through without a sidecar, and whoever made it is told so.
    Skip(String),
    /// It is refused: it asked for what it cannot have.
    Deny(String),
}

/// The label by which a pod, or a namespace, asks.
const INJECT: &str = "warmline.dev/inject";
/// A pod of a kubelet's own, shown on the API server: nobody can change it there.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// What becomes of this pod.
pub(super) fn decide(object: &Value, settings: &Settings) -> Decision {
    let Some(pod) = Pod::read(object) else {
        return Decision::Deny("the object in the review is no pod".into());
    };
    if pod.label(INJECT) == Some("false") {
        return Decision::LeaveAlone("its label says no");
    }
    if pod.annotation(MIRROR).is_some() {
        return Decision::LeaveAlone("it is a mirror pod");
    }
    if pod.has_sidecar() {
        return Decision::LeaveAlone("it has its sidecar");
    }
    match obstacles::clear(pod, settings) {
        Ok((wishes, resources)) => {
            Decision::Inject(patch::injection(pod, settings, &wishes, &resources))
        }
        Err(why) if pod.label(INJECT) == Some("true") => {
            Decision::Deny(format!("warmline cannot be injected: {why}"))
        }
        Err(why) => Decision::Skip(format!("warmline is not injected: {why}")),
    }
}

#[cfg(test)]
mod tests;
