//! A pod as the API server sent it: a read-only view of the fields that the decision needs.
//!
//! The pod stays JSON, so that fields of newer API versions survive: the injector answers with a patch of the JSON that
//! it got.

use serde_json::{Map, Value};

/// The sidecar's name in `initContainers`.
pub(super) const SIDECAR: &str = "warmline";

/// A read-only view of a pod's JSON.
#[derive(Clone, Copy)]
pub(super) struct Pod<'a> {
    pub(super) metadata: &'a Map<String, Value>,
    pub(super) spec: &'a Map<String, Value>,
}

/// The pod's own request or limit (`spec.resources`) for one resource, which all its containers share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Budget {
    pub(super) is_limited: bool,
}

/// A read-only view of one container or init container.
#[derive(Clone, Copy)]
pub(super) struct Container<'a> {
    pub(super) list: List,
    pub(super) index: usize,
    value: &'a Value,
}

/// The list of the pod that a container is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Init,
    Main,
}

impl<'a> Pod<'a> {
    /// Reads a pod. Returns `None` if the object has no metadata, no spec or no container.
    pub(super) fn read(object: &'a Value) -> Option<Self> {
        let metadata = object.get("metadata")?.as_object()?;
        let spec = object.get("spec")?.as_object()?;
        let pod = Self { metadata, spec };
        pod.containers().next().map(|_| pod)
    }

    /// Returns the pod's name, or the prefix that its name will be generated from (`generateName`). For people only.
    pub(super) fn name(self) -> Option<&'a str> {
        let written = |key| self.metadata.get(key).and_then(Value::as_str);
        written("name").or_else(|| written("generateName")).filter(|name| !name.is_empty())
    }

    pub(super) fn namespace(self) -> Option<&'a str> {
        self.metadata.get("namespace")?.as_str()
    }

    pub(super) fn label(self, key: &str) -> Option<&'a str> {
        self.metadata.get("labels")?.get(key)?.as_str()
    }

    pub(super) fn annotation(self, key: &str) -> Option<&'a str> {
        self.metadata.get("annotations")?.get(key)?.as_str()
    }

    pub(super) fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let written = self.metadata.get("annotations").and_then(Value::as_object);
        let pairs = written.into_iter().flatten();
        pairs.filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }

    /// True if this field of the spec is `true`.
    pub(super) fn says(self, field: &str) -> bool {
        self.spec.get(field) == Some(&Value::Bool(true))
    }

    pub(super) fn is_for_windows(self) -> bool {
        let at = |field: &str, key: &str| self.spec.get(field).and_then(|inner| inner.get(key));
        let windows = |value: Option<&Value>| value.and_then(Value::as_str) == Some("windows");
        windows(at("os", "name")) || windows(at("nodeSelector", "kubernetes.io/os"))
    }

    /// Returns the user that the pod's containers run as, unless a container names another.
    pub(super) fn user(self) -> Option<i64> {
        self.spec.get("securityContext")?.get("runAsUser")?.as_i64()
    }

    /// Returns the pod's own budget of this resource, shared by all its containers; `None` if the pod sets no request
    /// and no limit of its own.
    pub(super) fn budget(self, resource: &str) -> Option<Budget> {
        let has = |side| self.spec.get("resources")?.get(side)?.get(resource);
        let is_limited = has("limits").is_some();
        (is_limited || has("requests").is_some()).then_some(Budget { is_limited })
    }

    pub(super) fn has_volume(self, name: &str) -> bool {
        self.volume(name).is_some()
    }

    /// Returns the pod's own volume of this name.
    pub(super) fn volume(self, name: &str) -> Option<&'a Value> {
        let mut volumes = self.list("volumes");
        volumes.find(|volume| volume.get("name").and_then(Value::as_str) == Some(name))
    }

    /// True if the pod has a native sidecar of Warmline's name already.
    pub(super) fn has_sidecar(self) -> bool {
        self.init_containers().any(Container::is_sidecar)
    }

    /// Returns all init containers, then all containers.
    pub(super) fn all_containers(self) -> impl Iterator<Item = Container<'a>> {
        self.init_containers().chain(self.containers())
    }

    pub(super) fn containers(self) -> impl Iterator<Item = Container<'a>> {
        self.numbered("containers", List::Main)
    }

    pub(super) fn init_containers(self) -> impl Iterator<Item = Container<'a>> {
        self.numbered(List::Init.field(), List::Init)
    }

    fn numbered(self, field: &str, list: List) -> impl Iterator<Item = Container<'a>> {
        let numbered = self.list(field).enumerate();
        numbered.map(move |(index, value)| Container { list, index, value })
    }

    fn list(self, field: &str) -> impl Iterator<Item = &'a Value> {
        self.spec.get(field).and_then(Value::as_array).into_iter().flatten()
    }
}

impl List {
    /// Returns the field of the spec that holds this list.
    pub(super) const fn field(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
        }
    }
}

impl<'a> Container<'a> {
    pub(super) fn name(self) -> &'a str {
        self.value.get("name").and_then(Value::as_str).unwrap_or_default()
    }

    pub(super) fn user(self) -> Option<i64> {
        self.value.get("securityContext")?.get("runAsUser")?.as_i64()
    }

    pub(super) fn mount_paths(self) -> impl Iterator<Item = &'a str> {
        self.items("volumeMounts").filter_map(|mount| mount.get("mountPath")?.as_str())
    }

    /// Returns the names of the volumes that the container mounts.
    pub(super) fn mounted_volumes(self) -> impl Iterator<Item = &'a str> {
        self.items("volumeMounts").filter_map(|mount| mount.get("name")?.as_str())
    }

    /// True if the container mounts this volume and may write to it.
    pub(super) fn writes(self, volume: &str) -> bool {
        self.items("volumeMounts").any(|mount| {
            mount.get("name").and_then(Value::as_str) == Some(volume)
                && mount.get("readOnly") != Some(&Value::Bool(true))
        })
    }

    pub(super) fn ports(self) -> impl Iterator<Item = &'a Value> {
        self.items("ports")
    }

    /// Returns the quantity of this resource that the container asks for (side `requests`) or may have (side `limits`),
    /// as written.
    pub(super) fn resource(self, side: &str, resource: &str) -> Option<&'a Value> {
        self.value.get("resources")?.get(side)?.get(resource)
    }

    /// Returns the container's sources of environment variables (`envFrom`); `None` if the container has no such list.
    pub(super) fn env_from(self) -> Option<&'a Vec<Value>> {
        self.value.get("envFrom")?.as_array()
    }

    fn is_sidecar(self) -> bool {
        let restarts = self.value.get("restartPolicy").and_then(Value::as_str);
        self.name() == SIDECAR && restarts == Some("Always")
    }

    fn items(self, field: &str) -> impl Iterator<Item = &'a Value> {
        self.value.get(field).and_then(Value::as_array).into_iter().flatten()
    }
}
