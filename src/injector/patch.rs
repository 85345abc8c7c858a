//! What injection adds to a pod, as a JSON Patch. Nothing is ever overwritten.

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value};

use super::{
    annotations::Wishes,
    filling,
    pod::{Container, List, Pod},
    resources::Resources,
    sidecar::{self, METRICS_PORT, Settings, URLS},
};

/// The label by which sidecars are found.
const INJECTED: &str = "warmline.dev/injected";
/// The annotation that says which version a pod was injected with.
const VERSION: &str = "warmline.dev/version";
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Makes the pod one with a sidecar.
pub(super) fn injection(
    pod: Pod<'_>,
    settings: &Settings,
    wishes: &Wishes<'_>,
    resources: &Resources,
) -> Patch {
    let mut additions = Additions::default();
    additions.complete(pod.metadata, &["metadata", "labels"], &[(INJECTED, "true".into())]);
    additions.complete(pod.metadata, &["metadata", "annotations"], &annotations(pod, settings));
    // Before the sidecar moves the init containers' numbers.
    for container in pod.all_containers() {
        additions.environment(container);
    }
    let sidecar = sidecar::container(pod, settings, wishes, resources);
    let place = filling::place(pod).to_string();
    additions.insert(pod.spec, &["spec", List::Init.field()], &place, vec![sidecar]);
    additions.insert(pod.spec, &["spec", "volumes"], "-", sidecar::volumes(pod, wishes));
    Patch(additions.0)
}

fn annotations(pod: Pod<'_>, settings: &Settings) -> Vec<(&'static str, String)> {
    let mut all = vec![(VERSION, env!("CARGO_PKG_VERSION").to_owned())];
    let first = pod.containers().next().map(Container::name).unwrap_or_default();
    all.push((DEFAULT_CONTAINER, first.to_owned()));
    if settings.prometheus_annotations {
        all.push(("prometheus.io/scrape", "true".to_owned()));
        all.push(("prometheus.io/port", METRICS_PORT.to_string()));
        all.push(("prometheus.io/path", "/metrics".to_owned()));
    }
    all
}

#[derive(Default)]
struct Additions(Vec<PatchOperation>);

impl Additions {
    /// Those of these texts that the map, the last field of the path, does not have.
    fn complete(
        &mut self,
        parent: &Map<String, Value>,
        path: &[&str; 2],
        texts: &[(&str, String)],
    ) {
        let Some(there) = parent.get(path[1]).and_then(Value::as_object) else {
            let whole = texts.iter().map(|(key, text)| ((*key).to_owned(), text.as_str().into()));
            return self.add(path, Value::Object(whole.collect()));
        };
        for (key, text) in texts.iter().filter(|(key, _)| !there.contains_key(*key)) {
            self.add(&[path[0], path[1], key], text.as_str().into());
        }
    }

    /// The upstreams' addresses first, so that whatever the pod sets itself wins.
    fn environment(&mut self, container: Container<'_>) {
        let (index, urls) = (container.index.to_string(), sidecar::urls());
        let path = ["spec", container.list.field(), &index, "envFrom"];
        match container.env_from() {
            None => self.add(&path, vec![urls].into()),
            Some(there) if there.iter().any(has_urls) => {}
            Some(_) => self.add(&[path[0], path[1], path[2], path[3], "0"], urls),
        }
    }

    /// These elements at this place of the list, the last field of the path.
    fn insert(
        &mut self,
        parent: &Map<String, Value>,
        path: &[&str; 2],
        place: &str,
        elements: Vec<Value>,
    ) {
        if !parent.get(path[1]).is_some_and(Value::is_array) {
            return self.add(path, elements.into());
        }
        for element in elements {
            self.add(&[path[0], path[1], place], element);
        }
    }

    fn add(&mut self, path: &[&str], value: Value) {
        let path = PointerBuf::from_tokens(path.iter().copied());
        self.0.push(PatchOperation::Add(AddOperation { path, value }));
    }
}

fn has_urls(source: &Value) -> bool {
    source.get("configMapRef").and_then(|map| map.get("name")).and_then(Value::as_str) == Some(URLS)
}
