//! The reasons that a pod cannot have a sidecar, in the same words as the validating policy's.

use super::{
    annotations::AnnotatedSettings,
    filling,
    pod::{Container, Pod, SIDECAR},
    resources::Resources,
    sidecar::{FOLDERS, METRICS_PORT_NAME, PORTS, Platform, Settings, USER},
    volumes::{RUN_VOLUME, VOLUMES},
};

/// Returns what the pod's annotations ask for and the sidecar's resources. Fails with all obstacles to the injection,
/// joined by `; ` in one line.
pub(super) fn clear<'a>(
    pod: Pod<'a>,
    settings: &Settings,
) -> Result<(AnnotatedSettings<'a>, Resources), String> {
    let mut obstacles: Vec<String> = [
        host(pod),
        processes(pod, settings.platform),
        windows(pod),
        container(pod),
        volume(pod),
        mounts(pod),
        volume_mounts(pod),
        unfilled(pod),
        ports(pod),
    ]
    .into_iter()
    .flatten()
    .collect();
    let wishes = match AnnotatedSettings::read(pod) {
        Ok(wishes) => {
            let resources = Resources::of(pod, &wishes, &settings.resources);
            obstacles.extend(contradictions(&resources));
            Some((wishes, resources))
        }
        Err(errors) => {
            obstacles.extend(errors);
            None
        }
    };
    wishes.filter(|_| obstacles.is_empty()).ok_or_else(|| obstacles.join("; "))
}

/// Returns the obstacle if the pod is in the network or among the processes of its node, both in one text; else `None`.
fn host(pod: Pod<'_>) -> Option<String> {
    let network =
        pod.says("hostNetwork").then_some("hostNetwork is set, so that loopback is the node's");
    let processes =
        pod.says("hostPID").then_some("hostPID is set, so that processes of the node are in reach");
    let both: Vec<_> = [network, processes].into_iter().flatten().collect();
    (!both.is_empty()).then(|| both.join("; "))
}

/// Returns the obstacle if the pod's containers share their processes and another one may run as the sidecar's user,
/// because one container then reads the other's files through `/proc`; else `None`.
fn processes(pod: Pod<'_>, platform: Platform) -> Option<String> {
    if !pod.says("shareProcessNamespace") {
        return None;
    }
    if platform == Platform::OpenShift {
        let text = "shareProcessNamespace is set, and on this platform the sidecar has no user of its own, so that \
                    other containers could read its key";
        return Some(text.into());
    }
    if pod.user() == Some(USER) {
        return Some(format!(
            "shareProcessNamespace is set and the pod runs as user {USER}, which is the sidecar's, so that other \
             containers could read its key"
        ));
    }
    let same = pod.all_containers().filter(|container| container.user() == Some(USER));
    let same = list(same.map(|container| container.name().to_owned()))?;
    Some(format!(
        "shareProcessNamespace is set and these run as user {USER}, which is the sidecar's, so that they could read \
         its key: {same}"
    ))
}

fn windows(pod: Pod<'_>) -> Option<String> {
    pod.is_for_windows().then(|| "the pod is for Windows, and the sidecar for Linux".into())
}

/// Returns the obstacle if the pod has a container with the sidecar's name, else `None`.
fn container(pod: Pod<'_>) -> Option<String> {
    let taken = pod.all_containers().any(|container| container.name() == SIDECAR);
    taken.then(|| {
        format!("the container name {SIDECAR} is the sidecar's, and the pod has another container of that name")
    })
}

/// Returns the obstacle if the pod has a volume with the name of the one that the sidecar writes to, else `None`.
fn volume(pod: Pod<'_>) -> Option<String> {
    pod.has_volume(RUN_VOLUME).then(|| {
        format!(
            "the volume {RUN_VOLUME} is the sidecar's, and the pod has another volume of that name"
        )
    })
}

/// Returns the obstacle if other containers mount something in the sidecar's folders, with container and path of each;
/// else `None`.
fn mounts(pod: Pod<'_>) -> Option<String> {
    let of = |container: Container<'_>| {
        let name = container.name().to_owned();
        let paths = container.mount_paths().filter(|path| is_ours(path));
        paths.map(|path| format!("{name} {path}")).collect::<Vec<_>>()
    };
    let others = list(pod.all_containers().flat_map(of))?;
    let folders = FOLDERS.join(" and ");
    Some(format!("the mount paths {folders} are the sidecar's, and others mount there: {others}"))
}

/// Returns the obstacle if other containers mount the sidecar's volumes, else `None`. The API server checks mounts only
/// after the injection, when the pod has these volumes, and would accept such a mount.
fn volume_mounts(pod: Pod<'_>) -> Option<String> {
    let is_taken =
        |name: &str| VOLUMES.contains(&name) && (name == RUN_VOLUME || !pod.has_volume(name));
    let of = |container: Container<'_>| {
        let names = container.mounted_volumes().filter(|name| is_taken(name));
        names.map(|name| format!("{} {name}", container.name())).collect::<Vec<_>>()
    };
    let others = list(pod.all_containers().flat_map(of))?;
    let [first @ .., last] = VOLUMES;
    let ours = format!("{} and {last}", first.join(", "));
    Some(format!("the volumes {ours} are the sidecar's, and others mount them: {others}"))
}

/// Returns the obstacle if a volume that the sidecar reads begins empty and is written only by containers that start
/// after the sidecar, which would wait for the files for ever; else `None`.
fn unfilled(pod: Pod<'_>) -> Option<String> {
    let volumes = list(filling::unfilled(pod).map(Into::into))?;
    Some(format!(
        "these volumes begin empty, and no init container fills them before the sidecar starts (let one write them, with \
         restartPolicy: Always if it goes on writing): {volumes}"
    ))
}

/// True if a path is one of the sidecar's folders, or lies below one.
fn is_ours(path: &str) -> bool {
    FOLDERS
        .iter()
        .filter_map(|folder| path.strip_prefix(folder))
        .any(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Returns the obstacle if ports of other containers clash with the sidecar's, with container and port of each; else
/// `None`.
fn ports(pod: Pod<'_>) -> Option<String> {
    let of = |container: Container<'_>| {
        let name = container.name().to_owned();
        let clashes = container.ports().filter_map(port_clash);
        clashes.map(|clash| format!("{name} {clash}")).collect::<Vec<_>>()
    };
    let others = list(pod.all_containers().flat_map(of))?;
    let ours = PORTS.map(|port| port.to_string()).join(", ");
    Some(format!(
        "the ports {ours} and the port name {METRICS_PORT_NAME} are the sidecar's, and others have them: {others}"
    ))
}

/// Returns the number or the name of a container's port if the sidecar has the same, for the text of the obstacle.
fn port_clash(port: &serde_json::Value) -> Option<String> {
    let number = port.get("containerPort").and_then(serde_json::Value::as_u64);
    let protocol = port.get("protocol").and_then(serde_json::Value::as_str).unwrap_or("TCP");
    let number = number
        .filter(|number| protocol == "TCP" && PORTS.iter().any(|ours| u64::from(*ours) == *number));
    let named = port.get("name").and_then(serde_json::Value::as_str) == Some(METRICS_PORT_NAME);
    number.map(|number| number.to_string()).or_else(|| named.then(|| METRICS_PORT_NAME.into()))
}

/// Returns the error for each resource whose request, by annotation or default, is above its limit.
fn contradictions(resources: &Resources) -> impl Iterator<Item = String> {
    let both = [("cpu", &resources.cpu), ("memory", &resources.memory)];
    let contradictions = both.into_iter().filter(|(_, bounds)| bounds.is_contradiction());
    contradictions.map(|(name, bounds)| {
        format!(
            "the sidecar's {name} request {} is above its limit {}, and the annotations warmline.dev/{name}-request and \
             warmline.dev/{name}-limit set them",
            bounds.request,
            bounds.limit.as_deref().unwrap_or_default(),
        )
    })
}

/// Joins the names with commas; `None` if there are no names.
fn list(names: impl Iterator<Item = String>) -> Option<String> {
    let names: Vec<_> = names.collect();
    (!names.is_empty()).then(|| names.join(", "))
}
