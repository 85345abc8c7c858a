"""The injector's pods on a real API server: their CA, their rights, foreign changes, and the time while they are away.

The chart is installed with two replicas and no values but the image, like a user's first install. The tests share the
cluster but do not depend on each other: each leaves the webhook working.
"""

import base64
import json
import re
import time

import pytest

from support.certificates import Authority
from support.helm import install, uninstall
from support.kube import Namespace, deployment, kubectl, pod, pod_template, tools
from support.other_mutator import OtherMutator
from support.patience import eventually
from support.shell import Failed, run
from support.webhook import (
    ACCOUNT, ASKING, INJECTOR, SECRET, SYSTEM, Creations, attempt, bundles, injected, metric, ready, rights, said, secret, selector,
    sidecars,
)

MISSING = "the webhook's certificate is not as it should be; trying on"
CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n", re.DOTALL)


@pytest.fixture(scope="module")
def system():
    """Installs the chart with its webhook, and removes it after the tests."""
    system = Namespace(SYSTEM)
    system.create()
    install("warmline", SYSTEM)
    yield system
    uninstall("warmline", SYSTEM)
    system.remove()
    system.wait("delete", f"namespace/{SYSTEM}")


def test_two_replicas_agree_on_one_ca_and_are_ready_once_both_webhooks_trust_it(system, namespace):
    assert len(ready(system)) == 2
    assert bundles() == [authority(system)] * 2
    assert injected(namespace)
    for name in ready(system):
        assert metric(name, 'warmline_injector_ca_in_place') == 1
    fields = kubectl("get", "mutatingwebhookconfiguration", INJECTOR, "--output=json", "--show-managed-fields")
    owners = {entry["manager"] for entry in json.loads(fields)["metadata"]["managedFields"] if "caBundle" in json.dumps(entry)}
    assert owners == {INJECTOR}


def test_the_rights_are_exactly_these(system):
    ours = rights(ACCOUNT) - rights(f"system:serviceaccount:{SYSTEM}:default")
    assert ours == {
        ("secrets", SECRET, "get list watch update"),
        ("mutatingwebhookconfigurations.admissionregistration.k8s.io", INJECTOR, "get list watch patch"),
    }
    assert rights(ACCOUNT, "default") - rights(f"system:serviceaccount:{SYSTEM}:default", "default") == {
        ("mutatingwebhookconfigurations.admissionregistration.k8s.io", INJECTOR, "get list watch patch"),
    }


def test_a_pod_that_cannot_have_a_sidecar_is_refused_to_whoever_makes_it(system, make_namespace):
    free = make_namespace({"pod-security.kubernetes.io/enforce": "privileged"})
    with pytest.raises(Failed) as refused:
        attempt(free, ASKING, hostNetwork=True)
    assert "warmline cannot be injected: hostNetwork is set, so that loopback is the node's" in refused.value.output
    asking = make_namespace({"pod-security.kubernetes.io/enforce": "privileged", **ASKING})
    assert not sidecars(attempt(asking, hostNetwork=True))
    assert len(sidecars(attempt(asking))) == 1


def test_case_54_a_pod_that_others_change_before_and_after_has_one_sidecar_where_we_put_it(system, namespace, authority, tmp_path):
    before = total(system, "left-alone")
    with OtherMutator(tmp_path, authority, "aa-first", "early"), OtherMutator(tmp_path, authority, "zz-last", "late") as last:
        made = eventually("both others take part", lambda: made_by_all(namespace, last))
    names = [container["name"] for container in made["spec"]["initContainers"]]
    # The late webhook puts its own container first; Warmline's is neither moved back nor added again.
    assert names == ["late", "warmline", "early"]
    assert [container["name"] for container in made["spec"]["containers"]] == ["app"]
    early = made["spec"]["initContainers"][2]
    assert early["envFrom"] == [{"configMapRef": {"name": "warmline-urls", "optional": True}}]
    assert total(system, "left-alone") > before, "we were invoked again"


def made_by_all(namespace, last):
    made = attempt(namespace, ASKING)
    names = {container["name"] for container in made["spec"]["initContainers"]}
    return made if {"early", "late"} <= names and last.calls else None


def test_case_54_junk_through_the_service_is_refused_and_the_next_pod_is_injected(system, namespace):
    path = f"/api/v1/namespaces/{SYSTEM}/services/https:{INJECTOR}:443/proxy/mutate"
    for body, status, words in [("{", "BadRequest", "not an AdmissionReview in JSON"), (" " * 5_000_000, "413", "more than 4 MiB")]:
        with pytest.raises(Failed) as refused:
            kubectl("create", "--raw", path, "--filename=-", stdin=body)
        assert status in refused.value.output
        assert any(words in line["reason"] for line in said(system, "a review cannot be answered"))
    assert injected(namespace)


def test_an_api_server_that_was_away_finds_it_as_it_was_and_what_changes_then_is_seen(system, namespace):
    kept = secret(system)
    run("component", "stop", "kube-apiserver")
    run("component", "start", "kube-apiserver")
    eventually("the API server is back", answers, timeout=60)
    eventually("pods are injected", lambda: injected(namespace))
    system.delete("secret", SECRET)
    eventually("both replicas miss it", lambda: len(said(system, MISSING)) == 2)
    with Creations(namespace) as creations:
        creations.more(20)
    assert creations.refused == [], "what was agreed on is served on"
    system.kubectl("create", "secret", "generic", SECRET)
    eventually("a CA is made anew and in place", lambda: in_place(system) not in (None, kept["ca.crt"]))
    eventually("pods are injected", lambda: injected(namespace))


def answers():
    try:
        return "ok" in kubectl("get", "--raw", "/readyz")
    except Failed:
        return False


def test_a_replica_that_may_not_write_the_secret_serves_with_what_is_in_it(system, namespace):
    kept = secret(system)
    writes(system, ["get", "list", "watch"])
    # With this longer lifetime, the rest of the serving certificate's life is less than a third: a new one is due.
    system.kubectl("patch", "deployment", INJECTOR, "--type=json", "--patch", json.dumps([
        {"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": "--certificate-lifetime=2400h"}]))
    system.rolled_out(f"deployment/{INJECTOR}")
    reasons = eventually("each says what it may not do", lambda: both(line["reason"] for line in said(system, MISSING)))
    assert all("the Secret cannot be written" in reason and "forbidden" in reason for reason in reasons)
    assert injected(namespace)
    assert secret(system) == kept
    writes(system, ["get", "list", "watch", "update"])
    eventually("the serving certificate is made anew", lambda: secret(system)["tls.crt"] != kept["tls.crt"], timeout=60)
    assert secret(system)["ca.crt"] == kept["ca.crt"]
    eventually("pods are injected", lambda: injected(namespace))
    system.kubectl("rollout", "undo", f"deployment/{INJECTOR}")
    system.rolled_out(f"deployment/{INJECTOR}")


def writes(system, verbs):
    """Sets the verbs that the injector's role allows on the Secret."""
    change = [{"op": "replace", "path": "/rules/0/verbs", "value": verbs}]
    system.kubectl("patch", "role", INJECTOR, "--type=json", "--patch", json.dumps(change))


def both(values):
    values = list(values)
    return values if len(values) == 2 else None


@pytest.mark.parametrize("change", ["another CA", "none"])
def test_a_foreign_change_of_the_ca_bundle_is_repaired(system, namespace, change):
    ours = authority(system)
    path = "/webhooks/1/clientConfig/caBundle"
    foreign = base64.b64encode(Authority("foreign").pem.encode()).decode()
    change = {"op": "remove", "path": path} if change == "none" else {"op": "replace", "path": path, "value": foreign}
    kubectl("patch", "mutatingwebhookconfiguration", INJECTOR, "--type=json", "--patch", json.dumps([change]))
    eventually("both webhooks trust our CA again", lambda: bundles() == [ours] * 2)
    eventually("pods are injected", lambda: injected(namespace))


def test_a_rolling_restart_keeps_the_ca_and_loses_no_review(system, namespace):
    kept = secret(system)
    with Creations(namespace) as creations:
        system.kubectl("rollout", "restart", f"deployment/{INJECTOR}")
        system.rolled_out(f"deployment/{INJECTOR}")
        creations.more(10)
    assert creations.refused == []
    assert secret(system) == kept
    assert bundles() == [kept["ca.crt"]] * 2


def test_while_it_is_away_others_start_and_those_who_asked_are_made_when_it_returns(system, namespace):
    system.kubectl("scale", f"deployment/{INJECTOR}", "--replicas=0")
    eventually("its pods are gone", lambda: not system.get("pods", f"--selector={selector(system)}")["items"], timeout=60)
    namespace.apply(pod("plain", [tools("app", "sleep", "3600")]))
    namespace.apply(deployment("asking", pod_template("asking", [tools("app", "sleep", "3600")], labels=ASKING)))
    namespace.wait("condition=Ready", "pod/plain")
    namespace.wait("condition=ReplicaFailure", "deployment/asking")
    why = namespace.get("deployment", "asking")["status"]["conditions"]
    assert any('failed calling webhook "pods.warmline.dev"' in condition["message"] for condition in why)
    assert namespace.pods("app=asking") == []
    system.kubectl("scale", f"deployment/{INJECTOR}", "--replicas=2")
    system.rolled_out(f"deployment/{INJECTOR}")
    made = eventually("the pod that asked is made", lambda: namespace.pods("app=asking"), timeout=90)
    assert [len(sidecars(one)) for one in made] == [1]


def test_certificates_and_ca_rotate_in_seconds_and_no_pod_is_refused(system, namespace):
    lifetimes = [{"op": "add", "path": "/spec/template/spec/containers/0/args/-", "value": value}
                 for value in ("--ca-lifetime=90s", "--certificate-lifetime=30s")]
    system.kubectl("patch", "deployment", INJECTOR, "--type=json", "--patch", json.dumps(lifetimes))
    system.rolled_out(f"deployment/{INJECTOR}")
    eventually("those with other lifetimes are gone", lambda: len(system.get("pods", f"--selector={selector(system)}")["items"]) == 2)
    # The old CA lives for a year; once it is deleted, the injector makes one with the new lifetime.
    system.kubectl("patch", "secret", SECRET, "--type=json", "--patch", '[{"op": "remove", "path": "/data"}]')
    first = eventually("a CA is made anew and in place", lambda: in_place(system))
    eventually("pods are injected", lambda: injected(namespace))
    seen = [first]
    with Creations(namespace) as creations:
        end = time.monotonic() + 200
        while len(seen) < 4 and time.monotonic() < end:
            now = bundles()
            if now[0] != seen[-1] and now[0] == now[1]:
                seen.append(now[0])
            time.sleep(0.2)
        creations.more(10)
    old, new = CERTIFICATE.findall(first), CERTIFICATE.findall(seen[-1])
    assert len(old) == len(new) == 1 and old != new
    # The new CA is announced; then it signs, with the old one still trusted; then the old one is dropped.
    assert [sorted(CERTIFICATE.findall(bundle)) for bundle in seen[1:3]] == [sorted(old + new)] * 2
    assert creations.refused == []
    assert creations.count > 50
    assert secret(system)["ca.crt"] == new[0]
    assert said(system, "a TLS handshake failed") == []


def authority(system):
    return secret(system)["ca.crt"]


def in_place(system):
    """Returns the CA if the Secret has one and both webhooks trust only that; otherwise None."""
    made = secret(system).get("ca.crt")
    return made if made and bundles() == [made] * 2 else None


def total(system, result):
    """Returns the number of reviews with this result, over all replicas."""
    return sum(metric(name, f'warmline_injector_reviews_total{{result="{result}"}}') for name in ready(system))
