"""The fixtures of the tests in the cluster. The tests run inside of `tests/cluster/up`, all of them in one cluster."""

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
    """Adds to a failed test's report the state of its namespaces, before they are removed."""
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
    """Returns make_namespace(labels=None), which makes a namespace that enforces PodSecurity `restricted`; all are
    removed after the test."""
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
    """Makes a namespace that enforces PodSecurity `restricted`."""
    return make_namespace()


@pytest.fixture(scope="session")
def authority():
    """Makes the authority that signs upstreams and their clients."""
    return Authority("test authority")


@pytest.fixture
def identity(namespace, authority):
    """Gives the namespace a client certificate and the trust in the authority; returns the certificate."""
    credential = authority.client("application")
    give_identity(namespace, credential)
    give_trust(namespace, authority)
    return credential


@pytest.fixture
def reports():
    """Opens the place to which callers report their counts."""
    with Reports() as place:
        yield place


@pytest.fixture
def outside(tmp_path, authority):
    """Starts an upstream outside of the pods that demands client certificates."""
    with UpstreamOutside(tmp_path / "outside", authority, authority.pem) as upstream:
        yield upstream


@pytest.fixture(scope="session")
def public_authority():
    """Returns the authority that the image under test trusts by default besides the public ones (tests/cluster/images).
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "warmline" / "cluster" / "default-trust"
    return Authority.of_files(folder / "ca.crt", folder / "ca.key")


def pytest_terminal_summary(terminalreporter):
    """Prints the output of passed tests, which consists of figures for the reader."""
    told = [report for report in terminalreporter.stats.get("passed", []) if report.when == "call" and report.capstdout]
    if told:
        terminalreporter.section("figures")
    for report in told:
        terminalreporter.write_line(f"{report.head_line}: {report.capstdout.strip()}")


@pytest.fixture(scope="module")
def webhook():
    """Installs the chart with its default values, which inject by the webhook, for the tests of one file."""
    yield from _injection({})


@pytest.fixture(scope="module")
def policies():
    """Installs the chart with injection by the API server itself, for the tests of one file."""
    yield from _injection({"injection": {"mode": "policy"}})


@pytest.fixture(scope="module", params=["webhook", "policy"])
def either_way(request):
    """Installs the chart with each way of injection in turn, for the tests of one file."""
    yield from _injection({"injection": {"mode": request.param}})


def _injection(values):
    system = Namespace(SYSTEM)
    system.create()
    install("warmline", SYSTEM, values)
    yield system
    uninstall("warmline", SYSTEM)
    system.remove()
    system.wait("delete", f"namespace/{SYSTEM}")
