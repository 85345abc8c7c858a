"""The injector's pods, and pods that are made through the injector."""

import base64
import json
import re
import threading

import yaml

from support.kube import kubectl, pod, tools
from support.patience import eventually
from support.shell import Failed

SYSTEM = "warmline-system"
INJECTOR = "warmline-injector"
SECRET = "warmline-injector-tls"
ACCOUNT = f"system:serviceaccount:{SYSTEM}:{INJECTOR}"
ASKING = {"warmline.dev/inject": "true"}


class Creations:
    """A thread that makes pods that ask for a sidecar, again and again (dry runs), and keeps the refusals."""

    def __init__(self, namespace):
        self.namespace = namespace
        self.count = 0
        self.refused = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self):
        self._thread.start()
        self.more(1)
        return self

    def __exit__(self, *_):
        self._over.set()
        self._thread.join()

    def more(self, count):
        """Waits for so many more pods."""
        wanted = self.count + count
        eventually("pods are made", lambda: self.count >= wanted, timeout=60)

    def _run(self):
        while not self._over.is_set():
            try:
                if len(sidecars(attempt(self.namespace, ASKING))) != 1:
                    self.refused.append("made without its sidecar")
            except Failed as failed:
                self.refused.append(failed.output)
            self.count += 1


def attempt(namespace, labels=None, **spec):
    """Returns the pod that the API server would make of this one (a dry run)."""
    wanted = pod("asking", [tools("app", "true")], labels=labels, **spec)
    made = namespace.kubectl("create", "--dry-run=server", "--output=json", "--filename=-", stdin=yaml.safe_dump(wanted))
    return json.loads(made)


def injected(namespace):
    try:
        return len(sidecars(attempt(namespace, ASKING))) == 1
    except Failed:
        return False


def sidecars(made):
    return [container for container in made["spec"].get("initContainers", []) if container["name"] == "warmline"]


def bundles():
    """Returns the PEM that each of the webhooks trusts (`caBundle`)."""
    webhooks = json.loads(kubectl("get", "mutatingwebhookconfiguration", INJECTOR, "--output=json"))["webhooks"]
    return [base64.b64decode(webhook["clientConfig"].get("caBundle", "")).decode() for webhook in webhooks]


def secret(system):
    data = system.get("secret", SECRET).get("data", {})
    return {key: base64.b64decode(value).decode() for key, value in data.items()}


def selector(system):
    labels = system.get("deployment", INJECTOR)["spec"]["selector"]["matchLabels"]
    return ",".join(f"{key}={value}" for key, value in labels.items())


def ready(system):
    """Returns the names of the injector's ready pods."""
    def is_ready(one):
        return any(c["type"] == "Ready" and c["status"] == "True" for c in one["status"].get("conditions", []))

    return [one["metadata"]["name"] for one in system.pods(selector(system)) if is_ready(one)]


def said(system, message):
    """Returns the lines with this message from the logs of all replicas."""
    lines = [json.loads(line) for name in ready(system) for line in system.logs(name, "injector").splitlines()]
    return [line for line in lines if line["message"] == message]


def metric(name, series):
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{name}:13320/proxy/metrics")
    [value] = [line.rsplit(" ", 1)[1] for line in text.splitlines() if line.rsplit(" ", 1)[0] == series]
    return float(value)


def rights(account, namespace=SYSTEM):
    """Returns (resource, name, verbs) of every right of the account in the namespace."""
    table = kubectl("auth", "can-i", "--list", f"--as={account}", f"--namespace={namespace}", "--no-headers")
    rows = re.findall(r"^(\S*)\s+\[([^\]]*)\]\s+\[([^\]]*)\]\s+\[([^\]]*)\]$", table, re.MULTILINE)
    assert len(rows) == len(table.splitlines())
    return {(resource or paths, names, verbs) for resource, paths, names, verbs in rows}
