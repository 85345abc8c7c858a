//! The sidecar: its container, its volumes, and what a pod shows of the sidecar.

use serde_json::{Value, json};

use super::{
    annotations::AnnotatedSettings,
    filling,
    pod::{Pod, SIDECAR},
    resources::{Defaults, Resources},
    volumes::{CONFIG_VOLUME, IDENTITY_VOLUME, RUN_VOLUME, TRUST_VOLUME},
};

/// The user and group id that the sidecar runs as, chosen so that no other container in the cluster is likely to have
/// it.
pub(super) const USER: i64 = 13301;
/// The sidecar's port for metrics and health.
pub(super) const METRICS_PORT: u16 = 13320;
/// The name of [`METRICS_PORT`]. Kubernetes allows names of at most 15 characters.
pub(super) const METRICS_PORT_NAME: &str = "warmline-prom";
/// All ports that the sidecar listens on in every pod: traffic, metrics and health, administration.
pub(super) const PORTS: [u16; 3] = [13301, METRICS_PORT, 13321];
/// The folders of the sidecar's file system that no other container may mount at.
pub(super) const FOLDERS: [&str; 2] = ["/etc/warmline", RUN_FOLDER];
/// The `ConfigMap` whose entries all other containers of the pod get as environment variables: the upstreams'
/// addresses.
pub(super) const URLS: &str = "warmline-urls";

const RUN_FOLDER: &str = "/run/warmline";
/// The `ConfigMap` that holds the configuration, unless an annotation names another.
const CONFIG: &str = "warmline";

/// The settings that all sidecars share.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The sidecar's image.
    pub image: String,
    /// The policy by which the kubelet pulls the image.
    pub pull_policy: PullPolicy,
    /// The source of the sidecar's configuration.
    pub config_source: ConfigSource,
    /// The kind of cluster.
    pub platform: Platform,
    /// True if the pod gets the annotations `prometheus.io/*`.
    pub prometheus_annotations: bool,
    /// The sidecar's requests and limits, unless annotations say otherwise.
    pub resources: Defaults,
}

/// The policy by which the kubelet pulls an image (`imagePullPolicy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PullPolicy {
    /// The kubelet pulls the image at each start.
    Always,
    /// The kubelet pulls the image if the node does not have it.
    IfNotPresent,
    /// The kubelet never pulls the image.
    Never,
}

/// The source of the sidecar's configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ConfigSource {
    /// The `ConfigMap` on the API server, and its mounted copy until the API server answers.
    Watch,
    /// The mounted copy alone.
    Mount,
}

/// The kind of cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Platform {
    /// The sidecar runs as a user of its own (13301).
    Kubernetes,
    /// The namespace determines the user that containers run as, so that the sidecar names none.
    OpenShift,
}

/// Makes the sidecar's container: an init container that restarts (a native sidecar), with its arguments, probes,
/// resources and mounts.
pub(super) fn container(
    pod: Pod<'_>,
    settings: &Settings,
    wishes: &AnnotatedSettings<'_>,
    resources: &Resources,
) -> Value {
    json!({
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy.name(),
        "args": arguments(pod, settings, wishes),
        "restartPolicy": "Always",
        "ports": [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"}],
        // Once a second, because the pod's next container waits for the first success.
        "startupProbe": probe("/startupz", 1, 120),
        "readinessProbe": probe("/readyz", 2, 2),
        "livenessProbe": probe("/livez", 10, 3),
        "resources": resources.to_json(),
        "securityContext": security_context(settings.platform),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(),
    })
}

/// Makes the sidecar's volumes, without those that the pod brings itself.
pub(super) fn volumes(pod: Pod<'_>, wishes: &AnnotatedSettings<'_>) -> Vec<Value> {
    let config = wishes.config.unwrap_or(CONFIG);
    let all = [
        json!({"name": CONFIG_VOLUME, "configMap": {"name": config}}),
        json!({"name": IDENTITY_VOLUME, "secret": {"secretName": IDENTITY_VOLUME, "optional": true}}),
        json!({"name": TRUST_VOLUME, "configMap": {"name": TRUST_VOLUME, "optional": true}}),
        // In memory, because an `emptyDir` on disk keeps the cluster autoscaler from removing the pod's node.
        json!({"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}),
    ];
    let brought = |volume: &Value| volume["name"].as_str().is_some_and(|name| pod.has_volume(name));
    all.into_iter().filter(|volume| !brought(volume)).collect()
}

/// Makes the source of environment variables from which other containers get the upstreams' addresses.
pub(super) fn urls() -> Value {
    json!({"configMapRef": {"name": URLS, "optional": true}})
}

/// Returns the sidecar's command line: confined, with the mounted configuration, the watched `ConfigMap` if there is
/// one, and the level of the log if an annotation gives one.
fn arguments(pod: Pod<'_>, settings: &Settings, wishes: &AnnotatedSettings<'_>) -> Vec<String> {
    let mut words = vec!["run", "--confined", "--config", "/etc/warmline/config/config.yaml"];
    if let (ConfigSource::Watch, Some(config)) = (settings.config_source, watched(pod, wishes)) {
        words.extend(["--configmap", config]);
    }
    words.extend(["--keep", RUN_FOLDER]);
    if let Some(level) = wishes.log_level {
        words.extend(["--log-level", level]);
    }
    words.into_iter().map(Into::into).collect()
}

/// Returns the `ConfigMap` that the sidecar watches: the one that an annotation names, else the one that the pod's own
/// configuration volume mounts, else the default. Returns `None` if containers fill that volume and no annotation names
/// a `ConfigMap`: then the mounted files are the configuration.
fn watched<'a>(pod: Pod<'a>, wishes: &AnnotatedSettings<'a>) -> Option<&'a str> {
    let of_volume = match pod.volume(CONFIG_VOLUME) {
        Some(own) if filling::is_filled_by_containers(own) => None,
        Some(own) => {
            own.get("configMap").and_then(|source| source.get("name")?.as_str()).or(Some(CONFIG))
        }
        None => Some(CONFIG),
    };
    wishes.config.or(of_volume)
}

/// Returns an HTTP probe of this path, each `period` seconds, that has failed after this number of failures.
fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": METRICS_PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
    })
}

/// Returns the sidecar's security context, the most restricted one: on Kubernetes with a user of its own, on
/// `OpenShift` without one.
fn security_context(platform: Platform) -> Value {
    let mut context = json!({
        "allowPrivilegeEscalation": false,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": true,
        "runAsNonRoot": true,
        "seccompProfile": {"type": "RuntimeDefault"},
    });
    if platform == Platform::Kubernetes {
        context["runAsUser"] = USER.into();
        context["runAsGroup"] = USER.into();
    }
    context
}

/// Returns the sidecar's mounts: all volumes read-only, but for the one that it keeps files in.
fn mounts() -> Value {
    let read_only =
        |name: &str, path: &str| json!({"name": name, "mountPath": path, "readOnly": true});
    json!([
        read_only(CONFIG_VOLUME, "/etc/warmline/config"),
        read_only(IDENTITY_VOLUME, "/etc/warmline/identity"),
        read_only(TRUST_VOLUME, "/etc/warmline/trust"),
        {"name": RUN_VOLUME, "mountPath": RUN_FOLDER},
    ])
}

impl PullPolicy {
    /// Returns the policy's name in a container's `imagePullPolicy`.
    const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
