//! Volumes that a pod brings for the sidecar and that the pod's own containers fill, such as with an identity from
//! Vault: the sidecar is placed behind the init containers that write them.

use serde_json::Value;

use super::{
    pod::{Container, Pod},
    volumes::{CONFIG_VOLUME, READ_VOLUMES},
};

/// Kinds of volume that are new and empty in each pod.
const BEGIN_EMPTY: [&str; 2] = ["emptyDir", "ephemeral"];
/// The kind of volume that a container may write and that may have been filled before.
const CLAIM: &str = "persistentVolumeClaim";

/// Finds the sidecar's place among the init containers: the first, or right behind the last that may write a volume
/// which the sidecar reads. An ordinary init container has ended by then; one with `restartPolicy: Always` has started,
/// and the sidecar waits for the files.
pub(super) fn place(pod: Pod<'_>) -> usize {
    let writers = pod.init_containers().filter(|container| fills_any(pod, *container));
    writers.last().map_or(0, |last| last.index + 1)
}

/// Lists the volumes that would be empty for ever, because the containers that may write them start after the sidecar.
/// Without any writer only the configuration is listed: the sidecar always needs that volume, and the others only if
/// the configuration says so.
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
