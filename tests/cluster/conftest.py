"""Fixtures of the tests in the cluster. They run inside of `tests/cluster/up`, one cluster for all of them."""

import itertools
import os
import re
from pathlib import Path

import pytest
import yaml

from support.application import Reports
from support.certificates import Authority
from support.egress import give_identity, give_trust
from support.helm import CHARTS, install, uninstall
from support.kube import Namespace
from support.shell import run
from support.upstream import UpstreamOutside

SYSTEM = "warmline-system"
_numbers = itertools.count(1)


def pytest_sessionstart(session):
    if "CLUSTER_WORK" not in os.environ:
        pytest.exit("these tests need a cluster around them: make test-cluster, or tests/cluster/test FILE", returncode=2)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """A failed test shows what its namespaces looked like when it failed, before they are removed."""
    report = yield
    if report.failed and call.when in ("setup", "call"):
        for namespace in getattr(item, "namespaces", []):
            try:
                report.sections.append((f"namespace {namespace.name}", namespace.story()))
            except AssertionError as untold:
                report.sections.append((f"namespace {namespace.name}", f"cannot be told: {untold}"))
    return report


@pytest.fixture
def make_namespace(request):
    """Makes namespaces that enforce PodSecurity `restricted`, and removes them after the test: make_namespace(labels=None)."""
    request.node.namespaces = []

    def make(labels=None):
        words = re.sub("[^a-z0-9]+", "-", request.node.name.lower().removeprefix("test_"))[:24].strip("-")
        namespace = Namespace(f"{words}-{next(_numbers)}", labels)
        namespace.create()
        request.node.namespaces.append(namespace)
        return namespace

    yield make
    for namespace in request.node.namespaces:
        namespace.remove()


@pytest.fixture
def namespace(make_namespace):
    """One such namespace."""
    return make_namespace()


@pytest.fixture(scope="session")
def authority():
    """Signs upstreams and their clients."""
    return Authority("test authority")


@pytest.fixture
def identity(namespace, authority):
    """The namespace's identity, with its trust, as they are at the beginning."""
    credential = authority.client("application")
    give_identity(namespace, credential)
    give_trust(namespace, authority)
    return credential


@pytest.fixture
def reports():
    """Where callers report what they counted."""
    with Reports() as place:
        yield place


@pytest.fixture
def outside(tmp_path, authority):
    """An upstream outside of the pods that demands client certificates."""
    with UpstreamOutside(tmp_path / "outside", authority, authority.pem) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def public_authority():
    """Trusted by default in the image under test, as the public ones are (tests/cluster/images)."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "warmline" / "cluster" / "default-trust"
    return Authority.of_files(folder / "ca.crt", folder / "ca.key")


def pytest_terminal_summary(terminalreporter):
    """What passed tests printed: figures for the reader."""
    told = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call" and report.capstdout]
    if told:
        terminalreporter.section("figures")
    for report in told:
        terminalreporter.write_line(f"{report.head_line}: {report.capstdout.strip()}")


@pytest.fixture(scope="module")
def webhook():
    """Injection as users first install it, for the tests of one file."""
    yield from _injection({})


@pytest.fixture(scope="module")
def policies():
    """Injection by the API server itself, for the tests of one file."""
    yield from _injection({"injection": {"mode": "policy"}})


@pytest.fixture(scope="module", params=["webhook", "policy"])
def either_way(request):
    """Injection by the one, and then by the other, for the tests of one file."""
    yield from _injection({"injection": {"mode": request.param}})


def _injection(values):
    system = Namespace(SYSTEM)
    system.create()
    install("warmline", SYSTEM, values)
    yield system
    uninstall("warmline", SYSTEM)
    system.remove()
    system.wait("delete", f"namespace/{SYSTEM}")
