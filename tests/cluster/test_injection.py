"""Which pods get a sidecar, and what exactly becomes of them: by the webhook and by the policies, on a real API server.

Each file of pods/ has an object that a user creates, and what is to become of its pod: `outcome` (injected, untouched, warned,
denied, refused), and where the sidecar differs from sidecar.yaml, how. What the API server makes of the object without Warmline is
told by the same object with the label inject=false. What injection adds is spelled out here; nothing else may differ.
"""

import copy
import json
import re
import subprocess
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

HERE = Path(__file__).parent
CHART = HERE.parent.parent / "charts" / "warmline"
VERSION = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
SIDECAR = yaml.safe_load((HERE / "sidecar.yaml").read_text())
NAMESPACES = HERE / "pod-namespaces.yaml"
ASKING = yaml.safe_load((HERE / "pods" / "labelled.yaml").read_text().split("---")[0])
SYSTEM = "warmline-system"
LABEL = "warmline.dev/inject"
MODES = ["webhook", "policy"]
URLS = {"configMapRef": {"name": "warmline-urls", "optional": True}}
TOKEN = "kube-api-access"

# What stands before our own words in what kubectl prints.
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
    """The namespaces of the pods, and one for Warmline; ready to take pods."""
    run("kubectl", "create", "namespace", SYSTEM)
    run("kubectl", "label", "namespace", SYSTEM, "pod-security.kubernetes.io/enforce=restricted")
    run("kubectl", "apply", "--filename", NAMESPACES)
    for name in {case["namespace"] for case in CASES.values()}:
        run("kubectl", "wait", "--for=create", "serviceaccount/default", "--namespace", name, "--timeout=30s")
    for name in ["quota", "quota-cpu-limit"]:
        run("kubectl", "wait", "--for=jsonpath={.status.used}", "resourcequota/demands", "--namespace", name, "--timeout=30s")
    yield
    run("helm", "uninstall", "warmline", "--namespace", SYSTEM, "--ignore-not-found", "--wait")
    run("kubectl", "delete", "--filename", NAMESPACES)
    run("kubectl", "delete", "namespace", SYSTEM)


@pytest.fixture(scope="module")
def recorded(namespaces):
    """Each case's result: without Warmline, by the webhook, and after an upgrade by the policies."""
    results = {"nobody": {name: submit(case, "false") for name, case in CASES.items()}}
    for mode in MODES:
        install(mode)
        results[mode] = {name: submit(case) for name, case in CASES.items()}
    return results


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", CASES)
def test_a_pod_becomes_what_is_written_beside_it(recorded, mode, name):
    case, result = CASES[name], recorded[mode][name]
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


def test_a_switch_in_two_steps_gives_every_pod_one_sidecar(namespaces):
    install("webhook")
    with pods_all_the_while() as counts:
        install("policy", "--set=injection.keepWebhook=true")
        install("policy")
    assert counts.created and set(counts.created) == {1}


def test_a_switch_in_one_step_gives_no_pod_two_sidecars(namespaces):
    install("webhook")
    with pods_all_the_while() as counts:
        install("policy")
    # For a second or two the API server may follow neither: docs/upgrade.md has the two steps.
    assert counts.created and set(counts.created) <= {0, 1} and counts.created[-1] == 1


def test_a_switch_back_gives_every_pod_one_sidecar_or_refuses_it(namespaces):
    install("policy")
    with pods_all_the_while() as counts:
        install("webhook")
    # Its authority is new: until the webhook holds it, pods that ask are refused, and their controllers try again.
    assert counts.created and set(counts.created) == {1}


# What injection adds


def injected(before, case):
    """The pod that is to come of `before`."""
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
    spec["initContainers"] = [sidecar(spec, case), *spec.get("initContainers", [])]
    spec["volumes"] = spec.get("volumes", []) + [volume for volume in volumes(case) if volume["name"] in added(case)]
    pod["status"] = {"qosClass": case.get("qosClass", "Burstable")}
    return pod


def sidecar(spec, case):
    container = copy.deepcopy(SIDECAR)
    container["args"][container["args"].index("--configmap") + 1] = case.get("config", "warmline")
    container["args"] += case.get("extraArguments", [])
    container["resources"] = case.get("resources", container["resources"])
    # The API server mounts the token into every container once there is one.
    container["volumeMounts"] += [mount for mount in spec["containers"][0].get("volumeMounts", []) if mount["name"] == TOKEN]
    return container


def added(case):
    return case.get("volumes", ["warmline-config", "warmline-identity", "warmline-trust", "warmline-run"])


def volumes(case):
    return [
        {"name": "warmline-config", "configMap": {"name": case.get("config", "warmline"), "defaultMode": 0o644}},
        {"name": "warmline-identity", "secret": {"secretName": "warmline-identity", "optional": True, "defaultMode": 0o644}},
        {"name": "warmline-trust", "configMap": {"name": "warmline-trust", "optional": True, "defaultMode": 0o644}},
        {"name": "warmline-run", "emptyDir": {"sizeLimit": "4Mi"}},
    ]


# How pods come about


def submit(case, label=None):
    """Creates the case's object, with another value of the label if one is given: its pod, and what was said beside it."""
    created = copy.deepcopy(case["object"])
    if label is not None:
        template(created)["metadata"].setdefault("labels", {})[LABEL] = label
    if created["kind"] == "Pod":
        command = ["kubectl", "create", "--namespace", case["namespace"], "--dry-run=server", "--output=json", "--filename=-"]
        result = subprocess.run(command, input=json.dumps(created), capture_output=True, text=True)
        pod = json.loads(result.stdout) if result.returncode == 0 else None
        return {"pod": pod and comparable(pod), "said": result.stderr.strip()}
    return {"pod": comparable(pod_of_workload(created, case["namespace"])), "said": ""}


def pod_of_workload(workload, namespace):
    """The pod that a controller makes; it fits no node, so it goes with its workload at once."""
    kind, name = workload["kind"].lower(), workload["metadata"]["name"]
    run("kubectl", "create", "--namespace", namespace, "--filename=-", text=json.dumps(workload))
    try:
        if kind == "cronjob":
            # What the controller does when the minute has come.
            run("kubectl", "create", "job", name, f"--from=cronjob/{name}", "--namespace", namespace)
        run("kubectl", "wait", "--for=create", "pod", "--selector", f"app={name}", "--namespace", namespace, "--timeout=60s")
        pods = run("kubectl", "get", "pods", "--selector", f"app={name}", "--namespace", namespace, "--output=json")
        return json.loads(pods)["items"][0]
    finally:
        if kind == "cronjob":
            run("kubectl", "delete", "job", name, "--namespace", namespace, "--cascade=foreground")
        run("kubectl", "delete", kind, name, "--namespace", namespace, "--cascade=foreground")


def template(created):
    """The pod, or the template of it in a workload."""
    while "containers" not in created["spec"]:
        created = created["spec"].get("template") or created["spec"]["jobTemplate"]
    return created


def comparable(pod):
    """The pod without what is different each time: names and hashes that the API server and the controllers draw."""
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
    """`pod`, which was created with inject=false, with the label that the case gives it."""
    pod = copy.deepcopy(pod)
    own = template(case["object"])["metadata"].get("labels", {}).get(LABEL)
    pod["metadata"]["labels"].pop(LABEL)
    if own is not None:
        pod["metadata"]["labels"][LABEL] = own
    return pod


class Counts:
    """Pods that asked: the sidecars of each that was created, and what was said of the others."""

    def __init__(self):
        self.created = []
        self.refused = []


@contextmanager
def pods_all_the_while():
    """Creates pods that ask, one after the other, and counts each one's sidecars."""
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


def install(mode, *values):
    image = ["--set=image.tag=test", "--set=image.pullPolicy=Never"]
    mode_of = f"--set=injection.mode={mode}"
    run("helm", "upgrade", "--install", "warmline", CHART, "--namespace", SYSTEM, "--wait", *image, mode_of, *values)
    wait_until_followed(mode)


def wait_until_followed(mode):
    """Until the API server refuses and warns by this mode alone: it looks for new policies once in a second."""
    deadline = time.monotonic() + 60
    denied, warned = CASES["host-network"], CASES["host-network-by-namespace"]
    while True:
        said = submit(denied)["said"], submit(warned)["said"]
        if SPEAKERS["denied"][mode] in said[0] and said[1] == SPEAKERS["warned"][mode] + WORDS["warned"] + warned["reason"]:
            return
        assert time.monotonic() < deadline, f"{mode} is not followed: {said}"


def run(*command, text=None):
    result = subprocess.run(list(map(str, command)), input=text, capture_output=True, text=True)
    assert result.returncode == 0, f"{' '.join(map(str, command))}: {result.stderr}{result.stdout}"
    return result.stdout
