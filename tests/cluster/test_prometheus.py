"""A real Prometheus scrapes real sidecars, which it finds through the API server: alerts fire only where something
happened, and every expression of the dashboard returns data."""

import contextlib
import json
import os
import re
import signal
import socket
from pathlib import Path

import pytest
import yaml

from support.egress import configure, give_identity, give_trust, mutual
from support.helm import CHARTS, helm, uninstall
from support.kube import Namespace, deployment, kubectl, pod, pod_template, tools
from support.patience import TooLate, eventually
from support.prometheus import Access, Prometheus
from support.shell import run
from support.sidecar import metrics
from support.upstream import UpstreamOutside

HERE = Path(__file__).parent
RULES = yaml.safe_load((CHARTS / "warmline-egress/rules/warmline.yaml").read_text())["groups"][0]["rules"]
DASHBOARD = json.loads((CHARTS / "warmline-egress/dashboards/warmline.json").read_text())

MONITORS = {"podMonitor": {"enabled": True, "interval": "1s"}, "prometheusRule": {"enabled": True}}

# Values with which the alerts fire in seconds instead of hours: any share, any rate, and certificates' whole lives.
SHORT_LIVES = {"clientCertificateWarningRatio", "clientCertificateWarningSeconds", "clientCertificateCriticalRatio"}
SHORT_LIVES |= {"clientCertificateCriticalSeconds", "trustSeconds"}
THRESHOLDS = yaml.safe_load((CHARTS / "warmline-egress/values.yaml").read_text())["prometheusRule"]["thresholds"]
NERVOUS = {
    "enabled": True,
    "thresholds": {name: 10**8 if name in SHORT_LIVES else 0 for name in THRESHOLDS},
    "alerts": {rule["alert"]: {"for": "1s"} for rule in RULES},
}

# The alert for connections that outlive a rotation by ten minutes, for which the test does not wait; and two that stay
# silent while a graver one has the same upstream, which with these thresholds it always has.
LONG = "WarmlineOldGenerationConnections"
NOT_CAUSED = {LONG, "WarmlineFewRequestsFailing", "WarmlineClientCertificateExpiring"}

# The calls: to a working upstream, with one connection for each request, with one connection for all, and calls that
# cannot succeed.
CALLS = """
while true; do
    for url in "$WARMLINE_GOOD_URL" "$WARMLINE_EACH_URL" "$WARMLINE_MISNAMED_URL"; do
        curl --silent --output /dev/null --max-time 5 "$url/"
    done
    curl --silent --output /dev/null --header 'Host: nobody.example' http://127.0.0.1:13301/
    for url in "$WARMLINE_NARROW_URL" "$WARMLINE_SILENT_URL" "$WARMLINE_CLOSED_URL"; do
        seq 8 | xargs -P 8 -I N curl --silent --output /dev/null --max-time 5 "$url/N"
    done
    sleep 0.2
done
"""
QUIET_CALLS = 'while true; do curl --silent --output /dev/null "$WARMLINE_GOOD_URL/"; sleep 0.1; done'

pytestmark = pytest.mark.usefixtures("policies")


@pytest.fixture(scope="module")
def operator():
    """Installs the Prometheus operator's CRDs, which come with its module."""
    module = "github.com/prometheus-operator/prometheus-operator"
    folder = run("go", "-C", str(HERE / "programs/scrape-configuration"), "list", "-m", "-f", "{{.Dir}}", module).strip()
    assert folder, f"{module} is not there: tests/cluster/test downloads it"
    files = [f"--filename={folder}/example/prometheus-operator-crd/monitoring.coreos.com_{kind}.yaml" for kind in ("podmonitors", "prometheusrules")]
    kubectl("apply", "--server-side", *files)
    kubectl("wait", "--for=condition=Established", *files)
    yield
    kubectl("delete", *files)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("prometheus")


@pytest.fixture(scope="module")
def upstream(folder, authority):
    with UpstreamOutside(folder / "outside", authority, authority.pem) as upstream:
        yield upstream


@pytest.fixture(scope="module")
def silent():
    """Opens an endpoint that takes connections and never sends a byte."""
    with socket.create_server((os.environ["CLUSTER_NODE_ADDRESS"], 0), backlog=1024) as listener:
        yield "{}:{}".format(*listener.getsockname())


def make(name):
    namespace = Namespace(name)
    namespace.create()
    return namespace


def calling(script):
    return deployment("calling", pod_template("calling", [tools("calling", "bash", "-c", script)], labels={"warmline.dev/inject": "true"}))


def start_calling(namespace, script, authority, upstreams, **values):
    give_identity(namespace, authority.client("application"))
    give_trust(namespace, authority)
    configure(namespace, *upstreams, **values)
    namespace.apply(calling(script))
    namespace.rolled_out("deployment/calling")


@pytest.fixture(scope="module")
def healthy(operator, authority, upstream):
    """Makes a namespace without faults, with the chart's own values."""
    namespace = make("healthy")
    good = mutual("good", 13401, upstream.endpoint, serverName=upstream.name)
    start_calling(namespace, QUIET_CALLS, authority, [good], **MONITORS)
    yield namespace
    uninstall("warmline-egress", namespace.name)
    namespace.remove()


@pytest.fixture(scope="module")
def troubled(operator, authority, upstream, silent):
    """Makes a namespace in which everything fails, with alerts that fire at once."""
    namespace = make("troubled")

    def named(name, port, endpoint=upstream.endpoint, server=upstream.name, **more):
        return {**mutual(name, port, endpoint, serverName=server), "hosts": [f"{name}.example"], **more}

    address = os.environ["CLUSTER_NODE_ADDRESS"]
    upstreams = [
        named("good", 13401),
        named("each", 13402, pool={"maxRequests": 1}),
        named("closed", 13403, f"{address}:9"),
        named("misnamed", 13404, server="other.example"),
        named("narrow", 13405, pool={"maxConnections": 1}),
        named("silent", 13406, silent, pool={"maxConnections": 1, "maxQueue": 1}, timeouts={"handshake": "300ms"}),
    ]
    values = {**MONITORS, "prometheusRule": NERVOUS, "dashboard": {"enabled": True}}
    start_calling(namespace, CALLS, authority, upstreams, **values)
    namespace.apply(deaf())
    yield namespace
    uninstall("warmline-egress", namespace.name)
    namespace.remove()


def deaf():
    """Returns a pod that looks like one with a sidecar, in which nothing listens."""
    ports = [{"name": "warmline-prom", "containerPort": 13320}]
    return pod("deaf", [tools("warmline", "sleep", "infinity", ports=ports)], labels={"warmline.dev/injected": "true"})


@pytest.fixture(scope="module")
def access(folder):
    namespace = make("monitoring")
    yield Access(namespace, folder)
    Access.remove()
    namespace.remove()


@pytest.fixture(scope="module")
def prometheus(folder, access, healthy, troubled):
    """Runs Prometheus with the scraping and the rules that the operator would derive from the objects in the API
    server."""
    configurations, rules = [], []
    for namespace in (healthy, troubled):
        monitor = json.dumps(namespace.get("podmonitor", "warmline"))
        configurations.append(operators(monitor, access))
        file = folder / f"{namespace.name}.yaml"
        file.write_text(yaml.safe_dump(namespace.get("prometheusrule", "warmline")["spec"]))
        run("promtool", "check", "rules", str(file))
        rules.append(str(file))
    whole = configurations[0]
    whole["scrape_configs"] += configurations[1]["scrape_configs"]
    whole["rule_files"] = rules
    with Prometheus(folder, whole) as process:
        yield process


def operators(monitor, access):
    """Returns the scrape configuration that the operator's own code makes; its sidecar's two variables are replaced."""
    version = run("prometheus", "--version").split()[2].split("+")[0]
    text = run("scrape-configuration", f"v{version}", access.url, str(access.ca), str(access.token), stdin=monitor)
    return yaml.safe_load(text.replace("$(SHARD)", "0").replace("$(POD_NAME)", "prometheus-0"))


@pytest.fixture(scope="module")
def trouble(prometheus, troubled, upstream, authority):
    """Causes the faults that calling alone does not cause; returns the name of the pod that calls."""
    [calling] = troubled.pods("app=calling")
    name = calling["metadata"]["name"]
    scraped(prometheus, "troubled", name)
    refuse_sessions(troubled, name, upstream, authority)
    start_from_what_was_kept(troubled, calling)
    other = authority.client("another")
    troubled.apply(broken_identity(authority.client("application").certificate, other.key))
    return name


def scraped(prometheus, namespace, pod):
    expression = f'up{{namespace="{namespace}", pod="{pod}", container="warmline"}} == 1'
    eventually(f"the sidecar of {pod} scraped", lambda: prometheus.query(expression))


def refuse_sessions(namespace, pod, upstream, authority):
    """Reloads nginx until sessions are refused: after a reload it has other keys for its tickets."""

    def refused():
        return metrics(namespace, pod).sum("warmline_tls_handshakes_total", result="refused")

    for _ in range(4):
        before = refused()
        upstream.present(authority.server(upstream.name))
        eventually("a session refused", lambda: refused() > before)


def start_from_what_was_kept(namespace, calling):
    """Has the configuration refused, takes the right to watch it away, and kills the sidecar, which then starts from
    its kept copy."""
    name, uid = calling["metadata"]["name"], calling["metadata"]["uid"]
    patch = json.dumps({"data": {"config.yaml": "nonsense: 1\n"}})
    namespace.kubectl("patch", "configmap", "warmline", "--type=merge", f"--patch={patch}")
    eventually("the refusal", lambda: metrics(namespace, name).sum("warmline_config_last_reload_successful") == 0)
    volumes = Path(os.environ["CLUSTER_WORK"], "kubelet/pods", uid, "volumes")
    mounted = volumes / "kubernetes.io~configmap/warmline-config/config.yaml"
    eventually("the mounted copy", lambda: "nonsense" in mounted.read_text(), timeout=120)
    namespace.delete("rolebinding/warmline")
    kill(namespace, name)
    eventually("the restarted sidecar", lambda: restarts(namespace, name) == 1)
    eventually("a start from what was kept", lambda: answers(namespace, name) == "kept")


def status(namespace, pod):
    containers = namespace.get("pod", pod)["status"]["initContainerStatuses"]
    return next(container for container in containers if container["name"] == "warmline")


def restarts(namespace, pod):
    return status(namespace, pod)["restartCount"]


def kill(namespace, pod):
    """Kills the sidecar with SIGKILL, as the kernel does when memory is short."""
    task = status(namespace, pod)["containerID"].removeprefix("containerd://")
    [line] = [line for line in run("ctr", "tasks", "list").splitlines() if line.startswith(task)]
    os.kill(int(line.split()[1]), signal.SIGKILL)


def answers(namespace, pod):
    """Returns the source of the sidecar's configuration; None while the sidecar starts."""
    try:
        [(labels, _)] = metrics(namespace, pod).series("warmline_config_info")
    except OSError:
        return None
    return labels["source"]


def broken_identity(certificate, key):
    data = {"tls.crt": certificate, "tls.key": key}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "warmline-identity"}, "type": "kubernetes.io/tls", "stringData": data}


def rendered(namespace, kind):
    manifests = yaml.safe_load_all(helm("get", "manifest", "warmline-egress", "--namespace", namespace.name))
    return next(manifest for manifest in manifests if manifest and manifest["kind"] == kind)


@pytest.mark.parametrize("kind", ["PodMonitor", "PrometheusRule"])
@pytest.mark.parametrize("place", ["healthy", "troubled"])
def test_the_operators_definitions_take_the_charts_objects_whole(kind, place, request):
    namespace = request.getfixturevalue(place)
    assert namespace.get(kind.lower(), "warmline")["spec"] == rendered(namespace, kind)["spec"]


def test_the_dashboards_configmap_holds_the_dashboard(troubled):
    dashboard = troubled.get("configmap", "warmline-dashboard")
    assert dashboard["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert json.loads(dashboard["data"]["warmline.json"]) == DASHBOARD


def test_the_podmonitor_finds_each_sidecar_once_and_nothing_else(prometheus, healthy, troubled):
    wanted = {(namespace.name, namespace.pods("app=calling")[0]["metadata"]["name"]) for namespace in (healthy, troubled)}

    def found():
        return [(labels["namespace"], labels["pod"]) for labels in prometheus.targets()]

    eventually("both sidecars as targets", lambda: set(found()) == wanted)
    assert sorted(found()) == sorted(wanted)


def test_the_configuration_in_the_documents_finds_the_same_targets(folder, access, prometheus, trouble):
    text = (HERE.parents[1] / "docs/monitor.md").read_text()
    block = re.search(r"<!-- scrape:begin -->\n```yaml\n(.*?)```\n<!-- scrape:end -->", text, re.DOTALL)[1]
    configuration = yaml.safe_load(block)
    [discovery] = configuration["scrape_configs"][0]["kubernetes_sd_configs"]
    # Inside the cluster, Prometheus finds the API server and its credentials by itself.
    discovery |= {"api_server": access.url, "tls_config": {"ca_file": str(access.ca)}}
    discovery |= {"authorization": {"credentials_file": str(access.token)}}
    configuration["global"] = {"scrape_interval": "1s"}
    own = folder / "documents"
    own.mkdir()

    def found(process):
        return {(labels["namespace"], labels["pod"], labels["container"]) for labels in process.targets()}

    with Prometheus(own, configuration, port=9091) as other:
        eventually("the same targets", lambda: found(other) and found(other) == found(prometheus))


def test_each_alert_fires_where_its_event_happens(prometheus, trouble):
    wanted = {(rule["alert"], "troubled") for rule in RULES if rule["alert"] not in NOT_CAUSED}
    fired = set()

    def all_fired():
        fired.update(prometheus.alerts("firing"))
        return fired >= wanted

    with contextlib.suppress(TooLate):
        eventually("every alert", all_fired, timeout=90)
    assert wanted - fired == set()


def test_no_alert_is_even_pending_where_nothing_is_wrong(prometheus, healthy, trouble):
    assert prometheus.query('sum(rate(warmline_requests_total{namespace="healthy", code="2xx"}[1m])) > 1')
    seen = {name for name, namespace in prometheus.alerts("firing") | prometheus.alerts("pending") if namespace == "healthy"}
    assert seen == set()


def test_the_alert_that_is_not_caused_looks_at_a_metric_that_is_there(prometheus, trouble):
    [rule] = [rule for rule in RULES if rule["alert"] == LONG]
    judged, bound = rule["expr"].rsplit(">", 1)
    assert float(bound) == 0 and prometheus.query(judged)


def filled_in(text):
    """Replaces the variables as Grafana does with all namespaces, pods and upstreams chosen."""
    for name, value in {"namespace": ".*", "pod": ".*", "upstream": ".*", "__rate_interval": "5m"}.items():
        text = text.replace(f"${name}", value)
    assert "$" not in text, text
    return text


PANELS = [(panel["title"], target["expr"]) for panel in DASHBOARD["panels"] for target in panel.get("targets", [])]


def test_the_dashboard_has_expressions():
    assert len(PANELS) > 40


@pytest.mark.parametrize(("title", "expression"), PANELS, ids=[f"{title}-{number}" for number, (title, _) in enumerate(PANELS)])
def test_each_expression_of_the_dashboard_returns_data(prometheus, trouble, title, expression):
    eventually(f"data for {title}: {expression}", lambda: prometheus.query(filled_in(expression)), timeout=60)


VARIABLES = {v["name"]: v["query"]["query"] for v in DASHBOARD["templating"]["list"] if v["type"] == "query"}


@pytest.mark.parametrize(("name", "some"), [("namespace", "troubled"), ("pod", None), ("upstream", "narrow")])
def test_each_variable_of_the_dashboard_has_its_values(prometheus, trouble, name, some):
    selector, label = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]).groups()
    values = prometheus.api(f"label/{label}/values", **{"match[]": filled_in(selector)})
    assert (some or trouble) in values


def test_the_dashboards_annotation_marks_alerts(prometheus, trouble):
    [annotation] = [a for a in DASHBOARD["annotations"]["list"] if "target" in a]
    eventually("alerts as annotations", lambda: prometheus.query(filled_in(annotation["target"]["expr"])), timeout=60)
