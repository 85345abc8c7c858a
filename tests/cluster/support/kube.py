"""The cluster through kubectl: objects in, objects out, and waiting by watch."""

import json

import yaml

from support.shell import run

# The settings that PodSecurity `restricted` demands of each container.
RESTRICTED = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def kubectl(*words, stdin=None, timeout=90):
    return run("kubectl", *words, stdin=stdin, timeout=timeout)


class Namespace:
    """A namespace and its objects."""

    def __init__(self, name, labels=None):
        self.name = name
        self.labels = {"pod-security.kubernetes.io/enforce": "restricted", **(labels or {})}

    def create(self):
        """Makes the namespace, and waits until pods can be made in it."""
        metadata = {"name": self.name, "labels": self.labels}
        kubectl("create", "--filename=-", stdin=yaml.safe_dump({"apiVersion": "v1", "kind": "Namespace", "metadata": metadata}))
        self.wait("create", "serviceaccount/default")
        self.wait("create", "configmap/kube-root-ca.crt")

    def remove(self):
        """Deletes the namespace without waiting for the end of its pods."""
        kubectl("delete", "namespace", self.name, "--wait=false")

    def kubectl(self, *words, stdin=None, timeout=90):
        return kubectl("--namespace", self.name, *words, stdin=stdin, timeout=timeout)

    def apply(self, *objects):
        self.kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump_all(objects))

    def delete(self, *what, wait=True):
        self.kubectl("delete", *what, f"--wait={str(wait).lower()}", timeout=180)

    def get(self, *what):
        return json.loads(self.kubectl("get", *what, "--output=json"))

    def pods(self, selector):
        """Returns the pods with these labels, without those that are being deleted."""
        found = self.get("pods", f"--selector={selector}")["items"]
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def wait(self, condition, *what, timeout=90):
        """Waits for a condition as kubectl writes it: create, delete, condition=Ready, jsonpath=..."""
        self.kubectl("wait", f"--for={condition}", *what, f"--timeout={timeout}s", timeout=timeout + 10)

    def rolled_out(self, what, timeout=120):
        self.kubectl("rollout", "status", what, f"--timeout={timeout}s", timeout=timeout + 10)

    def logs(self, pod, container, *more):
        return self.kubectl("logs", pod, f"--container={container}", *more)

    def execute(self, pod, container, *command, stdin=None):
        words = ["exec", *(["--stdin"] if stdin is not None else []), pod, f"--container={container}", "--", *command]
        return self.kubectl(*words, stdin=stdin)

    def story(self):
        """Returns the report for a failed test: the objects, the events, and the last lines of the containers."""
        parts = [self.kubectl("get", "all,configmaps,secrets", "--output=wide")]
        parts.append(self.kubectl("get", "events", "--sort-by=.metadata.creationTimestamp"))
        for pod in self.get("pods")["items"]:
            spec = pod["spec"]
            for container in spec.get("initContainers", []) + spec["containers"]:
                name = pod["metadata"]["name"]
                try:
                    said = self.logs(name, container["name"], "--tail=25")
                except AssertionError as nothing:
                    said = str(nothing)
                parts.append(f"--- {name} {container['name']}:\n{said}")
        return "\n".join(parts)


def config_map(name, data):
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def secret(name, data):
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data}


def service(name, port, target):
    """Returns a Service before the pods with the label `app: name`."""
    ports = [{"port": port, "targetPort": target}]
    return {"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


def pod_template(name, containers, volumes=(), labels=None, **spec):
    return {
        "metadata": {"labels": {"app": name, **(labels or {})}},
        "spec": {"containers": containers, "volumes": list(volumes), "enableServiceLinks": False, **spec},
    }


def pod(name, containers, volumes=(), labels=None, **spec):
    template = pod_template(name, containers, volumes, labels, **spec)
    template["metadata"]["name"] = name
    return {"apiVersion": "v1", "kind": "Pod", **template}


def deployment(name, template, replicas=1, **spec):
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template, **spec}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec}


def job(name, template):
    template["spec"]["restartPolicy"] = "Never"
    spec = {"backoffLimit": 0, "template": template}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}


def tools(name, *command, **more):
    """Returns a container of the image with shell, curl, Python, openssl and nginx."""
    container = {"name": name, "image": "warmline/tools:test", "imagePullPolicy": "Never", "command": list(command)}
    return {**container, "securityContext": RESTRICTED, **more}
