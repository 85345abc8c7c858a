//! What the sidecar asks for and may have: annotations, else defaults; in a Guaranteed pod both are the same.

use serde_json::{Map, Value, json};

use super::{
    annotations::{Wish, Wishes},
    pod::{Container, Pod},
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
        let (cpu, memory) = (wishes.cpu, wishes.memory);
        if is_guaranteed(pod) {
            let memory_limit = defaults.memory.limit.as_deref();
            let memory_limit = memory_limit.unwrap_or(&defaults.memory.request);
            return Self {
                cpu: fixed(cpu, defaults.cpu.limit.as_deref().unwrap_or(GUARANTEED_CPU)),
                memory: fixed(memory, memory_limit),
            };
        }
        Self { cpu: bounds(cpu, &defaults.cpu), memory: bounds(memory, &defaults.memory) }
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
}

fn bounds(wish: Wish<'_>, defaults: &Bounds) -> Bounds {
    Bounds {
        request: wish.request.unwrap_or(&defaults.request).into(),
        limit: wish.limit.or(defaults.limit.as_deref()).map(Into::into),
    }
}

/// Request and limit are one; where both were asked for and contradict each other they stay so, and are told of.
fn fixed(wish: Wish<'_>, limit: &str) -> Bounds {
    let limit = wish.limit.or(wish.request).unwrap_or(limit);
    let asked = Bounds { request: wish.request.unwrap_or(limit).into(), limit: Some(limit.into()) };
    if asked.is_contradiction() {
        return asked;
    }
    Bounds { request: limit.into(), limit: Some(limit.into()) }
}

/// Whether every container of its own has limits for both, and asks for no less.
fn is_guaranteed(pod: Pod<'_>) -> bool {
    pod.all_containers()
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
