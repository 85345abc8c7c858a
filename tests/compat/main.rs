//! The files that users of version 0.1.0 have, kept in `0.1.0/`, go on working: these tests pass them to this version.
//!
//! Nothing in that folder is ever changed: a failing test here means that users would have to change something.
//! `metrics.txt` and `pools.json` are the answers of 0.1.0 after the requests of [`Sidecar::used`].
//! `tests/cluster/test_compat.py` renders the charts' values with Helm and runs the pod in a cluster.

#![allow(clippy::unwrap_used, reason = "in a test, a panic is how it fails")]

mod commands;
mod expressions;
mod labels;
mod metrics;
mod shape;
mod sidecar;

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;
use warmline::config::{self, Context, Disk};

use metrics::Metrics;
use sidecar::Sidecar;

/// Reads a file of version 0.1.0.
fn kept(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/compat/0.1.0").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(text: &str) -> Value {
    serde_yaml::from_str(text).unwrap()
}

#[track_caller]
fn nothing(lost: &[String], of: &str) {
    assert!(lost.is_empty(), "{of} lost:\n{}", lost.join("\n"));
}

#[test]
fn the_example_of_0_1_0_runs_and_its_pages_metrics_dashboard_and_alerts_have_what_they_had() {
    let sidecar = Sidecar::used();
    for probe in ["/startupz", "/readyz", "/livez"] {
        assert_eq!(sidecar.metrics(probe).status, 200, "{probe}");
    }
    let before = serde_json::from_str(&kept("pools.json")).unwrap();
    let pools = serde_json::from_str(&sidecar.admin("/pools?format=json").body).unwrap();
    nothing(&shape::lost(&before, &pools), "/pools?format=json");
    let before = Metrics::parse(&kept("metrics.txt"));
    let metrics = sidecar.metrics_with(&before);
    nothing(&metrics.lacks(&before), "/metrics");
    let dashboard = serde_json::from_str(&kept("dashboard.json")).unwrap();
    for expression in expressions::of_dashboard(&dashboard)
        .iter()
        .chain(&expressions::of_rules(&yaml(&kept("alerts.yaml"))))
    {
        nothing(&expressions::unmet(expression, &metrics), expression);
    }
}

#[test]
fn labels_have_the_values_that_they_had_in_0_1_0() {
    let before: Value = serde_json::from_str(&kept("labels.json")).unwrap();
    let now = labels::all();
    let before = before.as_object().unwrap();
    assert_eq!(before.len(), 16);
    for (label, values) in before {
        let values: BTreeSet<_> =
            values.as_array().unwrap().iter().map(|value| value.as_str().unwrap()).collect();
        let lost: Vec<_> = values.difference(&now[label.as_str()]).collect();
        assert!(lost.is_empty(), "{label} lost {lost:?}");
    }
}

/// Sidecars are confined, so that the configuration in the `ConfigMap` that the chart makes of these values has to fit
/// that.
#[test]
fn the_egress_charts_values_of_0_1_0_are_a_configuration_for_a_sidecar() {
    for name in ["egress-full", "egress-sample"] {
        let values = yaml(&kept(&format!("values/{name}.yaml")));
        let mut document = values.get("config").cloned().unwrap_or_else(|| serde_json::json!({}));
        document["upstreams"] = values["upstreams"].clone();
        let context = Context {
            source: name,
            terminal: false,
            files: &Disk,
            now: std::time::SystemTime::now(),
            in_force: None,
            confined: true,
        };
        match config::compile(&document.to_string(), &context) {
            Ok(plan) => assert!(!plan.upstreams.is_empty()),
            // The certificates are missing here; nothing else may be wrong.
            Err(errors) => assert!(errors.only_files(), "{errors}"),
        }
    }
}

#[test]
fn the_command_lines_in_the_manifests_of_0_1_0_are_understood() {
    // The pod as kubelet expands it.
    let pod = kept("pod.yaml").replace("$(WARMLINE_PAYMENTS_URL)", "http://127.0.0.1:13401");
    let pod = yaml(&pod);
    let injector = kept("webhook.yaml");
    let deployment =
        injector.split("\n---\n").map(yaml).find(|found| found["kind"] == "Deployment");
    let deployment = deployment.unwrap();
    let containers = [
        &pod["spec"]["initContainers"][0],
        &pod["spec"]["containers"][0],
        &deployment["spec"]["template"]["spec"]["containers"][0],
    ];
    for container in containers {
        commands::understood(&container["args"]);
    }
}
