"""Injected pods that really run: every call gets its answer, from the first line of an application to 5 s after its
SIGTERM."""

import pytest

from support.application import caller, caller_script
from support.egress import configure, mutual
from support.kube import deployment, job, pod, pod_template, tools
from support.patience import eventually
from support.shell import run
from support.sidecar import metrics
from support.upstream import UpstreamOutside, upstream_in_pod

pytestmark = pytest.mark.usefixtures("webhook")
ASKING = {"warmline.dev/inject": "true"}


@pytest.fixture
def payments(namespace, identity, authority):
    """Makes an upstream in a pod that demands client certificates, configured as `payments`."""
    host = upstream_in_pod(namespace, "payments", authority, authority.pem)
    configure(namespace, mutual("payments", 13401, f"{host}:443"))
    return host


def ask(variable):
    """Returns the command of one call that knows only the variable and is not repeated."""
    return ["curl", "--silent", "--show-error", "--fail", f"$({variable})/first"]


def test_the_first_line_of_an_application_and_of_an_init_container_are_answered_by_mutual_tls(namespace, identity, payments):
    before = tools("before", *ask("WARMLINE_PAYMENTS_URL"))
    # The application calls in its first line, prints the answer, and stays.
    first = 'curl --silent --show-error --fail "$WARMLINE_PAYMENTS_URL/first" && exec sleep infinity'
    namespace.apply(pod("asking", [tools("application", "bash", "-c", first)], labels=ASKING, initContainers=[before]))
    namespace.wait("condition=Ready", "pod/asking")
    answer = f"CN=application {identity.serial}\n"
    assert namespace.logs("asking", "before") == answer
    assert eventually("the application's answer", lambda: namespace.logs("asking", "application")) == answer
    seen = metrics(namespace, "asking")
    assert seen.sum("warmline_requests_total", upstream="payments", code="2xx") == 2
    assert seen.sum("warmline_tls_handshakes_total", upstream="payments") == 1, "the second call reused the connection"


def test_an_upstream_outside_of_the_cluster_is_reached_by_mutual_tls(namespace, identity, outside):
    configure(namespace, mutual("outside", 13402, outside.endpoint, serverName=outside.name))
    namespace.apply(job("asking", pod_template("asking", [tools("application", *ask("WARMLINE_OUTSIDE_URL"))], labels=ASKING)))
    namespace.wait("condition=Complete", "job/asking")
    assert namespace.logs("job/asking", "application") == f"CN=application {identity.serial}\n"
    assert [(serial, request) for serial, _, _, request in outside.calls()] == [(identity.serial, "GET /first HTTP/1.1")]


def test_an_upstream_whose_authority_is_public_needs_neither_trust_nor_identity(namespace, tmp_path, public_authority):
    with UpstreamOutside(tmp_path / "public", public_authority, None, name="public.example") as upstream:
        configure(
            namespace,
            {"name": "public", "port": 13403, "endpoints": [upstream.endpoint], "tls": {"serverName": upstream.name}},
        )
        namespace.apply(job("asking", pod_template("asking", [tools("application", *ask("WARMLINE_PUBLIC_URL"))], labels=ASKING)))
        namespace.wait("condition=Complete", "job/asking")
        assert [request for _, _, _, request in upstream.calls()] == ["GET /first HTTP/1.1"]


def test_a_job_ends_by_itself_and_its_sidecar_with_status_0(namespace, payments):
    namespace.apply(job("asking", pod_template("asking", [tools("application", *ask("WARMLINE_PAYMENTS_URL"))], labels=ASKING)))
    namespace.wait("condition=Complete", "job/asking")
    [ended] = namespace.get("pods", "--selector=app=asking")["items"]
    namespace.wait("jsonpath={.status.phase}=Succeeded", f"pod/{ended['metadata']['name']}")
    [sidecar] = namespace.get("pod", ended["metadata"]["name"])["status"]["initContainerStatuses"]
    assert sidecar["state"]["terminated"]["exitCode"] == 0
    assert sidecar["restartCount"] == 0


@pytest.fixture
def callers(namespace, payments, reports):
    """Starts two pods that call all the time."""
    namespace.apply(caller_script(), deployment("callers", caller("callers", "payments", reports), replicas=2))
    namespace.rolled_out("deployment/callers")
    return reports


def end_callers(namespace, reports, number):
    """Ends the pods; returns the counts of all callers, earlier ones included."""
    namespace.delete("deployment/callers", wait=False)
    return reports.wait(number)


def assert_none_lost(counted):
    told = "\n".join(f"{report['name']}: {report['good']} good, {len(report['lost'])} lost" for report in counted)
    assert [lost for report in counted for lost in report["lost"]] == [], told
    for report in counted:
        assert report["good"] > 0, told
        assert report["after_told"] > 0, f"it called on after its SIGTERM: {report}"
    print(f"{sum(report['good'] for report in counted)} calls, {sum(report['after_told'] for report in counted)} of them after "
          f"SIGTERM, none lost, in {len(counted)} pods")


def test_a_rolling_update_loses_no_request(namespace, callers):
    namespace.kubectl("rollout", "restart", "deployment/callers")
    namespace.rolled_out("deployment/callers")
    assert_none_lost(end_callers(namespace, callers, 4))


def test_a_pod_that_is_deleted_loses_no_request(namespace, callers):
    first, _ = namespace.pods("app=callers")
    namespace.delete(f"pod/{first['metadata']['name']}")
    namespace.rolled_out("deployment/callers")
    assert_none_lost(end_callers(namespace, callers, 3))


def test_a_sidecar_killed_at_load_is_restarted_and_serves_again(namespace, callers):
    victim, other = (pod["metadata"]["name"] for pod in namespace.pods("app=callers"))
    eventually("load", lambda: metrics(namespace, victim).sum("warmline_requests_total", code="2xx") > 100)
    [sidecar] = namespace.get("pod", victim)["status"]["initContainerStatuses"]
    run("ctr", "tasks", "kill", "--signal", "SIGKILL", sidecar["containerID"].removeprefix("containerd://"))
    namespace.wait("jsonpath={.status.initContainerStatuses[0].restartCount}=1", f"pod/{victim}")
    namespace.wait("condition=Ready", f"pod/{victim}")
    eventually("load again", lambda: metrics(namespace, victim).sum("warmline_requests_total", code="2xx") > 100)
    counted = {report["name"]: report for report in end_callers(namespace, callers, 2)}
    assert counted[other]["lost"] == []
    gap = counted[victim]["longest_gap"]
    print(f"case 55: killed with -9 at load, the first good request came after {gap:.2f} s (kubelet's notice included); "
          f"{len(counted[victim]['lost'])} calls failed meanwhile")
    assert gap < 30
