//! The JSON Patch that adds a sidecar to a pod. The patch only adds, and never overwrites what the pod has.

use json_patch::{AddOperation, Patch, PatchOperation, jsonptr::PointerBuf};
use serde_json::{Map, Value};

use super::{
    annotations::AnnotatedSettings,
    filling,
    pod::{Container, List, Pod},
    resources::Resources,
    sidecar::{self, METRICS_PORT, Settings, URLS},
};

/// The label that injected pods carry, so that selectors find pods with a sidecar.
const INJECTED: &str = "warmline.dev/injected";
/// The annotation with the version of the injector that injected the pod.
const VERSION: &str = "warmline.dev/version";
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";

/// Makes the patch that gives the pod its sidecar: the container at its place, the volumes, a label and annotations,
/// and the upstreams' addresses in the environment of every other container.
pub(super) fn injection(
    pod: Pod<'_>,
    settings: &Settings,
    wishes: &AnnotatedSettings<'_>,
    resources: &Resources,
) -> Patch {
    let mut additions = Additions::default();
    additions.complete(pod.metadata, &["metadata", "labels"], &[(INJECTED, "true".into())]);
    additions.complete(pod.metadata, &["metadata", "annotations"], &annotations(pod, settings));
    // Before the sidecar is inserted, because that shifts the indexes of the init containers in the patch's paths.
    for container in pod.all_containers() {
        additions.environment(container);
    }
    let sidecar = sidecar::container(pod, settings, wishes, resources);
    let place = filling::place(pod).to_string();
    additions.insert(pod.spec, &["spec", List::Init.field()], &place, vec![sidecar]);
    additions.insert(pod.spec, &["spec", "volumes"], "-", sidecar::volumes(pod, wishes));
    Patch(additions.0)
}

/// Returns the annotations that the pod gets unless it has them: the injector's version, the first container as the
/// default for `kubectl`, and, if the settings say so, those for Prometheus.
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
    /// Adds those of these texts whose keys the map does not have yet. `path` leads to the map, whose field in `parent`
    /// is its last part; a missing map is added whole.
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

    /// Adds the upstreams' addresses to the container's environment, unless that source is there already. They become
    /// the first source, because later sources win: so a variable that the pod sets itself keeps its value.
    fn environment(&mut self, container: Container<'_>) {
        let (index, urls) = (container.index.to_string(), sidecar::urls());
        let path = ["spec", container.list.field(), &index, "envFrom"];
        match container.env_from() {
            None => self.add(&path, vec![urls].into()),
            Some(there) if there.iter().any(has_urls) => {}
            Some(_) => self.add(&[path[0], path[1], path[2], path[3], "0"], urls),
        }
    }

    /// Inserts these elements at this place (an index, or `-` for the end) into a list. `path` leads to the list, whose
    /// field in `parent` is its last part; a missing list is added whole.
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
