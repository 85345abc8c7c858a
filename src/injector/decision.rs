//! The injector's decision about one pod. Pure: pod and settings in, decision out.
//!
//! The API server sends two kinds of pods: those that asked by a label of their own, and those of a namespace that
//! asked for all of its pods. The pod's own label distinguishes the two.

use json_patch::Patch;
use serde_json::Value;

use super::{obstacles, patch, pod::Pod, sidecar::Settings};

/// The injector's decision about a pod.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Decision {
    /// The pod gets its sidecar by this patch.
    Inject(Patch),
    /// The pod is let through as it is; the text is the reason, for the log.
    LeaveAlone(&'static str),
    /// The pod is let through without a sidecar; the text is a warning to the client that created the pod. Only its
    /// namespace asked for a sidecar.
    Skip(String),
    /// The pod is refused, with this text as the reason: its own label asks for a sidecar that it cannot have.
    Deny(String),
}

/// The label by which a pod or a namespace asks for sidecars.
const INJECT: &str = "warmline.dev/inject";
/// The annotation of mirror pods: a kubelet made such a pod, and it is only shown on the API server, so that a change
/// there has no effect.
const MIRROR: &str = "kubernetes.io/config.mirror";

/// Decides about this pod, given as the JSON object of the review. An obstacle denies a pod whose own label asks for a
/// sidecar; other pods are let through without one, with a warning. An object that is not a pod is denied.
pub(super) fn decide(object: &Value, settings: &Settings) -> Decision {
    let Some(pod) = Pod::read(object) else {
        return Decision::Deny("the object in the review is not a pod".into());
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
