//! The sidecar: its container, its volumes, and what a pod shows of it.

use serde_json::{Value, json};

use super::{
    annotations::Wishes,
    filling,
    pod::{Pod, SIDECAR},
    resources::{Defaults, Resources},
};

/// The user and the group that it runs as; nothing else on a cluster is likely to.
pub(super) const USER: i64 = 13301;
/// Its port for metrics and health; the name has the 15 characters that are the limit.
pub(super) const METRICS_PORT: u16 = 13320;
/// See [`METRICS_PORT`].
pub(super) const METRICS_PORT_NAME: &str = "warmline-prom";
/// All that it listens on in every pod: traffic, metrics and health, administration.
pub(super) const PORTS: [u16; 3] = [13301, METRICS_PORT, 13321];
/// What lies in its own file system alone.
pub(super) const FOLDERS: [&str; 2] = ["/etc/warmline", RUN_FOLDER];
/// The volume that no pod may bring.
pub(super) const RUN_VOLUME: &str = "warmline-run";
/// All volumes that it mounts.
pub(super) const VOLUMES: [&str; 4] = [CONFIG_VOLUME, IDENTITY_VOLUME, TRUST_VOLUME, RUN_VOLUME];
/// The volumes that the sidecar only reads; a pod may bring volumes of these names itself.
pub(super) const READ_VOLUMES: [&str; 3] = [CONFIG_VOLUME, IDENTITY_VOLUME, TRUST_VOLUME];
/// The volume with the sidecar's configuration.
pub(super) const CONFIG_VOLUME: &str = "warmline-config";
/// The `ConfigMap` with the environment of all other containers.
pub(super) const URLS: &str = "warmline-urls";

const RUN_FOLDER: &str = "/run/warmline";
const IDENTITY_VOLUME: &str = "warmline-identity";
const TRUST_VOLUME: &str = "warmline-trust";
/// The `ConfigMap` that is the configuration, unless an annotation names another.
const CONFIG: &str = "warmline";

/// What every sidecar is made by.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Its image.
    pub image: String,
    /// When kubelet pulls that.
    pub pull_policy: PullPolicy,
    /// Where its configuration comes from.
    pub config_source: ConfigSource,
    /// What the cluster is.
    pub platform: Platform,
    /// Whether the pod gets the annotations `prometheus.io/*`.
    pub prometheus_annotations: bool,
    /// What it asks for and may have, unless annotations say otherwise.
    pub resources: Defaults,
}

/// When kubelet pulls an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time.
    Always,
    /// Where the node does not have it.
    IfNotPresent,
    /// Never.
    Never,
}

/// Where the sidecar's configuration comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigSource {
    /// From the API server, and from the mounted copy until that answers.
    Watch,
    /// From the mounted copy alone.
    Mount,
}

/// What the cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Platform {
    /// The sidecar has a user of its own.
    Kubernetes,
    /// The namespace says which user containers run as.
    OpenShift,
}

/// The container.
pub(super) fn container(
    pod: Pod<'_>,
    settings: &Settings,
    wishes: &Wishes<'_>,
    resources: &Resources,
) -> Value {
    json!({
        "name": SIDECAR,
        "image": settings.image,
        "imagePullPolicy": settings.pull_policy.name(),
        "args": arguments(pod, settings, wishes),
        "restartPolicy": "Always",
        "ports": [{"name": METRICS_PORT_NAME, "containerPort": METRICS_PORT, "protocol": "TCP"}],
        // Fast pods: the next container waits for the first success.
        "startupProbe": probe("/startupz", 1, 120),
        "readinessProbe": probe("/readyz", 2, 2),
        "livenessProbe": probe("/livez", 10, 3),
        "resources": resources.to_json(),
        "securityContext": security_context(settings.platform),
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": mounts(),
    })
}

/// Those of its volumes that the pod does not bring itself.
pub(super) fn volumes(pod: Pod<'_>, wishes: &Wishes<'_>) -> Vec<Value> {
    let config = wishes.config.unwrap_or(CONFIG);
    let all = [
        json!({"name": CONFIG_VOLUME, "configMap": {"name": config}}),
        json!({"name": IDENTITY_VOLUME, "secret": {"secretName": IDENTITY_VOLUME, "optional": true}}),
        json!({"name": TRUST_VOLUME, "configMap": {"name": TRUST_VOLUME, "optional": true}}),
        // On disk it would keep the cluster autoscaler from removing the pod's node.
        json!({"name": RUN_VOLUME, "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}}),
    ];
    let brought = |volume: &Value| volume["name"].as_str().is_some_and(|name| pod.has_volume(name));
    all.into_iter().filter(|volume| !brought(volume)).collect()
}

/// Where other containers get the upstreams' addresses from.
pub(super) fn urls() -> Value {
    json!({"configMapRef": {"name": URLS, "optional": true}})
}

fn arguments(pod: Pod<'_>, settings: &Settings, wishes: &Wishes<'_>) -> Vec<String> {
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

/// The `ConfigMap` whose mounted copy is the configuration: that of the pod's own volume, where it brings one. A volume that
/// something else fills has none: there the files lead, unless an annotation names a `ConfigMap`.
fn watched<'a>(pod: Pod<'a>, wishes: &Wishes<'a>) -> Option<&'a str> {
    let of_volume = match pod.volume(CONFIG_VOLUME) {
        Some(own) if filling::is_filled_by_containers(own) => None,
        Some(own) => {
            own.get("configMap").and_then(|source| source.get("name")?.as_str()).or(Some(CONFIG))
        }
        None => Some(CONFIG),
    };
    wishes.config.or(of_volume)
}

fn probe(path: &str, period: u32, failures: u32) -> Value {
    json!({
        "httpGet": {"path": path, "port": METRICS_PORT_NAME},
        "periodSeconds": period,
        "failureThreshold": failures,
    })
}

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
    const fn name(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}
