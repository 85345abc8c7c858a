"""Credentials change under load: no request is lost, and nothing of the old generation stays."""

import pytest

from support.application import caller, caller_script
from support.certificates import Authority
from support.egress import configure, give_identity, give_trust, mutual
from support.kube import deployment
from support.patience import eventually
from support.sidecar import metrics

pytestmark = pytest.mark.usefixtures("policies")


@pytest.fixture
def calling(namespace, identity, outside, reports):
    """Starts a pod that calls the upstream outside all the time; returns the pod's name."""
    configure(namespace, mutual("outside", 13402, outside.endpoint, serverName=outside.name))
    namespace.apply(caller_script(), deployment("callers", caller("callers", "outside", reports)))
    namespace.rolled_out("deployment/callers")
    [pod] = namespace.pods("app=callers")
    return pod["metadata"]["name"]


def reloads(namespace, pod):
    return metrics(namespace, pod).sum("warmline_identity_reloads_total", result="applied")


def until_reloaded(namespace, pod, change):
    """Makes the change, and waits until the sidecar has it in force."""
    before = reloads(namespace, pod)
    change()
    eventually("the changed files in force", lambda: reloads(namespace, pod) > before)


def until_old_generation_is_gone(namespace, pod):
    eventually(
        "no connection of an older generation",
        lambda: metrics(namespace, pod).series("warmline_old_generation_connections", upstream="outside")
        and metrics(namespace, pod).sum("warmline_old_generation_connections", upstream="outside") == 0,
    )


def until_further_calls(outside, number=100):
    """Waits for `number` further calls at the upstream and returns the calls since the start of the wait."""
    before = len(outside.calls())
    eventually("further calls", lambda: len(outside.calls()) >= before + number)
    return outside.calls()[before:]


def end_without_loss(namespace, reports):
    namespace.delete("deployment/callers", wait=False)
    [counted] = reports.wait(1)
    assert counted["lost"] == []
    print(f"{counted['good']} calls, none lost")


def test_an_identity_rotated_in_place_loses_no_request(namespace, identity, calling, outside, authority, reports):
    assert {serial for serial, *_ in until_further_calls(outside)} == {identity.serial}
    renewed = authority.client("application")
    until_reloaded(namespace, calling, lambda: give_identity(namespace, renewed))
    until_old_generation_is_gone(namespace, calling)
    assert {serial for serial, *_ in until_further_calls(outside)} == {renewed.serial}
    end_without_loss(namespace, reports)


def test_a_trust_rotated_by_overlap_loses_no_request(namespace, calling, outside, authority, reports):
    successor = Authority("next authority")
    until_reloaded(namespace, calling, lambda: give_trust(namespace, authority, successor))
    outside.present(successor.server(outside.name))
    until_further_calls(outside)
    until_reloaded(namespace, calling, lambda: give_trust(namespace, successor))
    until_old_generation_is_gone(namespace, calling)
    until_further_calls(outside)
    end_without_loss(namespace, reports)
