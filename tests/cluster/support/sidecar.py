"""What a running sidecar says of itself: metrics and log. The tests run on the node, where pods can be reached."""

import json
import re
import urllib.request
from pathlib import Path

import yaml

SAMPLE = re.compile(r"^(?P<name>\w+)(?:\{(?P<labels>.*)\})? (?P<value>\S+)$")
LABEL = re.compile(r'(\w+)="((?:[^"\\]|\\.)*)"')


class Metrics:
    """One scrape."""

    def __init__(self, text):
        self._samples = [self._parse(line) for line in text.splitlines() if line and not line.startswith("#")]

    @staticmethod
    def _parse(line):
        found = SAMPLE.match(line)
        assert found, f"not a sample: {line}"
        return found["name"], dict(LABEL.findall(found["labels"] or "")), float(found["value"])

    def series(self, name, **labels):
        """Labels and value of each sample of that name that has (at least) these labels."""
        return [(its, value) for own, its, value in self._samples if own == name and labels.items() <= its.items()]

    def sum(self, name, **labels):
        return sum(value for _, value in self.series(name, **labels))


def metrics(namespace, pod):
    """A scrape of the pod's sidecar."""
    address = namespace.get("pod", pod)["status"]["podIP"]
    with urllib.request.urlopen(f"http://{address}:13320/metrics", timeout=10) as response:
        return Metrics(response.read().decode())


def log(namespace, pod, *more):
    """The sidecar's log lines, each as a dictionary."""
    return [json.loads(line) for line in namespace.logs(pod, "warmline", *more).splitlines()]


def container():
    """The container that both ways of injection make, for pods that are written by hand."""
    return yaml.safe_load((Path(__file__).parents[1] / "sidecar.yaml").read_text())


def volumes(**instead):
    """The volumes that go with it; `instead` has another source for one of them, by the last part of its name."""
    sources = {
        "config": {"configMap": {"name": "warmline"}},
        "identity": {"secret": {"secretName": "warmline-identity", "optional": True}},
        "trust": {"configMap": {"name": "warmline-trust", "optional": True}},
        "run": {"emptyDir": {"medium": "Memory", "sizeLimit": "4Mi"}},
    }
    return [{"name": f"warmline-{name}", **source} for name, source in {**sources, **instead}.items()]
