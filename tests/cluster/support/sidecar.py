"""A running sidecar's metrics and log. The tests run on the node, from which pods can be reached."""

import json
import re
import urllib.request
from pathlib import Path

import yaml

SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """The samples of one scrape."""

    def __init__(self, text):
        self._samples = [self._parse(line) for line in text.splitlines() if line and not line.startswith("#")]

    @staticmethod
    def _parse(line):
        found = SAMPLE.match(line)
        assert found, f"not a sample: {line}"
        return found["name"], dict(LABEL.findall(found["labels"] or "")), float(found["value"])

    def series(self, name, **labels):
        """Returns labels and value of each sample with this name and (at least) these labels."""
        return [(its, value) for own, its, value in self._samples if own == name and labels.items() <= its.items()]

    def sum(self, name, **labels):
        return sum(value for _, value in self.series(name, **labels))


def metrics(namespace, pod):
    """Scrapes the pod's sidecar."""
    address = namespace.get("pod", pod)["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:13320/metrics", timeout=10) as response:
        return Metrics(response.read().decode())


def log(namespace, pod, *more):
    """Returns the sidecar's log lines, each as a dictionary."""
    return [json.loads(line) for line in namespace.logs(pod, "warmline", *more).splitlines()]


def container():
    """Returns the container that both ways of injection make, for pods that are written by hand."""
    return yaml.safe_load((Path(__file__).parents[1] / "sidecar.yaml").read_text())


def volumes(**instead):
    """Returns the sidecar's volumes; `instead` replaces sources, by the last part of a volume's name."""
    sources = {
        "config": {"configMap": {"name": "warmline"}},
        "identity": {"secret": {"secretName": "warmline-identity", "optional": True}},
        "trust": {"configMap": {"name": "warmline-trust", "optional": True}},
        "run": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
    }
    return [{"name": f"warmline-{name}", **source} for name, source in {**sources, **instead}.items()]
