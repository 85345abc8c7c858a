"""The Kubernetes files of users of version 0.1.0 (tests/compat/0.1.0) go on working: their charts' values, and the pod
by hand."""

from pathlib import Path

import pytest
import yaml

from support.egress import IDENTITY, TRUST, configure
from support.helm import CHARTS, helm
from support.upstream import upstream_in_pod

KEPT = Path(__file__).parents[1] / "compat" / "0.1.0"
VALUES = {
    "warmline": ("warmline", []),
    "warmline-full": ("warmline", []),
    # CHANGELOG.md names this value for a chart without upstreams.
    "egress": ("warmline-egress", ["--set=configMap.create=false"]),
    "egress-full": ("warmline-egress", []),
    "egress-sample": ("warmline-egress", []),
}


@pytest.mark.parametrize("name", VALUES)
def test_the_charts_take_the_values_of_0_1_0(name):
    chart, more = VALUES[name]
    words = [str(CHARTS / chart), f"--values={KEPT / 'values' / name}.yaml", *more]
    helm("lint", "--strict", *words)
    helm("template", "any", *words, "--namespace=any")


def test_the_pod_by_hand_of_0_1_0_gets_its_answer_by_mutual_tls(namespace, identity, authority):
    host = upstream_in_pod(namespace, "payments", authority, authority.pem)
    tls = {"trust": TRUST, "identity": IDENTITY}
    configure(namespace, {"name": "payments", "port": 13401, "endpoints": [f"{host}:443"], "tls": tls})
    written = yaml.safe_load((KEPT / "pod.yaml").read_text())
    for container in written["spec"]["initContainers"] + written["spec"]["containers"]:
        assert container["image"] == "warmline/warmline:0.1.0"
        container.update(image="warmline/warmline:test", imagePullPolicy="Never")
    # The pod's application asks once and ends; with restarts the pod would never be ready for long.
    written["spec"]["restartPolicy"] = "Never"
    namespace.apply(written)
    namespace.wait("jsonpath={.status.phase}=Succeeded", "pod/shop")
    assert namespace.logs("shop", "shop") == f"CN=application {identity.serial}\n"
