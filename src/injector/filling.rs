//! Volumes that the pod brings for the sidecar and that its own containers fill, such as with an identity from Vault: the sidecar
//! is placed behind the init containers that write them.

use serde_json::Value;

use super::{
    pod::{Container, Pod},
    sidecar::{CONFIG_VOLUME, READ_VOLUMES},
};

/// Kinds of volume that are new and empty in each pod.
const BEGIN_EMPTY: [&str; 2] = ["emptyDir", "ephemeral"];
/// A kind that a container may write, and that may have been filled before.
const CLAIM: &str = "persistentVolumeClaim";

/// The sidecar's place among the init containers: the first, or right behind the last that may write a volume which the sidecar
/// reads. An ordinary one has ended by then; one with `restartPolicy: Always` has started, and its files are waited for.
pub(super) fn place(pod: Pod<'_>) -> usize {
    let writers = pod.init_containers().filter(|container| fills_any(pod, *container));
    writers.last().map_or(0, |last| last.index + 1)
}

/// Volumes that would be empty for ever: the containers that may write them start after the sidecar. Without any writer this is
/// said of the configuration alone, because the sidecar needs it; what it says decides about the others.
pub(super) fn unfilled(pod: Pod<'_>) -> impl Iterator<Item = &'static str> {
    READ_VOLUMES.into_iter().filter(move |name| {
        let begins_empty = pod.volume(name).is_some_and(|volume| is_one_of(volume, &BEGIN_EMPTY));
        let is_needed =
            *name == CONFIG_VOLUME || pod.containers().any(|container| container.writes(name));
        begins_empty && is_needed && !pod.init_containers().any(|container| container.writes(name))
    })
}

/// True if a container may write this volume; the API server or a driver fills all others.
pub(super) fn is_filled_by_containers(volume: &Value) -> bool {
    is_one_of(volume, &BEGIN_EMPTY) || is_one_of(volume, &[CLAIM])
}

fn fills_any(pod: Pod<'_>, container: Container<'_>) -> bool {
    READ_VOLUMES
        .iter()
        .any(|name| container.writes(name) && pod.volume(name).is_some_and(is_filled_by_containers))
}

fn is_one_of(volume: &Value, kinds: &[&str]) -> bool {
    kinds.iter().any(|kind| volume.get(kind).is_some_and(|source| !source.is_null()))
}
