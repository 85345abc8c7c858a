"""The injector with a certificate that another program makes, mounted as cert-manager's are: it needs no rights, and
follows the files.

cert-manager itself does not run: the chart's Issuer and Certificate are left out, and the test does the work of their
controllers.
"""

import base64
import json

import pytest
import yaml

from support.certificates import Authority
from support.helm import CHARTS, IMAGE, helm
from support.kube import Namespace, kubectl, secret
from support.patience import eventually
from support.webhook import ACCOUNT, INJECTOR, SYSTEM, Creations, bundles, injected, metric, ready, rights, said

NAME = f"{INJECTOR}.{SYSTEM}.svc"
SECRET = f"{INJECTOR}-certificate"
IN_USE = "the serving certificate is in use"


@pytest.fixture(scope="module")
def first():
    """Makes the authority of the first certificate."""
    return Authority("first")


@pytest.fixture(scope="module")
def system(first):
    system = Namespace(SYSTEM)
    system.create()
    values = yaml.safe_dump({"image": IMAGE, "certManager": {"enabled": True}})
    rendered = helm("template", "warmline", str(CHARTS / "warmline"), f"--namespace={SYSTEM}", "--no-hooks", "--values=-", stdin=values)
    objects = [one for one in yaml.safe_load_all(rendered) if one and "cert-manager.io" not in one["apiVersion"]]
    system.apply(secret(SECRET, first.server(NAME).data()), *objects)
    trust(first.pem)
    system.rolled_out(f"deployment/{INJECTOR}")
    yield system
    system.kubectl("delete", "--filename=-", stdin=yaml.safe_dump_all(objects))
    system.remove()
    system.wait("delete", f"namespace/{SYSTEM}")


def test_pods_are_injected_by_an_injector_that_has_no_right(system, namespace):
    eventually("pods are injected", lambda: injected(namespace))
    for where in (SYSTEM, namespace.name):
        assert rights(ACCOUNT, where) == rights(f"system:serviceaccount:{SYSTEM}:default", where)
    assert said(system, "the API server cannot be watched; trying on") == []
    assert [metric(name, "warmline_injector_ca_in_place") for name in ready(system)] == [1, 1]


def test_a_renewed_certificate_of_another_ca_is_taken_and_no_pod_is_refused(system, namespace, first):
    second = Authority("second")
    trust(first.pem + second.pem)
    eventually("pods are injected", lambda: injected(namespace))
    before = len(said(system, IN_USE))
    with Creations(namespace) as creations:
        system.apply(secret(SECRET, second.server(NAME).data()))
        eventually("both replicas use it", lambda: len(said(system, IN_USE)) == before + 2, timeout=60)
        trust(second.pem)
        creations.more(20)
    assert creations.refused == []
    assert bundles() == [second.pem] * 2, "nobody of ours writes it"


def trust(pem):
    """Writes the authority into the webhooks, as cert-manager's cainjector does."""
    value = base64.b64encode(pem.encode()).decode()
    patch = [{"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": value} for index in (0, 1)]
    kubectl("patch", "mutatingwebhookconfiguration", INJECTOR, "--type=json", "--patch", json.dumps(patch))
