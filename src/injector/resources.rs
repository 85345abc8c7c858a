//! What the sidecar asks for and may have: annotations, else defaults; in a Guaranteed pod both are the same, and of what
//! the pod has a budget for as a whole (`spec.resources`) the sidecar has no part of its own.

use serde_json::{Map, Value};

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
    pub(super) cpu: Share,
    pub(super) memory: Share,
}

/// Of one resource; `None`: nothing of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Share {
    request: Option<String>,
    limit: Option<String>,
}

impl Resources {
    /// For this pod.
    pub(super) fn of(pod: Pod<'_>, wishes: &Wishes<'_>, defaults: &Defaults) -> Self {
        let cpu_limit = defaults.cpu.limit.as_deref().unwrap_or(GUARANTEED_CPU);
        let memory_limit = defaults.memory.limit.as_deref().unwrap_or(&defaults.memory.request);
        let guaranteed = is_guaranteed(pod);
        let share = |name, wish: Wish<'_>, defaults: &Bounds, limit: &str| {
            if pod.has_budget(name) {
                Share::of_budget(wish)
            } else if guaranteed {
                Share::fixed(wish, limit)
            } else {
                Share::bounded(wish, defaults)
            }
        };
        Self {
            cpu: share("cpu", wishes.cpu, &defaults.cpu, cpu_limit),
            memory: share("memory", wishes.memory, &defaults.memory, memory_limit),
        }
    }

    pub(super) fn to_json(&self) -> Value {
        let side = |side: fn(&Share) -> Option<&str>| {
            let both = [("cpu", side(&self.cpu)), ("memory", side(&self.memory))];
            let there = both.into_iter().filter_map(|(name, amount)| Some((name, amount?)));
            there.map(|(name, amount)| (name.into(), amount.into())).collect::<Map<_, _>>()
        };
        let sides = [
            ("requests", side(|share| share.request.as_deref())),
            ("limits", side(|share| share.limit.as_deref())),
        ];
        let there = sides.into_iter().filter(|(_, amounts)| !amounts.is_empty());
        Value::Object(there.map(|(name, amounts)| (name.into(), amounts.into())).collect())
    }
}

impl Bounds {
    /// More is asked for than allowed.
    pub(super) fn is_contradiction(&self) -> bool {
        contradict(Some(&self.request), self.limit.as_deref())
    }
}

impl Share {
    /// Whatever it took by default, the containers together could have more than the pod.
    fn of_budget(wish: Wish<'_>) -> Self {
        Self { request: wish.request.map(Into::into), limit: wish.limit.map(Into::into) }
    }

    /// Request and limit are one; where both were asked for and contradict each other they stay so, and are told of.
    fn fixed(wish: Wish<'_>, limit: &str) -> Self {
        let limit = wish.limit.or(wish.request).unwrap_or(limit);
        let request = wish.request.filter(|request| contradict(Some(request), Some(limit)));
        Self { request: Some(request.unwrap_or(limit).into()), limit: Some(limit.into()) }
    }

    fn bounded(wish: Wish<'_>, defaults: &Bounds) -> Self {
        Self {
            request: Some(wish.request.unwrap_or(&defaults.request).into()),
            limit: wish.limit.or(defaults.limit.as_deref()).map(Into::into),
        }
    }

    /// More is asked for than allowed.
    pub(super) fn is_contradiction(&self) -> bool {
        contradict(self.request.as_deref(), self.limit.as_deref())
    }
}

fn contradict(request: Option<&str>, limit: Option<&str>) -> bool {
    let limit = limit.and_then(amount);
    limit.is_some_and(|limit| request.and_then(amount) > Some(limit))
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
