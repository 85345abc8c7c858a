//! What the sidecar asks for and may have: annotations, else defaults; in a Guaranteed pod both are the same, and of what
//! the pod has a budget for as a whole (`spec.resources`) the sidecar asks for nothing.

use serde_json::{Map, Value, json};

use super::{
    annotations::{Wish, Wishes},
    pod::{Budget, Container, Pod},
    quantity::amount,
};

/// What every sidecar asks for and may have.
#[derive(Debug, Clone)]
pub struct Defaults {
    /// CPU.
    pub cpu: Bounds,
    /// Memory.
    pub memory: Bounds,
}

/// A request and a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bounds {
    /// What is kept for it.
    pub request: String,
    /// What it never goes above; `None`: whatever is free.
    pub limit: Option<String>,
}

/// A request of no amount.
const NOTHING: &str = "0";
/// CPU of the sidecar in a Guaranteed pod, where nobody says otherwise: such a pod needs a limit.
const GUARANTEED_CPU: &str = "100m";

/// What one sidecar asks for and may have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Resources {
    pub(super) cpu: Bounds,
    pub(super) memory: Bounds,
}

impl Resources {
    /// For this pod.
    pub(super) fn of(pod: Pod<'_>, wishes: &Wishes<'_>, defaults: &Defaults) -> Self {
        let cpu_limit = defaults.cpu.limit.as_deref().unwrap_or(GUARANTEED_CPU);
        let memory_limit = defaults.memory.limit.as_deref().unwrap_or(&defaults.memory.request);
        let guaranteed = is_guaranteed(pod);
        let bounds = |name, wish: Wish<'_>, defaults: &Bounds, limit: &str| match pod.budget(name) {
            Some(budget) => Bounds::within(budget, wish, defaults),
            None if guaranteed => Bounds::fixed(wish, limit),
            None => Bounds::loose(wish, defaults),
        };
        Self {
            cpu: bounds("cpu", wishes.cpu, &defaults.cpu, cpu_limit),
            memory: bounds("memory", wishes.memory, &defaults.memory, memory_limit),
        }
    }

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
    /// More is asked for than allowed.
    pub(super) fn is_contradiction(&self) -> bool {
        let limit = self.limit.as_deref().and_then(amount);
        limit.is_some_and(|limit| amount(&self.request) > Some(limit))
    }

    /// Whatever it asked for, the containers together could ask for more than the pod. Nothing is written as 0: where
    /// it is left out, a `LimitRange` or the limit takes its place.
    fn within(budget: Budget, wish: Wish<'_>, defaults: &Self) -> Self {
        let limit = defaults.limit.as_deref().filter(|_| !budget.is_limited);
        Self {
            request: wish.request.unwrap_or(NOTHING).into(),
            limit: wish.limit.or(limit).map(Into::into),
        }
    }

    /// Request and limit are one; where both were asked for and contradict each other they stay so, and are told of.
    fn fixed(wish: Wish<'_>, limit: &str) -> Self {
        let limit = wish.limit.or(wish.request).unwrap_or(limit);
        let asked =
            Self { request: wish.request.unwrap_or(limit).into(), limit: Some(limit.into()) };
        if asked.is_contradiction() {
            return asked;
        }
        Self { request: limit.into(), limit: Some(limit.into()) }
    }

    fn loose(wish: Wish<'_>, defaults: &Self) -> Self {
        Self {
            request: wish.request.unwrap_or(&defaults.request).into(),
            limit: wish.limit.or(defaults.limit.as_deref()).map(Into::into),
        }
    }
}

/// Whether every container of its own has limits for both, and asks for no less; with a budget, that alone counts.
fn is_guaranteed(pod: Pod<'_>) -> bool {
    let has_budget = ["cpu", "memory"].iter().any(|resource| pod.budget(resource).is_some());
    !has_budget
        && pod
            .all_containers()
            .all(|container| ["cpu", "memory"].iter().all(|resource| is_fixed(container, resource)))
}

fn is_fixed(container: Container<'_>, resource: &str) -> bool {
    let read = |side| container.resource(side, resource).map(written_amount);
    match (read("requests"), read("limits")) {
        (None, Some(Some(_))) => true,
        (Some(Some(request)), Some(Some(limit))) => request == limit,
        _ => false,
    }
}

/// Quantities come as text; a number is one too.
fn written_amount(value: &Value) -> Option<i128> {
    match value {
        Value::String(text) => amount(text),
        Value::Number(number) => amount(&number.to_string()),
        _ => None,
    }
}
