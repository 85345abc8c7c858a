"""A real Prometheus (Debian's) on the node, which finds pods through the API server and evaluates rules.

Debian builds Prometheus without the discovery of Kubernetes. The program `pod-targets` runs that code of Prometheus' in
another process, and hands the targets to Prometheus in a file, with every label.
"""

import copy
import json
import math
import subprocess
import urllib.error
import urllib.parse
import urllib.request

import yaml

from support.kube import kubectl
from support.patience import eventually
from support.shell import run

# The rights that a Prometheus needs; docs/monitor.md shows the same.
RIGHTS = {
    "apiVersion": "rbac.authorization.k8s.io/v1",
    "kind": "ClusterRole",
    "metadata": {"name": "prometheus-pods"},
    "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get", "list", "watch"]}],
}


class Access:
    """A ServiceAccount that may watch pods, for a Prometheus outside of the cluster: URL, CA and token."""

    def __init__(self, namespace, folder):
        account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "prometheus"}}
        subject = {"kind": "ServiceAccount", "name": "prometheus", "namespace": namespace.name}
        binding = {**RIGHTS, "kind": "ClusterRoleBinding", "subjects": [subject]}
        del binding["rules"]
        binding["roleRef"] = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "prometheus-pods"}
        namespace.apply(account, RIGHTS, binding)
        view = ["config", "view", "--raw", "--minify", "--flatten", "--output=json"]
        cluster = json.loads(kubectl(*view))["clusters"][0]["cluster"]
        self.url = cluster["server"]
        self.ca = folder / "ca.crt"
        self.ca.write_text(namespace.get("configmap", "kube-root-ca.crt")["data"]["ca.crt"])
        self.token = folder / "token"
        self.token.write_text(namespace.kubectl("create", "token", "prometheus", "--duration=1h").strip())

    @staticmethod
    def remove():
        kubectl("delete", "clusterrole,clusterrolebinding", "prometheus-pods")


class Prometheus:
    """A running Prometheus; a context manager that ends it with the block."""

    def __init__(self, folder, configuration, port=9090):
        self._folder = folder
        self._port = port
        self._discoveries = []
        self._configuration = configuration

    def __enter__(self):
        configuration = copy.deepcopy(self._configuration)
        for number, scrape in enumerate(configuration["scrape_configs"]):
            [discovery] = scrape.pop("kubernetes_sd_configs")
            scrape["file_sd_configs"] = [{"files": [self._discover(discovery, self._folder / f"targets-{number}.json")]}]
        (self._folder / "prometheus.yml").write_text(yaml.safe_dump(configuration))
        run("promtool", "check", "config", str(self._folder / "prometheus.yml"))
        words = ["prometheus", f"--config.file={self._folder}/prometheus.yml", f"--storage.tsdb.path={self._folder}/data"]
        words += [f"--web.listen-address=127.0.0.1:{self._port}", "--log.level=warn"]
        self._process = subprocess.Popen(words)
        eventually("Prometheus", self._is_ready)
        return self

    def __exit__(self, *_):
        for process in (self._process, *self._discoveries):
            process.terminate()
            process.wait(30)

    def _discover(self, discovery, file):
        process = subprocess.Popen(["pod-targets", str(file)], stdin=subprocess.PIPE, text=True)
        process.stdin.write(yaml.safe_dump(discovery))
        process.stdin.close()
        self._discoveries.append(process)
        eventually(f"what {discovery} finds", lambda: file.exists() and file.stat().st_size > 2)
        return str(file)

    def _is_ready(self):
        assert self._process.poll() is None, "Prometheus ended by itself: see what it said above"
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/-/ready", timeout=5):
                return True
        except OSError:
            return False

    def api(self, path, **query):
        address = f"http://127.0.0.1:{self._port}/api/v1/{path}?{urllib.parse.urlencode(query, doseq=True)}"
        try:
            with urllib.request.urlopen(address, timeout=30) as response:
                return json.load(response)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{query}: {error.read().decode()}") from error

    def query(self, expression):
        """Returns labels and value of each sample that is a number."""
        samples = [(sample["metric"], float(sample["value"][1])) for sample in self.api("query", query=expression)["result"]]
        return [(labels, value) for labels, value in samples if not math.isnan(value)]

    def targets(self):
        """Returns the labels of each target that answers."""
        return [target["labels"] for target in self.api("targets", state="active")["activeTargets"] if target["health"] == "up"]

    def alerts(self, state):
        """Returns name and namespace of each alert in this state."""
        found = self.api("alerts")["alerts"]
        return {(alert["labels"]["alertname"], alert["labels"]["namespace"]) for alert in found if alert["state"] == state}
