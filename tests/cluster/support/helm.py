"""The project's charts, installed by the real Helm with the images under test."""

from pathlib import Path

import yaml

from support.shell import run

CHARTS = Path(__file__).parents[3] / "charts"
IMAGE = {"repository": "warmline/warmline", "tag": "test", "pullPolicy": "Never"}


def helm(*words, stdin=None, timeout=180):
    return run("helm", *words, stdin=stdin, timeout=timeout)


def install(chart, namespace, values=None):
    """Installs or upgrades the chart under its own name, and waits until its objects are ready."""
    values = yaml.safe_dump({"image": IMAGE, **(values or {})})
    words = ["upgrade", "--install", chart, str(CHARTS / chart), "--namespace", namespace, "--values=-"]
    return helm(*words, "--wait", "--timeout=120s", stdin=values)


def uninstall(chart, namespace):
    helm("uninstall", chart, "--namespace", namespace, "--wait", "--ignore-not-found")
