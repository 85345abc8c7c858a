//! Reviews as the API server sends them, and the injector's answers.

use serde_json::{Value, json};

use crate::program::{Injector, asking, creation, post};

const UID: &str = "705ab4f5-6393-11e8-b7cc-42010a800002";

/// Returns the pod with the answer's patch applied.
fn patched(pod: &Value, response: &Value) -> Value {
    assert_eq!(response["patchType"], "JSONPatch");
    let patch: k8s_openapi::ByteString = serde_json::from_value(response["patch"].clone()).unwrap();
    let patch: json_patch::Patch = serde_json::from_slice(&patch.0).unwrap();
    let mut pod = pod.clone();
    json_patch::patch(&mut pod, &patch).unwrap();
    pod
}

#[test]
fn case_54_a_pod_is_injected_once_however_often_it_is_reviewed_and_the_uid_comes_back() {
    let injector = Injector::start();
    let response = injector.review(&creation(&asking()));
    assert_eq!((&response["uid"], &response["allowed"]), (&json!(UID), &json!(true)));
    let mut pod = patched(&asking(), &response);
    assert_eq!(pod["spec"]["initContainers"][0]["name"], "warmline");
    // Another mutating webhook puts its own container first; then the injector is called again.
    let other = json!({"name": "istio-init", "image": "istio:1"});
    pod["spec"]["initContainers"].as_array_mut().unwrap().insert(0, other);
    let again = injector.review(&creation(&pod));
    assert_eq!(again, json!({"uid": UID, "allowed": true}));
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"injected\"}"), "1");
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"left-alone\"}"), "1");
}

#[test]
fn a_pod_that_cannot_have_what_it_asks_for_is_refused_and_the_log_says_which() {
    let injector = Injector::start();
    let mut pod = asking();
    pod["spec"]["hostNetwork"] = true.into();
    let response = injector.review(&creation(&pod));
    let text = "warmline cannot be injected: hostNetwork is set, so that loopback is the node's";
    assert_eq!(
        response,
        json!({"uid": UID, "allowed": false,
            "status": {"code": 403, "reason": "Forbidden", "message": text}})
    );
    let line = injector.line("a pod is reviewed");
    assert_eq!(line["level"], "WARN");
    assert_eq!((&line["result"], &line["reason"]), (&json!("denied"), &json!(text)));
    assert_eq!((&line["namespace"], &line["pod"]), (&json!("shop"), &json!("a")));
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"denied\"}"), "1");
}

#[test]
fn a_pod_whose_namespace_asks_for_what_it_cannot_have_is_let_through_with_a_warning() {
    let injector = Injector::start();
    let mut pod = asking();
    pod["metadata"]["labels"] = json!({"app": "x"});
    pod["spec"]["hostPID"] = true.into();
    let text =
        "warmline is not injected: hostPID is set, so that processes of the node are in reach";
    let expected = json!({"uid": UID, "allowed": true, "warnings": [text]});
    assert_eq!(injector.review(&creation(&pod)), expected);
    assert_eq!(injector.line("a pod is reviewed")["result"], "skipped");
}

#[test]
fn case_54_a_dry_run_gets_the_same_answer_and_a_pod_may_lack_namespace_and_name() {
    let injector = Injector::start();
    let mut pod = asking();
    pod["metadata"] = json!({"generateName": "web-", "labels": {"warmline.dev/inject": "true"}});
    let real = creation(&pod);
    let mut dry = real.clone();
    dry["request"]["dryRun"] = true.into();
    dry["request"]["name"] = json!("");
    assert_eq!(injector.review(&real), injector.review(&dry));
    for dry_run in [false, true] {
        let line = injector.line("a pod is reviewed");
        assert_eq!((&line["namespace"], &line["pod"]), (&json!("shop"), &json!("web-")));
        assert_eq!((&line["result"], &line["dry_run"]), (&json!("injected"), &json!(dry_run)));
    }
}

#[test]
fn whatever_is_not_the_creation_of_a_pod_passes_untouched() {
    let injector = Injector::start();
    let untouched = json!({"uid": UID, "allowed": true});
    let with = |path: &str, value: Value| {
        let mut review = creation(&asking());
        *review.pointer_mut(path).unwrap() = value;
        review
    };
    for operation in ["UPDATE", "DELETE", "CONNECT", "MERGE"] {
        assert_eq!(injector.review(&with("/request/operation", json!(operation))), untouched);
    }
    let mut deletion = with("/request/operation", json!("DELETE"));
    deletion["request"]["object"] = Value::Null;
    assert_eq!(injector.review(&deletion), untouched);
    let deployment = json!({"group": "apps", "version": "v1", "kind": "Deployment"});
    assert_eq!(injector.review(&with("/request/kind", deployment)), untouched);
    let mut subresource = creation(&asking());
    subresource["request"]["subResource"] = json!("ephemeralcontainers");
    assert_eq!(injector.review(&subresource), untouched);
}

#[test]
fn settings_are_those_of_the_command_line() {
    let injector = Injector::start_with(&[
        "--image-pull-policy",
        "Never",
        "--config-source",
        "mount",
        "--platform",
        "openshift",
        "--prometheus-annotations",
        "--cpu-request",
        "20m",
        "--memory-request",
        "40Mi",
        "--cpu-limit",
        "1",
        "--memory-limit",
        "200Mi",
    ]);
    let pod = patched(&asking(), &injector.review(&creation(&asking())));
    let sidecar = &pod["spec"]["initContainers"][0];
    assert_eq!(sidecar["image"], "warmline/warmline:1");
    assert_eq!(sidecar["imagePullPolicy"], "Never");
    assert!(!sidecar["args"].to_string().contains("--configmap"));
    assert!(sidecar["securityContext"].get("runAsUser").is_none());
    let resources = json!({
        "requests": {"cpu": "20m", "memory": "40Mi"}, "limits": {"cpu": "1", "memory": "200Mi"}});
    assert_eq!(sidecar["resources"], resources);
    assert_eq!(pod["metadata"]["annotations"]["prometheus.io/port"], "13320");
}

#[test]
fn one_connection_carries_many_reviews() {
    let injector = Injector::start();
    let mut connection = injector.connect();
    let review = creation(&asking()).to_string();
    for _ in 0..100 {
        assert_eq!(post(&mut connection, review.as_bytes()).status, 200);
    }
    assert_eq!(injector.metric("warmline_injector_reviews_total{result=\"injected\"}"), "100");
}
