//! The decision as tables: additions, pods that are left alone, and refusals with their words.

use proptest::{collection::vec, prelude::*};
use serde_json::{Value, json};

use super::*;
use crate::injector::{
    resources::{Bounds, Defaults},
    sidecar::{ConfigSource, Platform, PullPolicy},
};

fn settings() -> Settings {
    let bounds = |request: &str, limit: Option<&str>| Bounds {
        request: request.into(),
        limit: limit.map(Into::into),
    };
    Settings {
        image: "warmline/warmline:1".into(),
        pull_policy: PullPolicy::IfNotPresent,
        config_source: ConfigSource::Watch,
        platform: Platform::Kubernetes,
        prometheus_annotations: false,
        resources: Defaults { cpu: bounds("10m", None), memory: bounds("32Mi", Some("128Mi")) },
    }
}

/// Makes a pod that asks for a sidecar, with these fields merged into it (JSON Merge Patch).
fn asking(fields: &Value) -> Value {
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "a", "namespace": "shop", "labels": {"warmline.dev/inject": "true"}},
        "spec": {"containers": [{"name": "app", "image": "app:1"}]},
    });
    json_patch::merge(&mut pod, fields);
    pod
}

/// Makes the same pod without its label, as if only its namespace asked.
fn asked_for(fields: &Value) -> Value {
    let mut pod = asking(fields);
    pod["metadata"]["labels"].as_object_mut().unwrap().remove("warmline.dev/inject");
    pod
}

/// Injects the pod and returns the result. Asserts that a second injection leaves the result alone.
fn injected_by(settings: &Settings, pod: &Value) -> Value {
    let Decision::Inject(patch) = decide(pod, settings) else {
        panic!("not injected: {:?}", decide(pod, settings))
    };
    let mut after = pod.clone();
    json_patch::patch(&mut after, &patch).unwrap();
    assert_eq!(decide(&after, settings), Decision::LeaveAlone("it has its sidecar"));
    after
}

fn injected(pod: &Value) -> Value {
    injected_by(&settings(), pod)
}

fn sidecar_of(pod: &Value) -> &Value {
    let first = &pod["spec"]["initContainers"][0];
    assert_eq!(first["name"], "warmline");
    first
}

/// Returns the obstacles of a pod with these fields, without the words before them. Asserts that they are the same if
/// the pod asks and if its namespace asks.
fn obstacles(settings: &Settings, fields: &Value) -> String {
    let Decision::Deny(denied) = decide(&asking(fields), settings) else {
        panic!("not denied: {:?}", decide(&asking(fields), settings))
    };
    let denied = denied.strip_prefix("warmline cannot be injected: ").unwrap().to_owned();
    let skipped = Decision::Skip(format!("warmline is not injected: {denied}"));
    assert_eq!(decide(&asked_for(fields), settings), skipped, "the same words for a namespace");
    denied
}

fn obstacle(fields: &Value) -> String {
    obstacles(&settings(), fields)
}

#[test]
fn a_plain_pod_becomes_exactly_this() {
    let urls = json!([{"configMapRef": {"name": "warmline-urls", "optional": true}}]);
    let expected = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "namespace": "shop",
            "labels": {"warmline.dev/inject": "true", "warmline.dev/injected": "true"},
            "annotations": {
                "warmline.dev/version": env!("CARGO_PKG_VERSION"),
                "kubectl.kubernetes.io/default-container": "app",
            },
        },
        "spec": {
            "initContainers": [{
                "name": "warmline",
                "image": "warmline/warmline:1",
                "imagePullPolicy": "IfNotPresent",
                "args": ["run", "--confined", "--config", "/etc/warmline/config/config.yaml",
                    "--configmap", "warmline", "--keep", "/run/warmline"],
                "restartPolicy": "Always",
                "ports": [{"name": "warmline-prom", "containerPort": 13320, "protocol": "TCP"}],
                "startupProbe": {"httpGet": {"path": "/startupz", "port": "warmline-prom"},
                    "periodSeconds": 1, "failureThreshold": 120},
                "readinessProbe": {"httpGet": {"path": "/readyz", "port": "warmline-prom"},
                    "periodSeconds": 2, "failureThreshold": 2},
                "livenessProbe": {"httpGet": {"path": "/livez", "port": "warmline-prom"},
                    "periodSeconds": 10, "failureThreshold": 3},
                "resources": {"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}},
                "securityContext": {
                    "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": true, "runAsNonRoot": true,
                    "runAsUser": 13301, "runAsGroup": 13301,
                    "seccompProfile": {"type": "RuntimeDefault"},
                },
                "terminationMessagePolicy": "FallbackToLogsOnError",
                "volumeMounts": [
                    {"name": "warmline-config", "mountPath": "/etc/warmline/config", "readOnly": true},
                    {"name": "warmline-identity", "mountPath": "/etc/warmline/identity", "readOnly": true},
                    {"name": "warmline-trust", "mountPath": "/etc/warmline/trust", "readOnly": true},
                    {"name": "warmline-run", "mountPath": "/run/warmline"},
                ],
            }],
            "containers": [{"name": "app", "image": "app:1", "envFrom": urls}],
            "volumes": [
                {"name": "warmline-config", "configMap": {"name": "warmline"}},
                {"name": "warmline-identity", "secret": {"secretName": "warmline-identity", "optional": true}},
                {"name": "warmline-trust", "configMap": {"name": "warmline-trust", "optional": true}},
                {"name": "warmline-run", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
            ],
        },
    });
    assert_eq!(injected(&asking(&json!({}))), expected);
}

#[test]
fn a_pod_of_a_namespace_that_asked_gets_the_same_sidecar() {
    let (own, namespaces) = (injected(&asking(&json!({}))), injected(&asked_for(&json!({}))));
    assert_eq!(own["spec"], namespaces["spec"]);
    assert_eq!(namespaces["metadata"]["labels"], json!({"warmline.dev/injected": "true"}));
}

#[test]
fn a_pod_without_labels_and_with_null_lists_is_injected() {
    let pod = json!({
        "metadata": {"generateName": "a-", "creationTimestamp": null, "labels": null, "annotations": null},
        "spec": {"containers": [{"name": "app", "envFrom": null}], "initContainers": null, "volumes": null},
    });
    let after = injected(&pod);
    assert_eq!(after["metadata"]["labels"], json!({"warmline.dev/injected": "true"}));
    assert_eq!(after["spec"]["initContainers"].as_array().unwrap().len(), 1);
    assert_eq!(after["spec"]["volumes"].as_array().unwrap().len(), 4);
    assert_eq!(after["spec"]["containers"][0]["envFrom"].as_array().unwrap().len(), 1);
}

#[test]
fn a_patch_overwrites_nothing_and_loses_nothing() {
    let pod = asking(&json!({
        "metadata": {
            "labels": {"app": "x", "warmline.dev/injected": "mine"},
            "annotations": {"kubectl.kubernetes.io/default-container": "other", "prometheus.io/port": "8080",
                "a/b~c": "kept"},
            "managedFields": [{"manager": "kubectl"}],
        },
        "spec": {
            "aFieldOfTheFuture": {"deep": [1, {"x": null}]},
            "initContainers": [
                {"name": "first", "env": [{"name": "A", "value": "1"}]},
                {"name": "proxy", "restartPolicy": "Always", "future": true,
                    "envFrom": [{"secretRef": {"name": "s"}}, {"configMapRef": {"name": "c"}}]},
            ],
            "containers": [
                {"name": "app", "env": [{"name": "WARMLINE_PAYMENTS_URL", "value": "mine"}], "envFrom": []},
                {"name": "other", "envFrom": [{"configMapRef": {"name": "x"}}], "resizePolicy": []},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        },
    }));
    let with_annotations = Settings { prometheus_annotations: true, ..settings() };
    let after = injected_by(&with_annotations, &pod);
    let labels = &after["metadata"]["labels"];
    assert_eq!(labels["warmline.dev/injected"], "mine");
    let annotations = &after["metadata"]["annotations"];
    assert_eq!(annotations["kubectl.kubernetes.io/default-container"], "other");
    assert_eq!(annotations["prometheus.io/port"], "8080");
    assert_eq!(annotations["prometheus.io/scrape"], "true");
    assert_eq!(annotations["prometheus.io/path"], "/metrics");
    let names = |list: &Value| -> Vec<String> {
        let names = list.as_array().unwrap().iter();
        names.map(|one| one["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(&after["spec"]["initContainers"]), ["warmline", "first", "proxy"]);
    assert_eq!(
        after["spec"]["initContainers"][2]["envFrom"][0]["configMapRef"]["name"],
        "warmline-urls"
    );
    assert_eq!(after["spec"]["initContainers"][2]["envFrom"][2]["configMapRef"]["name"], "c");
    assert!(after["spec"]["initContainers"][0].get("envFrom").is_none());
    assert_eq!(without_ours(after), without_ours(pod));
}

/// Returns the pod without all that injection adds.
fn without_ours(mut pod: Value) -> Value {
    let keep = |list: &mut Value, gone: &dyn Fn(&Value) -> bool| {
        if let Some(list) = list.as_array_mut() {
            list.retain(|one| !gone(one));
        }
    };
    for annotation in ["warmline.dev/version", "prometheus.io/scrape", "prometheus.io/path"] {
        pod["metadata"]["annotations"].as_object_mut().unwrap().remove(annotation);
    }
    keep(&mut pod["spec"]["initContainers"], &|one| one["name"] == "warmline");
    keep(&mut pod["spec"]["volumes"], &|one| {
        one["name"].as_str().unwrap().starts_with("warmline-")
    });
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().unwrap() {
            keep(&mut container["envFrom"], &|one| one["configMapRef"]["name"] == "warmline-urls");
            if container["envFrom"].is_null() || container["envFrom"] == json!([]) {
                container.as_object_mut().unwrap().remove("envFrom");
            }
        }
    }
    pod
}

#[test]
fn volumes_that_the_pod_brings_are_mounted_instead_of_ours() {
    let pod = asking(&json!({"spec": {"volumes": [
        {"name": "warmline-identity", "csi": {"driver": "csi.cert-manager.io"}},
        {"name": "warmline-trust", "projected": {"sources": []}},
    ]}}));
    let after = injected(&pod);
    assert_eq!(
        after["spec"]["volumes"],
        json!([
            {"name": "warmline-identity", "csi": {"driver": "csi.cert-manager.io"}},
            {"name": "warmline-trust", "projected": {"sources": []}},
            {"name": "warmline-config", "configMap": {"name": "warmline"}},
            {"name": "warmline-run", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
        ])
    );
    assert_eq!(sidecar_of(&after)["volumeMounts"].as_array().unwrap().len(), 4);
}

/// The cluster autoscaler counts an `emptyDir` on disk as data that a pod would lose, and leaves the pod's node alone.
#[test]
fn fault_22_volumes_that_injection_adds_keep_no_node_from_being_scaled_down() {
    let after = injected(&asking(&json!({})));
    for volume in after["spec"]["volumes"].as_array().unwrap() {
        assert!(volume.get("hostPath").is_none(), "{volume}");
        if let Some(folder) = volume.get("emptyDir") {
            assert_eq!(*folder, json!({"medium": "Memory", "sizeLimit": "4Mi"}), "{volume}");
        }
    }
    let annotations = after["metadata"]["annotations"].as_object().unwrap();
    assert!(!annotations.keys().any(|key| key.contains("autoscaler")), "that is the pod's own");
}

/// Makes the fields of a pod with these volumes, init containers and containers, each of them with its name and its
/// mounts.
fn filling(volumes: &Value, init: &[(&str, Value)], main: &[(&str, Value)]) -> Value {
    let containers = |list: &[(&str, Value)]| -> Value {
        let named = |(name, mounts): &(&str, Value)| json!({"name": name, "volumeMounts": mounts});
        list.iter().map(named).collect()
    };
    json!({"spec": {"volumes": volumes, "initContainers": containers(init), "containers": containers(main)}})
}

fn init_names(pod: &Value) -> Vec<&str> {
    let containers = pod["spec"]["initContainers"].as_array().unwrap().iter();
    containers.map(|container| container["name"].as_str().unwrap()).collect()
}

fn written(volume: &str) -> Value {
    json!([{"name": volume, "mountPath": "/out"}])
}

fn read(volume: &str) -> Value {
    json!([{"name": volume, "mountPath": "/in", "readOnly": true}])
}

#[test]
fn fault_21_the_sidecar_comes_right_behind_the_init_containers_that_fill_its_volumes() {
    for kind in ["emptyDir", "ephemeral", "persistentVolumeClaim"] {
        for volume in ["warmline-identity", "warmline-trust", "warmline-config"] {
            let pod = asking(&filling(
                &json!([{"name": volume, kind: {}}]),
                &[
                    ("before", json!([])),
                    ("first", written(volume)),
                    ("second", written(volume)),
                    ("reader", read(volume)),
                ],
                &[("app", json!([]))],
            ));
            let after = injected(&pod);
            let names = ["before", "first", "second", "warmline", "reader"];
            assert_eq!(init_names(&after), names, "{kind} {volume}");
            let patched = &after["spec"]["initContainers"][4];
            assert_eq!(patched["envFrom"][0]["configMapRef"]["name"], "warmline-urls");
        }
    }
}

#[test]
fn fault_21_a_native_sidecar_that_goes_on_writing_comes_before_ours_too() {
    let mut pod = asking(&filling(
        &json!([{"name": "warmline-identity", "emptyDir": {"medium": "Memory"}}]),
        &[("helper", written("warmline-identity")), ("migrate", json!([]))],
        &[("app", json!([])), ("renewer", written("warmline-identity"))],
    ));
    pod["spec"]["initContainers"][0]["restartPolicy"] = "Always".into();
    assert_eq!(init_names(&injected(&pod)), ["helper", "warmline", "migrate"]);
}

#[test]
fn fault_21_containers_that_only_read_or_write_volumes_that_others_fill_leave_the_sidecar_first() {
    for (source, mounts) in [
        (json!({"emptyDir": {}}), read("warmline-identity")),
        (json!({"secret": {"secretName": "x"}}), written("warmline-identity")),
        (json!({"csi": {"driver": "csi.cert-manager.io"}}), written("warmline-identity")),
        (json!({"projected": {"sources": []}}), written("warmline-identity")),
        (json!({"emptyDir": null, "configMap": {"name": "x"}}), written("warmline-identity")),
    ] {
        let mut volume = source.clone();
        volume["name"] = "warmline-identity".into();
        let pod = filling(&json!([volume]), &[("init", mounts)], &[("app", json!([]))]);
        assert_eq!(init_names(&injected(&asking(&pod))), ["warmline", "init"], "{source}");
    }
    let pod = filling(
        &json!([{"name": "data", "emptyDir": {}}]),
        &[("init", written("data"))],
        &[("app", json!([]))],
    );
    assert_eq!(init_names(&injected(&asking(&pod))), ["warmline", "init"], "another volume");
}

#[test]
fn fault_21_a_volume_that_nobody_fills_in_time_is_refused_in_words() {
    let text = |volumes: &str| {
        format!(
            "these volumes begin empty, and no init container fills them before the sidecar starts (let one write them, with \
             restartPolicy: Always if it goes on writing): {volumes}"
        )
    };
    let nothing = json!([]);
    let config = json!([{"name": "warmline-config", "emptyDir": {}}]);
    let app = [("app", nothing.clone())];
    assert_eq!(obstacle(&filling(&config, &[], &app)), text("warmline-config"));
    let reader = [("init", read("warmline-config"))];
    assert_eq!(obstacle(&filling(&config, &reader, &app)), text("warmline-config"));
    let late = [("app", nothing.clone()), ("helper", written("warmline-config"))];
    assert_eq!(obstacle(&filling(&config, &[], &late)), text("warmline-config"));

    let others = json!([
        {"name": "warmline-identity", "emptyDir": {}},
        {"name": "warmline-trust", "ephemeral": {"volumeClaimTemplate": {}}},
    ]);
    let both = json!([{"name": "warmline-identity", "mountPath": "/a"}, {"name": "warmline-trust", "mountPath": "/b"}]);
    let late = [("app", nothing.clone()), ("helper", both)];
    assert_eq!(obstacle(&filling(&others, &[], &late)), text("warmline-identity, warmline-trust"));
    // Without a container that writes them the volumes stay empty, which is right if the configuration names no file in
    // them.
    injected(&asking(&filling(&others, &[], &app)));
    // The volume of a claim may have been filled earlier.
    let claim = json!([{"name": "warmline-config", "persistentVolumeClaim": {"claimName": "x"}}]);
    injected(&asking(&filling(&claim, &[], &app)));
}

#[test]
fn fault_21_the_watched_configmap_is_the_one_whose_copy_is_mounted() {
    let watched = |volume: Value, annotations: Value| {
        let pod = asking(&json!({
            "metadata": {"annotations": annotations},
            "spec": {
                "volumes": [volume],
                "initContainers": [{"name": "init", "volumeMounts": written("warmline-config")}],
            },
        }));
        let after = injected(&pod);
        let containers = after["spec"]["initContainers"].as_array().unwrap();
        let sidecar = containers.iter().find(|one| one["name"] == "warmline").unwrap();
        let words: Vec<_> =
            sidecar["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
        let at = words.iter().position(|word| *word == "--configmap");
        at.map(|at| words[at + 1].to_owned())
    };
    let none = || json!({});
    let own = |source: Value| {
        let mut volume = source;
        volume["name"] = "warmline-config".into();
        volume
    };
    let named = |name: &str| Some(name.to_owned());
    let mount = own(json!({"configMap": {"name": "shop-egress"}}));
    assert_eq!(watched(mount.clone(), none()), named("shop-egress"));
    let annotated = json!({"warmline.dev/config": "other"});
    assert_eq!(watched(mount, annotated.clone()), named("other"));
    assert_eq!(watched(own(json!({"emptyDir": {}})), none()), None);
    assert_eq!(watched(own(json!({"emptyDir": {}})), annotated), named("other"));
    assert_eq!(watched(own(json!({"projected": {"sources": []}})), none()), named("warmline"));
    let plain = sidecar_of(&injected(&asking(&none())))["args"].to_string();
    assert!(plain.contains("\"--configmap\",\"warmline\""), "{plain}");
}

#[test]
fn annotations_choose_configuration_log_level_and_resources() {
    let after = injected(&asking(&json!({"metadata": {"annotations": {
        "warmline.dev/config": "payments", "warmline.dev/log-level": "debug",
        "warmline.dev/cpu-request": "20m", "warmline.dev/cpu-limit": "0.5",
        "warmline.dev/memory-request": "48Mi", "warmline.dev/memory-limit": "1Gi",
    }}})));
    let sidecar = sidecar_of(&after);
    assert_eq!(
        sidecar["args"],
        json!([
            "run",
            "--confined",
            "--config",
            "/etc/warmline/config/config.yaml",
            "--configmap",
            "payments",
            "--keep",
            "/run/warmline",
            "--log-level",
            "debug"
        ])
    );
    assert_eq!(after["spec"]["volumes"][0]["configMap"], json!({"name": "payments"}));
    assert_eq!(
        sidecar["resources"],
        json!({"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": {"cpu": "0.5", "memory": "1Gi"}})
    );
}

#[test]
fn settings_choose_source_platform_and_pull_policy() {
    let settings = Settings {
        config_source: ConfigSource::Mount,
        platform: Platform::OpenShift,
        pull_policy: PullPolicy::Never,
        ..settings()
    };
    let after = injected_by(&settings, &asking(&json!({})));
    let sidecar = sidecar_of(&after);
    let words = [
        "run",
        "--confined",
        "--config",
        "/etc/warmline/config/config.yaml",
        "--keep",
        "/run/warmline",
    ];
    assert_eq!(sidecar["args"], json!(words));
    assert_eq!(sidecar["imagePullPolicy"], "Never");
    let context = &sidecar["securityContext"];
    assert!(context.get("runAsUser").is_none() && context.get("runAsGroup").is_none());
    assert_eq!(context["runAsNonRoot"], true);
}

#[test]
fn a_guaranteed_pod_stays_guaranteed() {
    let fixed = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
    let only_limits = json!({"limits": {"cpu": "2", "memory": "2G"}});
    let resources = |annotations: Value| {
        let pod = asking(&json!({
            "metadata": {"annotations": annotations},
            "spec": {
                "containers": [{"name": "app", "resources": fixed}],
                "initContainers": [{"name": "init", "resources": only_limits}],
            },
        }));
        sidecar_of(&injected(&pod))["resources"].clone()
    };
    let both = |cpu: &str, memory: &str| {
        let amounts = json!({"cpu": cpu, "memory": memory});
        json!({"requests": amounts, "limits": amounts})
    };
    assert_eq!(resources(json!({})), both("100m", "128Mi"));
    assert_eq!(resources(json!({"warmline.dev/cpu-limit": "50m"})), both("50m", "128Mi"));
    assert_eq!(resources(json!({"warmline.dev/cpu-request": "200m"})), both("200m", "128Mi"));
    let memory =
        json!({"warmline.dev/memory-request": "16Mi", "warmline.dev/memory-limit": "64Mi"});
    assert_eq!(resources(memory), both("100m", "64Mi"));
}

#[test]
fn a_pod_is_guaranteed_only_where_every_container_fixes_both() {
    for resources in [
        json!(null),
        json!({"limits": {"cpu": "1"}}),
        json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}}),
        json!({"requests": {"cpu": "1", "memory": "1Gi"}}),
    ] {
        let pod = asking(&json!({"spec": {"containers": [
            {"name": "app", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}},
            {"name": "other", "resources": resources},
        ]}}));
        let expected =
            json!({"requests": {"cpu": "10m", "memory": "32Mi"}, "limits": {"memory": "128Mi"}});
        assert_eq!(sidecar_of(&injected(&pod))["resources"], expected, "{resources}");
    }
}

#[test]
fn of_what_the_pod_has_a_budget_for_the_sidecar_asks_for_nothing_unless_annotations_say_so() {
    let resources = |budget: Value, annotations: Value| {
        let limits = json!({"cpu": "1", "memory": "1Gi"});
        let pod = asking(&json!({
            "metadata": {"annotations": annotations},
            "spec": {"resources": budget, "containers": [{"name": "app", "resources": {"limits": limits}}]},
        }));
        sidecar_of(&injected(&pod))["resources"].clone()
    };
    let both = json!({"cpu": "2", "memory": "2Gi"});
    let nothing = json!({"requests": {"cpu": "0", "memory": "0"}});
    assert_eq!(resources(json!({"requests": both, "limits": both}), json!({})), nothing);
    assert_eq!(resources(json!({"limits": both}), json!({})), nothing);
    let memory = json!({"requests": {"memory": "2Gi"}});
    assert_eq!(
        resources(memory.clone(), json!({})),
        json!({"requests": {"cpu": "10m", "memory": "0"}, "limits": {"memory": "128Mi"}}),
        "the pod's memory has no limit, and it is not Guaranteed"
    );
    let annotated =
        json!({"warmline.dev/memory-request": "16Mi", "warmline.dev/memory-limit": "64Mi"});
    assert_eq!(
        resources(memory, annotated),
        json!({"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}})
    );
    let limit = resources(json!({"limits": both}), json!({"warmline.dev/memory-limit": "64Mi"}));
    assert_eq!(
        limit,
        json!({"requests": {"cpu": "0", "memory": "0"}, "limits": {"memory": "64Mi"}})
    );
    let refused = obstacle(&json!({
        "metadata": {"annotations": {"warmline.dev/cpu-request": "2", "warmline.dev/cpu-limit": "1"}},
        "spec": {"resources": {"limits": both}},
    }));
    assert!(refused.starts_with("the sidecar's cpu request 2 is above its limit 1,"), "{refused}");
}

#[test]
fn pods_that_said_no_that_have_a_sidecar_or_that_nobody_can_change_are_left_alone() {
    let no = asking(
        &json!({"metadata": {"labels": {"warmline.dev/inject": "false"}}, "spec": {"hostNetwork": true}}),
    );
    assert_eq!(decide(&no, &settings()), Decision::LeaveAlone("its label says no"));
    let mirror =
        asking(&json!({"metadata": {"annotations": {"kubernetes.io/config.mirror": "hash"}}}));
    assert_eq!(decide(&mirror, &settings()), Decision::LeaveAlone("it is a mirror pod"));
    // The sidecar was written into the pod by hand, is not the first init container, and the pod has a volume that is
    // otherwise refused.
    let by_hand = asking(&json!({
        "metadata": {"annotations": {"warmline.dev/version": "0.0.1"}},
        "spec": {
            "initContainers": [{"name": "istio-proxy"}, {"name": "warmline", "restartPolicy": "Always"}],
            "volumes": [{"name": "warmline-run", "emptyDir": {}}],
        },
    }));
    assert_eq!(decide(&by_hand, &settings()), Decision::LeaveAlone("it has its sidecar"));
}

#[test]
fn an_object_that_is_not_a_pod_is_refused() {
    for object in [
        json!(null),
        json!("pod"),
        json!([]),
        json!({}),
        json!({"metadata": {}, "spec": {}}),
        json!({"metadata": {}, "spec": {"containers": []}}),
        json!({"metadata": {}, "spec": {"containers": "x"}}),
        json!({"metadata": [], "spec": {"containers": [{"name": "a"}]}}),
        json!({"spec": {"containers": [{"name": "a"}]}}),
    ] {
        let refused = Decision::Deny("the object in the review is not a pod".into());
        assert_eq!(decide(&object, &settings()), refused, "{object}");
    }
}

#[test]
fn hosts_namespaces_are_refused() {
    for (field, text) in [
        ("hostNetwork", "hostNetwork is set, so that loopback is the node's"),
        ("hostPID", "hostPID is set, so that processes of the node are in reach"),
    ] {
        assert_eq!(obstacle(&json!({"spec": {field: true}})), text);
        injected(&asking(&json!({"spec": {field: false}})));
    }
}

#[test]
fn shared_processes_are_refused_where_another_could_read_the_key() {
    let shared = |fields: Value| {
        let mut spec = json!({"shareProcessNamespace": true});
        json_patch::merge(&mut spec, &fields);
        json!({ "spec": spec })
    };
    injected(&asking(&shared(json!({}))));
    injected(&asking(&shared(json!({"securityContext": {"runAsUser": 1000}}))));
    assert_eq!(
        obstacle(&shared(json!({"securityContext": {"runAsUser": 13301}}))),
        "shareProcessNamespace is set and the pod runs as user 13301, which is the sidecar's, so that other \
         containers could read its key"
    );
    let containers = json!({
        "initContainers": [{"name": "init", "securityContext": {"runAsUser": 13301}}],
        "containers": [{"name": "app"}, {"name": "b", "securityContext": {"runAsUser": 13301}}],
    });
    assert_eq!(
        obstacle(&shared(containers.clone())),
        "shareProcessNamespace is set and these run as user 13301, which is the sidecar's, so that they could read \
         its key: init, b"
    );
    injected(&asking(&json!({ "spec": containers })));
    let openshift = Settings { platform: Platform::OpenShift, ..settings() };
    assert_eq!(
        obstacles(&openshift, &shared(json!({}))),
        "shareProcessNamespace is set, and on this platform the sidecar has no user of its own, so that other \
         containers could read its key"
    );
}

#[test]
fn windows_is_refused() {
    for spec in [
        json!({"os": {"name": "windows"}}),
        json!({"nodeSelector": {"kubernetes.io/os": "windows"}}),
    ] {
        let text = "the pod is for Windows, and the sidecar for Linux";
        assert_eq!(obstacle(&json!({ "spec": spec })), text);
    }
    injected(&asking(&json!({"spec": {"os": {"name": "linux"}}})));
}

#[test]
fn another_container_of_the_sidecars_name_is_refused() {
    let text = "the container name warmline is the sidecar's, and the pod has another container of that name";
    for spec in [
        json!({"containers": [{"name": "app"}, {"name": "warmline"}]}),
        json!({"initContainers": [{"name": "warmline"}]}),
    ] {
        assert_eq!(obstacle(&json!({ "spec": spec })), text, "{spec}");
    }
}

#[test]
fn the_sidecars_own_volume_is_refused() {
    assert_eq!(
        obstacle(&json!({"spec": {"volumes": [{"name": "warmline-run", "emptyDir": {}}]}})),
        "the volume warmline-run is the sidecar's, and the pod has another volume of that name"
    );
}

#[test]
fn the_sidecars_mount_paths_are_refused_with_who_has_them() {
    let mounts = |paths: &[&str]| {
        let mounts: Vec<_> =
            paths.iter().map(|path| json!({"name": "v", "mountPath": path})).collect();
        json!(mounts)
    };
    assert_eq!(
        obstacle(&json!({"spec": {
            "initContainers": [{"name": "init", "volumeMounts": mounts(&["/run/warmline/"])}],
            "containers": [{"name": "app", "volumeMounts": mounts(&["/data", "/etc/warmline", "/etc/warmline/config"])}],
        }})),
        "the mount paths /etc/warmline and /run/warmline are the sidecar's, and others mount there: init \
         /run/warmline/, app /etc/warmline, app /etc/warmline/config"
    );
    let others =
        mounts(&["/etc", "/run", "/etc/warmline2", "/var/run/warmline", "/data/etc/warmline"]);
    injected(&asking(&json!({"spec": {"containers": [{"name": "app", "volumeMounts": others}]}})));
}

#[test]
fn the_sidecars_volumes_are_refused_to_others_that_mount_them_by_name() {
    let mounts = |names: &[&str]| {
        let mounts: Vec<_> = names
            .iter()
            .map(|name| json!({"name": name, "mountPath": format!("/{name}")}))
            .collect();
        json!(mounts)
    };
    let words = "the volumes warmline-config, warmline-identity, warmline-trust and warmline-run are the sidecar's, \
                 and others mount them";
    assert_eq!(
        obstacle(&json!({"spec": {
            "initContainers": [{"name": "init", "volumeMounts": mounts(&["warmline-trust"])}],
            "containers": [
                {"name": "app", "volumeMounts": mounts(&["data", "warmline-identity", "warmline-run"])},
                {"name": "b", "volumeMounts": mounts(&["warmline-config"])},
            ],
            "volumes": [{"name": "data", "emptyDir": {}}],
        }})),
        format!(
            "{words}: init warmline-trust, app warmline-identity, app warmline-run, b warmline-config"
        )
    );
    // A pod's containers may mount volumes that the pod brings itself, except for `warmline-run`, which it may not
    // bring.
    let brought = ["warmline-config", "warmline-identity", "warmline-trust"];
    let volumes = |names: &[&str]| {
        let volumes: Vec<_> =
            names.iter().map(|name| json!({"name": name, "projected": {"sources": []}})).collect();
        json!(volumes)
    };
    let own = json!({"spec": {
        "containers": [{"name": "app", "volumeMounts": mounts(&brought)}], "volumes": volumes(&brought)}});
    injected(&asking(&own));
    let run = obstacle(&json!({"spec": {
        "containers": [{"name": "app", "volumeMounts": mounts(&["warmline-run"])}],
        "volumes": volumes(&["warmline-run"])}}));
    assert!(run.ends_with(&format!("; {words}: app warmline-run")), "{run}");
    let others = mounts(&["warmline", "warmline-run2", "warmline-prom"]);
    injected(&asking(&json!({"spec": {"containers": [{"name": "app", "volumeMounts": others}]}})));
}

#[test]
fn the_sidecars_ports_are_refused_with_who_has_them() {
    assert_eq!(
        obstacle(&json!({"spec": {
            "initContainers": [{"name": "init", "ports": [{"containerPort": 13320, "name": "warmline-prom"}]}],
            "containers": [
                {"name": "app", "ports": [{"containerPort": 8080}, {"containerPort": 13301, "protocol": "TCP"}]},
                {"name": "b", "ports": [{"containerPort": 9090, "name": "warmline-prom"},
                    {"containerPort": 13321, "protocol": "TCP", "name": "x"}]},
            ],
        }})),
        "the ports 13301, 13320, 13321 and the port name warmline-prom are the sidecar's, and others have them: init \
         13320, app 13301, b warmline-prom, b 13321"
    );
    let others = json!([{"containerPort": 13320, "protocol": "UDP"}, {"containerPort": 13401, "hostPort": 13320}]);
    injected(&asking(&json!({"spec": {"containers": [{"name": "app", "ports": others}]}})));
}

#[test]
fn a_request_above_its_limit_is_refused_whoever_set_the_other() {
    let text = |name: &str, request: &str, limit: &str| {
        format!(
            "the sidecar's {name} request {request} is above its limit {limit}, and the annotations \
             warmline.dev/{name}-request and warmline.dev/{name}-limit set them"
        )
    };
    let annotated = |pairs: &[(&str, &str)]| {
        let pairs = pairs.iter().map(|(key, value)| (format!("warmline.dev/{key}"), json!(value)));
        json!({"metadata": {"annotations": Value::Object(pairs.collect())}})
    };
    let high = annotated(&[("memory-request", "256Mi")]);
    assert_eq!(obstacle(&high), text("memory", "256Mi", "128Mi"));
    let low = annotated(&[("memory-limit", "16Mi")]);
    assert_eq!(obstacle(&low), text("memory", "32Mi", "16Mi"));
    assert_eq!(obstacle(&annotated(&[("cpu-limit", "5m")])), text("cpu", "10m", "5m"));
    let both = annotated(&[("cpu-request", "2"), ("cpu-limit", "1999m")]);
    assert_eq!(obstacle(&both), text("cpu", "2", "1999m"));
    let mut guaranteed = both.clone();
    guaranteed["spec"] = json!({"containers": [
        {"name": "app", "resources": {"limits": {"cpu": "1", "memory": "1Gi"}}}]});
    assert_eq!(obstacle(&guaranteed), text("cpu", "2", "1999m"));
    injected(&asking(&annotated(&[("memory-limit", "32Mi"), ("cpu-limit", "0.01")])));
}

#[test]
fn everything_that_is_wrong_is_told_at_once_in_a_fixed_order() {
    let all = obstacle(&json!({
        "metadata": {"annotations": {"warmline.dev/log-level": "loud", "warmline.dev/x": ""}},
        "spec": {
            "hostNetwork": true, "hostPID": true, "shareProcessNamespace": true,
            "securityContext": {"runAsUser": 13301}, "os": {"name": "windows"},
            "containers": [{"name": "warmline", "ports": [{"containerPort": 13320}],
                "volumeMounts": [{"name": "warmline-run", "mountPath": "/run/warmline"}]}],
            "volumes": [{"name": "warmline-run", "emptyDir": {}}],
        },
    }));
    let first_words: Vec<_> =
        all.split("; ").map(|one| one.split(" is ").next().unwrap()).collect();
    assert_eq!(
        first_words,
        [
            "hostNetwork",
            "hostPID",
            "shareProcessNamespace",
            "the pod",
            "the container name warmline",
            "the volume warmline-run",
            "the mount paths /etc/warmline and /run/warmline are the sidecar's, and others mount there: warmline \
             /run/warmline",
            "the volumes warmline-config, warmline-identity, warmline-trust and warmline-run are the sidecar's, and \
             others mount them: warmline warmline-run",
            "the ports 13301, 13320, 13321 and the port name warmline-prom are the sidecar's, and others have them: \
             warmline 13320",
            "unknown annotations: warmline.dev/x (known: warmline.dev/config, warmline.dev/cpu-limit, \
             warmline.dev/cpu-request, warmline.dev/log-level, warmline.dev/memory-limit, warmline.dev/memory-request)",
            "the annotation warmline.dev/log-level must be error, warn, info, debug or trace",
        ]
    );
}

/// Generates lists of environment sources: absent, empty, with others' entries, with Warmline's own entry already
/// there.
fn env_from() -> impl Strategy<Value = Value> {
    let theirs = json!({"configMapRef": {"name": "c"}});
    let ours = json!({"configMapRef": {"name": "warmline-urls", "optional": true}});
    prop_oneof![
        Just(Value::Null),
        Just(json!([])),
        Just(json!([theirs])),
        Just(json!([theirs, ours])),
        Just(json!([{"secretRef": {"name": "s"}}, theirs])),
    ]
}

fn containers(name: &'static str, least: usize) -> impl Strategy<Value = Value> {
    vec((env_from(), any::<bool>()), least..4).prop_map(move |all| {
        let container = |(index, (env_from, always)): (usize, (Value, bool))| {
            let policy = if always { json!("Always") } else { Value::Null };
            json!({"name": format!("{name}-{index}"), "envFrom": env_from, "restartPolicy": policy})
        };
        all.into_iter().enumerate().map(container).collect()
    })
}

fn volumes() -> impl Strategy<Value = Value> {
    let names = ["data", "warmline-config", "warmline-identity", "warmline-trust"];
    let some = proptest::sample::subsequence(names.to_vec(), 0..=names.len());
    let some = some.prop_map(|names| names.iter().map(|name| json!({"name": name})).collect());
    prop_oneof![Just(Value::Null), some]
}

fn texts(keys: &'static [&'static str]) -> impl Strategy<Value = Value> {
    let some = proptest::sample::subsequence(keys.to_vec(), 0..=keys.len());
    let some =
        some.prop_map(|keys| keys.iter().map(|key| ((*key).to_owned(), json!("theirs"))).collect());
    prop_oneof![Just(Value::Null), some.prop_map(Value::Object)]
}

/// True if all of `theirs` is in `after`, lists in their order. `null` in `theirs` matches anything.
fn keeps(theirs: &Value, after: &Value) -> bool {
    match (theirs, after) {
        (Value::Null, _) => true,
        (Value::Object(theirs), Value::Object(after)) => {
            theirs.iter().all(|(key, value)| keeps(value, after.get(key).unwrap_or(&Value::Null)))
        }
        (Value::Array(theirs), Value::Array(after)) => {
            let mut left = after.iter();
            theirs.iter().all(|one| left.any(|other| keeps(one, other)))
        }
        _ => theirs == after,
    }
}

proptest! {
    #[test]
    fn whatever_the_pod_all_of_it_stays_and_a_second_injection_finds_nothing_to_do(
        init in prop_oneof![Just(Value::Null), containers("init", 0)],
        main in containers("app", 1),
        volumes in volumes(),
        labels in texts(&["app", "warmline.dev/injected"]),
        annotations in texts(&["a~1/b", "kubectl.kubernetes.io/default-container", "prometheus.io/port"]),
        prometheus_annotations in any::<bool>(),
    ) {
        let pod = json!({
            "metadata": {"generateName": "a-", "labels": labels, "annotations": annotations},
            "spec": {"initContainers": init, "containers": main, "volumes": volumes},
        });
        let after = injected_by(&Settings { prometheus_annotations, ..settings() }, &pod);
        prop_assert!(keeps(&pod, &after), "{after}");
        sidecar_of(&after);
        let names: Vec<_> = after["spec"]["volumes"].as_array().unwrap().iter().map(|v| &v["name"]).collect();
        let mounts = sidecar_of(&after)["volumeMounts"].as_array().unwrap().iter().map(|v| &v["name"]);
        for mount in mounts {
            prop_assert_eq!(names.iter().filter(|name| **name == mount).count(), 1);
        }
        let inits = after["spec"]["initContainers"].as_array().unwrap()[1..].iter();
        for container in inits.chain(after["spec"]["containers"].as_array().unwrap()) {
            let sources = container["envFrom"].as_array().unwrap().iter();
            let ours = sources.filter(|one| one["configMapRef"]["name"] == "warmline-urls");
            prop_assert_eq!(ours.count(), 1);
        }
    }
}
