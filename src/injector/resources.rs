//! The sidecar's requests and limits: from annotations, else from defaults. In a Guaranteed pod its requests equal its
//! limits. A resource for which the pod has a budget as a whole (`spec.resources`) is requested by the sidecar only if
//! an annotation says so.

use serde_json::{Map, Value, json};

use super::{
    annotations::{AnnotatedResource, AnnotatedSettings},
    pod::{Budget, Container, Pod},
    quantity::amount,
};

/// The requests and limits of a sidecar whose pod sets none by annotations.
#[derive(Debug, Clone)]
pub(crate) struct Defaults {
    /// The request and limit of CPU.
    pub cpu: Bounds,
    /// The request and limit of memory.
    pub memory: Bounds,
}

/// The request and the limit of one resource, as Kubernetes quantities.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The amount that the scheduler reserves.
    pub request: String,
    /// The most that the container may use; `None`: no limit.
    pub limit: Option<String>,
}

/// A request of nothing.
const NOTHING: &str = "0";
/// The CPU request and limit of the sidecar in a Guaranteed pod, unless the defaults or annotations give a limit: such
/// a pod needs a limit.
const GUARANTEED_CPU: &str = "100m";

/// The requests and limits of one sidecar.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resources {
    pub(super) cpu: Bounds,
    pub(super) memory: Bounds,
}

impl Resources {
    /// Computes the requests and limits of this pod's sidecar.
    pub(super) fn of(pod: Pod<'_>, wishes: &AnnotatedSettings<'_>, defaults: &Defaults) -> Self {
        let cpu_limit = defaults.cpu.limit.as_deref().unwrap_or(GUARANTEED_CPU);
        let memory_limit = defaults.memory.limit.as_deref().unwrap_or(&defaults.memory.request);
        let guaranteed = is_guaranteed(pod);
        let bounds = |name, wish: AnnotatedResource<'_>, defaults: &Bounds, limit: &str| match pod
            .budget(name)
        {
            Some(budget) => Bounds::within(budget, wish, defaults),
            None if guaranteed => Bounds::fixed(wish, limit),
            None => Bounds::loose(wish, defaults),
        };
        Self {
            cpu: bounds("cpu", wishes.cpu, &defaults.cpu, cpu_limit),
            memory: bounds("memory", wishes.memory, &defaults.memory, memory_limit),
        }
    }

    /// Returns the requests and limits as a container's `resources`; `limits` is left out if there are none.
    pub(super) fn to_json(&self) -> Value {
        let mut requests = Map::new();
        let mut limits = Map::new();
        for (resource, bounds) in [("cpu", &self.cpu), ("memory", &self.memory)] {
            requests.insert(resource.into(), bounds.request.as_str().into());
            if let Some(limit) = &bounds.limit {
                limits.insert(resource.into(), limit.as_str().into());
            }
        }
        if limits.is_empty() {
            return json!({ "requests": requests });
        }
        json!({"requests": requests, "limits": limits})
    }
}

impl Bounds {
    /// True if the request is above the limit; Kubernetes refuses such a container.
    pub(super) fn is_contradiction(&self) -> bool {
        let limit = self.limit.as_deref().and_then(amount);
        limit.is_some_and(|limit| amount(&self.request) > Some(limit))
    }

    /// Returns the bounds of a sidecar in a pod with a budget. Without a wish the request is 0: any other would count
    /// towards the pod's budget, and the containers together could then request more than the pod. The 0 is written
    /// out, because a missing request would be set by a `LimitRange` or from the limit.
    fn within(budget: Budget, wish: AnnotatedResource<'_>, defaults: &Self) -> Self {
        let limit = defaults.limit.as_deref().filter(|_| !budget.is_limited);
        Self {
            request: wish.request.unwrap_or(NOTHING).into(),
            limit: wish.limit.or(limit).map(Into::into),
        }
    }

    /// Returns bounds whose request equals the limit, as a Guaranteed pod needs them. A request above the limit, both
    /// from annotations, is returned as written, so that the contradiction is reported.
    fn fixed(wish: AnnotatedResource<'_>, limit: &str) -> Self {
        let limit = wish.limit.or(wish.request).unwrap_or(limit);
        let asked =
            Self { request: wish.request.unwrap_or(limit).into(), limit: Some(limit.into()) };
        if asked.is_contradiction() {
            return asked;
        }
        Self { request: limit.into(), limit: Some(limit.into()) }
    }

    /// Returns the request and the limit that the annotations wish, each else by the defaults.
    fn loose(wish: AnnotatedResource<'_>, defaults: &Self) -> Self {
        Self {
            request: wish.request.unwrap_or(&defaults.request).into(),
            limit: wish.limit.or(defaults.limit.as_deref()).map(Into::into),
        }
    }
}

/// True if Kubernetes gives the pod the class Guaranteed: every container has limits for CPU and memory, and its
/// requests, if any, equal them. False for a pod with a budget of its own, which alone decides the class of such a pod.
fn is_guaranteed(pod: Pod<'_>) -> bool {
    let has_budget = ["cpu", "memory"].iter().any(|resource| pod.budget(resource).is_some());
    !has_budget
        && pod
            .all_containers()
            .all(|container| ["cpu", "memory"].iter().all(|resource| is_fixed(container, resource)))
}

/// True if the container has a limit for this resource and no request, or a request that equals the limit.
fn is_fixed(container: Container<'_>, resource: &str) -> bool {
    let read = |side| container.resource(side, resource).map(written_amount);
    match (read("requests"), read("limits")) {
        (None, Some(Some(_))) => true,
        (Some(Some(request)), Some(Some(limit))) => request == limit,
        _ => false,
    }
}

/// Parses a quantity in JSON, where Kubernetes accepts a string or a number. Returns billionths.
fn written_amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => amount(text),
        Value::Number(number) => amount(&number.to_string()),
        _ => None,
    }
}
