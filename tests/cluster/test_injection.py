"""The pods that get a sidecar, and the exact result for each: by the webhook and by the policies, on a real API server.

Each file of pods/ has an object that a user creates, and the expected result for its pod: `outcome` (injected,
untouched, warned, denied, refused); the differences, if the sidecar is not as in sidecar.yaml or is not the first init
container; and the differences in one mode. The same object with the label inject=false shows what the API server makes
of it without Warmline. The additions of injection are written out here; nothing else may differ.
"""

import copy
import json
import re
import tempfile
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from support.helm import install, uninstall
from support.kube import Namespace, kubectl
from support.patience import eventually
from support.shell import Failed, run

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHART = ROOT / "charts" / "warmline"
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
SIDECAR = yaml.safe_load((HERE / "sidecar.yaml").read_text())
NAMESPACES = HERE / "pod-namespaces.yaml"
ASKING = yaml.safe_load((HERE / "pods" / "labelled.yaml").read_text().split("---")[0])
SYSTEM = "warmline-system"
LABEL = "warmline.dev/inject"
MODES = ["webhook", "policy"]
URLS = {"configMapRef": {"name": "warmline-urls", "optional": True}}
TOKEN = "kube-api-access"

# The words before Warmline's own in the output of kubectl.
SPEAKERS = {
    "denied": {
        "webhook": 'admission webhook "pods.warmline.dev" denied the request: ',
        "policy": "ValidatingAdmissionPolicy 'warmline-refuse' with binding 'warmline-refuse-pods' denied request: ",
    },
    "warned": {
        "webhook": "Warning: ",
        "policy": "Warning: Validation failed for ValidatingAdmissionPolicy 'warmline-refuse' with binding "
        "'warmline-warn-namespaces': ",
    },
}
WORDS = {"denied": "warmline cannot be injected: ", "warned": "warmline is not injected: "}


def load(path):
    created, expected = yaml.safe_load_all(path.read_text())
    return {"namespace": "asking-pods", **expected, "object": created}


CASES = {path.stem: load(path) for path in sorted((HERE / "pods").glob("*.yaml"))}


@pytest.fixture(scope="module")
def namespaces():
    """Makes the namespaces of the pods and one for Warmline, ready to take pods."""
    system = Namespace(SYSTEM)
    system.create()
    kubectl("apply", "--filename", str(NAMESPACES))
    for name in {case["namespace"] for case in CASES.values()}:
        Namespace(name).wait("create", "serviceaccount/default")
    for name in ["quota", "quota-cpu-limit"]:
        Namespace(name).wait("jsonpath={.status.used}", "resourcequota/demands")
    yield
    uninstall("warmline", SYSTEM)
    kubectl("delete", "--filename", str(NAMESPACES))
    kubectl("delete", "namespace", SYSTEM)


@pytest.fixture(scope="module")
def recorded(namespaces):
    """Returns the result of each case: without Warmline, with the webhook, and after an upgrade with the policies."""
    results = {"nobody": {name: submit(case, "false") for name, case in CASES.items()}}
    for mode in MODES:
        switch_to(mode)
        results[mode] = {name: submit(case) for name, case in CASES.items()}
    return results


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_pod_becomes_what_is_written_beside_it(recorded, mode, name):
    case, result = {**CASES[name], **CASES[name].get(mode, {})}, recorded[mode][name]
    before = with_label_of(case, recorded["nobody"][name]["pod"])
    outcome, reason = case["outcome"], case.get("reason")
    if outcome == "denied":
        assert result["pod"] is None
        assert result["said"].endswith(SPEAKERS["denied"][mode] + WORDS["denied"] + reason)
    elif outcome == "refused":
        assert result["pod"] is None
        assert result["said"].endswith(reason)
    elif outcome == "warned":
        assert result["said"] == SPEAKERS["warned"][mode] + WORDS["warned"] + reason
        assert result["pod"] == before
    else:
        assert result["said"] == ""
        assert result["pod"] == (injected(before, case) if outcome == "injected" else before)


@pytest.mark.parametrize("name", CASES)
def test_the_webhook_and_the_policies_make_the_same_pod(recorded, name):
    assert recorded["webhook"][name]["pod"] == recorded["policy"][name]["pod"]


def test_the_hand_written_pod_of_deploy_is_what_injection_makes(recorded):
    written = yaml.safe_load((ROOT / "deploy" / "pod.yaml").read_text())
    bare = copy.deepcopy(written)
    bare["spec"].pop("initContainers")
    bare["spec"].pop("volumes")
    bare["spec"]["containers"][0].pop("envFrom")
    bare["metadata"] = {"name": "shop", "labels": {LABEL: "true"}}
    made = submit({"namespace": "asking-pods", "object": bare})
    kept = submit({"namespace": "asking-pods", "object": written})
    assert made["said"] == kept["said"] == ""
    assert made["pod"]["metadata"]["labels"].pop(LABEL) == "true"
    image = kept["pod"]["spec"]["initContainers"][0]
    assert (image["image"], image["imagePullPolicy"]) == (f"warmline/warmline:{VERSION}", "IfNotPresent")
    image.update(image="warmline/warmline:test", imagePullPolicy="Never")
    # The token's volume is before the volumes that injection adds, and after those that the object has.
    for result in [made, kept]:
        result["pod"]["spec"]["volumes"].sort(key=lambda volume: volume["name"])
    assert made["pod"] == kept["pod"]


@pytest.mark.parametrize("mode", MODES)
def test_the_charts_settings_reach_the_sidecar(namespaces, mode):
    limits = {"cpu": "300m", "memory": "96Mi"}
    resources = {"requests": {"cpu": "20m", "memory": "48Mi"}, "limits": limits}
    switch_to(mode, {"configSource": "mount"}, platform="openshift", prometheusAnnotations=True, resources=resources)
    eventually("the settings are followed", lambda: asked_for(submit(CASES["no-volumes"])["pod"]) == resources)
    pod = submit(CASES["no-volumes"])["pod"]
    expected = copy.deepcopy(SIDECAR)
    expected["args"] = [word for word in expected["args"] if word not in ("--configmap", "warmline")]
    expected["resources"] = resources
    for user in ["runAsUser", "runAsGroup"]:
        expected["securityContext"].pop(user)
    assert pod["spec"]["initContainers"] == [expected]
    scraped = {"prometheus.io/scrape": "true", "prometheus.io/port": "13320", "prometheus.io/path": "/metrics"}
    assert scraped.items() <= pod["metadata"]["annotations"].items()

    guaranteed = submit(CASES["guaranteed"])["pod"]
    assert asked_for(guaranteed) == {"requests": limits, "limits": limits}
    assert submit(CASES["shared-processes"])["said"].endswith(
        SPEAKERS["denied"][mode] + WORDS["denied"] + "shareProcessNamespace is set, and on this platform the sidecar has no user "
        "of its own, so that other containers could read its key"
    )


def test_what_the_policies_miss_is_refused_where_the_pod_asked_and_warned_of_where_its_namespace_did(namespaces):
    switch_to("policy")
    kubectl("delete", "mutatingadmissionpolicybinding", "warmline-inject-pods", "warmline-inject-namespaces")
    why = (
        "the policies warmline-inject-pods and warmline-inject-namespaces missed it: the API server does not follow them yet (try again), "
        "or the label came after them"
    )
    pod, of_namespace = CASES["labelled"], CASES["by-namespace"]
    denied, warned = (SPEAKERS[kind]["policy"] + WORDS[kind] + why for kind in ("denied", "warned"))
    eventually("the pod that asked is refused", lambda: submit(pod)["said"].endswith(denied))
    assert submit(pod)["pod"] is None
    eventually("the other is warned of", lambda: submit(of_namespace)["said"] == warned)


def test_a_switch_in_two_steps_gives_every_pod_one_sidecar(namespaces):
    switch_to("webhook")
    with pods_all_the_while() as counts:
        switch_to("policy", keepWebhook=True)
        switch_to("policy")
    assert counts.created and set(counts.created) == {1}


def test_a_switch_in_one_step_gives_no_pod_two_sidecars(namespaces):
    switch_to("webhook")
    with pods_all_the_while() as counts:
        switch_to("policy")
    # For a second or two the API server may follow neither way; docs/upgrade.md has the two steps for this.
    assert counts.created and set(counts.created) <= {0, 1} and counts.created[-1] == 1


def test_a_switch_back_gives_every_pod_one_sidecar_or_refuses_it(namespaces):
    switch_to("policy")
    with pods_all_the_while() as counts:
        switch_to("webhook")
    # The new authority: until the webhook holds it, pods that ask are refused, and their controllers try again.
    assert counts.created and set(counts.created) == {1}


# The additions of injection


def injected(before, case):
    """Returns the pod that injection has to make of `before`."""
    pod = copy.deepcopy(before)
    spec, meta = pod["spec"], pod["metadata"]
    meta.setdefault("labels", {})["warmline.dev/injected"] = "true"
    annotations = meta.setdefault("annotations", {})
    annotations["warmline.dev/version"] = VERSION
    annotations["kubectl.kubernetes.io/default-container"] = case.get("defaultContainer", spec["containers"][0]["name"])
    annotations.update(case.get("annotations", {}))
    for container in spec.get("initContainers", []) + spec["containers"]:
        if container["name"] not in case.get("keepsUrls", []):
            container["envFrom"] = [URLS, *container.get("envFrom", [])]
    spec.setdefault("initContainers", []).insert(case.get("place", 0), sidecar(spec, case))
    spec["volumes"] = spec.get("volumes", []) + [volume for volume in volumes(case) if volume["name"] in added(case)]
    pod["status"] = {"qosClass": case.get("qosClass", "Burstable")}
    return pod


def sidecar(spec, case):
    container = copy.deepcopy(SIDECAR)
    watched = container["args"].index("--configmap")
    container["args"][watched : watched + 2] = ["--configmap", case.get("config", "warmline")] if case.get("watched", True) else []
    container["args"] += case.get("extraArguments", [])
    container["resources"] = case.get("resources", container["resources"])
    # If a pod has a token, the API server mounts it into every container.
    container["volumeMounts"] += [mount for mount in spec["containers"][0].get("volumeMounts", []) if mount["name"] == TOKEN]
    return container


def asked_for(pod):
    """Returns the resources of the first init container."""
    return pod["spec"]["initContainers"][0]["resources"]


def added(case):
    return case.get("volumes", ["warmline-config", "warmline-identity", "warmline-trust", "warmline-run"])


def volumes(case):
    return [
        {"name": "warmline-config", "configMap": {"name": case.get("config", "warmline"), "defaultMode": 0o644}},
        {"name": "warmline-identity", "secret": {"secretName": "warmline-identity", "optional": True, "defaultMode": 0o644}},
        {"name": "warmline-trust", "configMap": {"name": "warmline-trust", "optional": True, "defaultMode": 0o644}},
        {"name": "warmline-run", "emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
    ]


# The making of pods


def submit(case, label=None):
    """Creates the case's object, with the label set to `label` if given; returns its pod and the messages of the API
    server."""
    created = copy.deepcopy(case["object"])
    if label is not None:
        template(created)["metadata"].setdefault("labels", {})[LABEL] = label
    if created["kind"] != "Pod":
        return {"pod": comparable(pod_of_workload(created, Namespace(case["namespace"]))), "said": ""}
    # Warnings are printed on standard error, the pod on standard output.
    command = 'exec kubectl create --namespace "$0" --dry-run=server --output=json --filename=- 2>"$1"'
    with tempfile.NamedTemporaryFile("r") as said:
        try:
            printed = run("bash", "-c", command, case["namespace"], said.name, stdin=json.dumps(created))
        except Failed:
            printed = "null"
        pod = json.loads(printed)
        return {"pod": pod and comparable(pod), "said": said.read().strip()}


def pod_of_workload(workload, namespace):
    """Creates a workload and returns the pod that its controller makes; the pod fits no node and is deleted with the
    workload."""
    kind, name = workload["kind"].lower(), workload["metadata"]["name"]
    namespace.kubectl("create", "--filename=-", stdin=json.dumps(workload))
    try:
        if kind == "cronjob":
            # Does what the controller would do at the CronJob's time.
            namespace.kubectl("create", "job", name, f"--from=cronjob/{name}")
        namespace.wait("create", "pod", f"--selector=app={name}")
        return namespace.get("pods", f"--selector=app={name}")["items"][0]
    finally:
        namespace.delete(kind, name, "--cascade=foreground")
        namespace.wait("delete", "pod", f"--selector=app={name}")


def template(created):
    """Returns the pod, or a workload's template of it."""
    while "containers" not in created["spec"]:
        created = created["spec"].get("template") or created["spec"]["jobTemplate"]
    return created


def comparable(pod):
    """Returns the pod without names and hashes that the API server and the controllers draw at random."""
    text = re.sub(TOKEN + "-[a-z0-9]{5}", TOKEN, json.dumps(pod))
    pod = json.loads(text)
    meta, spec = pod["metadata"], pod["spec"]
    for key in ["uid", "creationTimestamp", "resourceVersion", "managedFields", "generation", "ownerReferences"]:
        meta.pop(key, None)
    if "generateName" in meta:
        meta.pop("name", None)
        meta["generateName"] = re.sub("[0-9a-f]{8,10}-$", "", meta["generateName"])
    drawn = ["pod-template-hash", "controller-revision-hash", "controller-uid", "batch.kubernetes.io/controller-uid"]
    meta["labels"] = {key: value for key, value in meta.get("labels", {}).items() if key not in drawn}
    pod["status"] = {"qosClass": pod["status"]["qosClass"]}
    return pod


def with_label_of(case, pod):
    """Returns `pod`, which was created with inject=false, with the label that the case gives it."""
    if pod is None:
        return None
    pod = copy.deepcopy(pod)
    own = template(case["object"])["metadata"].get("labels", {}).get(LABEL)
    pod["metadata"]["labels"].pop(LABEL)
    if own is not None:
        pod["metadata"]["labels"][LABEL] = own
    return pod


class Counts:
    """The results of pods that asked: the number of sidecars of each one created, and the messages about the others."""

    def __init__(self):
        self.created = []
        self.refused = []


@contextmanager
def pods_all_the_while():
    """Creates pods that ask for a sidecar, one after the other, until the end of the block, and counts each one's
    sidecars."""
    counts, done = Counts(), threading.Event()
    case = {"namespace": "asking-pods", "object": ASKING}

    def create():
        while not done.is_set():
            result = submit(case)
            if result["pod"] is None:
                counts.refused.append(result["said"])
            else:
                names = [container["name"] for container in result["pod"]["spec"].get("initContainers", [])]
                counts.created.append(names.count("warmline"))

    thread = threading.Thread(target=create)
    thread.start()
    try:
        yield counts
    finally:
        done.set()
        thread.join()


def switch_to(mode, values=None, **injection):
    """Installs or upgrades, and waits until the API server follows: it looks for changed policies once in a second."""
    install("warmline", SYSTEM, {**(values or {}), "injection": {"mode": mode, **injection}})
    speaking = "webhook" if injection.get("keepWebhook") else mode
    eventually(f"{mode} is followed", lambda: follows(speaking) and (mode == "webhook" or mutates()))


def follows(mode):
    """Returns true if this mode is the one that refuses and warns."""
    denied, warned = CASES["host-network"], CASES["host-network-by-namespace"]
    warning = SPEAKERS["warned"][mode] + WORDS["warned"] + warned["reason"]
    return SPEAKERS["denied"][mode] in submit(denied)["said"] and warning in submit(warned)["said"].splitlines()


def mutates():
    """Returns true if the API server's counters show that it asks both mutating policies."""
    before = checks()
    for case in ["labelled", "by-namespace"]:
        submit(CASES[case])
    after = checks()
    return all(after.get(policy, 0) > before.get(policy, 0) for policy in ["warmline-inject-pods", "warmline-inject-namespaces"])


def checks():
    metrics = kubectl("get", "--raw", "/metrics")
    found = re.findall(r'^apiserver_mutating_admission_policy_check_total\{.*policy="([^"]+)",policy_binding.*\} (\d+)$', metrics, re.M)
    return {policy: int(count) for policy, count in found}
