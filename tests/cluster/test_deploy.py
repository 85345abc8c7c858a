"""The manifests of deploy/, applied as by users without Helm."""

from pathlib import Path

import pytest
import yaml

from support.default_image import default_image  # noqa: F401 (a fixture)
from support.kube import Namespace, kubectl
from support.patience import eventually
from support.shell import Failed, run

DEPLOY = Path(__file__).parents[2] / "deploy"


def test_the_rendered_manifests_are_what_the_charts_say(tmp_path):
    run(str(DEPLOY / "render"), str(tmp_path))
    rendered = {str(file.relative_to(tmp_path)): file.read_text() for file in tmp_path.rglob("*.yaml")}
    kept = {str(file.relative_to(DEPLOY)): file.read_text() for file in DEPLOY.rglob("*.yaml")}
    assert rendered == {name: text for name, text in kept.items() if text.startswith("# Rendered")}, "run deploy/render"


MANIFESTS = [file for file in sorted(DEPLOY.rglob("*.yaml")) if file.name not in ("kustomization.yaml", "values.yaml")]


@pytest.mark.parametrize("file", MANIFESTS, ids=[str(file.relative_to(DEPLOY)) for file in MANIFESTS])
def test_fault_23_the_api_server_takes_every_manifest_and_knows_each_of_its_fields(file, namespace):
    manifests = [manifest for manifest in yaml.safe_load_all(file.read_text()) if manifest]
    for manifest in manifests:
        # The namespaces in the manifests do not exist here.
        manifest["metadata"].pop("namespace", None)
    namespace.kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=yaml.safe_dump_all(manifests))


@pytest.mark.usefixtures("default_image")
@pytest.mark.parametrize("way", ["webhook", "policy"])
def test_the_sample_application_gets_its_answers_over_one_verified_connection(way):
    sample, system = Namespace("warmline-sample"), Namespace("warmline-system")
    try:
        kubectl("apply", "--server-side", "--kustomize", str(DEPLOY / way))
        if way == "webhook":
            system.rolled_out("deployment/warmline-injector")
        else:
            eventually("the policies are followed", lambda: "warmline" in dry_run_of_a_pod_that_asks())
        kubectl("apply", "--filename", str(DEPLOY / "sample" / "namespace.yaml"))
        run(str(DEPLOY / "sample" / "certificates"))
        # No registry can be reached from here: the tests' own image replaces nginx's.
        manifests = kubectl("kustomize", str(DEPLOY / "sample"))
        image = "nginxinc/nginx-unprivileged:1.29"
        assert manifests.count(image) == 2
        kubectl("apply", "--filename=-", stdin=manifests.replace(image, "warmline/tools:test"))
        sample.rolled_out("deployment/payments")
        sample.rolled_out("deployment/shop")
        answers = eventually("answers", lambda: tenth_answer(sample), timeout=60)
        assert answers == [f"connection {answers[0].split()[1].rstrip(',')}, request {n}, from CN=shop" for n in range(1, 11)]
    finally:
        kubectl("delete", "namespace", "warmline-sample", "--ignore-not-found")
        kubectl("delete", "--kustomize", str(DEPLOY / way), "--ignore-not-found")


def tenth_answer(sample):
    """Returns the first ten answers that came over a connection; an empty list until there are ten."""
    lines = [line for line in sample.logs("deployment/shop", "shop").splitlines() if line.startswith("connection")]
    return lines[:10] if len(lines) >= 10 else []


def dry_run_of_a_pod_that_asks():
    words = ["run", "asks", "--image=any", "--labels=warmline.dev/inject=true", "--dry-run=server"]
    try:
        return kubectl(*words, "--output=jsonpath={.spec.initContainers[*].name}")
    except Failed:
        # The policies missed this pod: the API server does not follow all of them yet.
        return ""
