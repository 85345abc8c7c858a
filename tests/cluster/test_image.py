"""The image from the project's own Dockerfile: its content, and that the program finds names without a system around
it."""

import json
import os
import tarfile

import pytest

from support.kube import RESTRICTED, deployment, pod, pod_template, service, tools


@pytest.fixture(scope="module")
def archive():
    """Returns the image as it was imported into the cluster: its configuration and its files."""
    [path] = [path for path in os.environ["CLUSTER_IMAGES"].split(":") if os.path.basename(path).startswith("warmline-")]
    with tarfile.open(path) as image:
        [manifest] = json.load(image.extractfile("manifest.json"))
        files = []
        for layer in manifest["Layers"]:
            with tarfile.open(fileobj=image.extractfile(layer)) as content:
                files += [member.name for member in content if member.isfile()]
        return json.load(image.extractfile(manifest["Config"])), files


def test_the_image_holds_the_program_its_licence_the_certificate_authorities_and_nothing_else(archive):
    _, files = archive
    assert sorted(files) == ["etc/ssl/certs/ca-certificates.crt", "usr/bin/warmline", "usr/share/doc/warmline/LICENSE"]


def test_the_image_has_a_user_of_its_own_by_number_and_starts_the_program(archive):
    configuration, _ = archive
    assert configuration["config"]["User"] == "13301:13301"
    assert configuration["config"]["Entrypoint"] == ["/usr/bin/warmline"]


def test_a_program_without_a_system_around_it_finds_names(namespace):
    server = tools("server", "python3", "-m", "http.server", "8080", readinessProbe={"tcpSocket": {"port": 8080}, "periodSeconds": 1})
    namespace.apply(deployment("named", pod_template("named", [server])), service("named", 80, 8080))
    namespace.rolled_out("deployment/named")
    get = {"name": "get", "image": "warmline/warmline:test", "imagePullPolicy": "Never", "securityContext": RESTRICTED}
    get["args"] = ["get", f"http://named.{namespace.name}.svc.cluster.local/"]
    # kubelet runs the pod again on failure: a new Service takes a moment to work.
    namespace.apply(pod("asking", [get], restartPolicy="OnFailure"))
    namespace.wait("jsonpath={.status.phase}=Succeeded", "pod/asking")
    assert "Directory listing" in namespace.logs("asking", "get")
