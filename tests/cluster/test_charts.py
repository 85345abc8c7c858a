"""Both charts through Helm, from the first install to a cluster without a trace of them; and the manifests of deploy/
that are made of them."""

import json
import re
import shutil
from base64 import b64encode
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from support.default_image import default_image  # noqa: F401 (a fixture)
from support.helm import helm
from support.kube import kubectl, secret
from support.patience import TooLate, eventually
from support.shell import Failed

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
CHARTS = {"warmline": str(ROOT / "charts" / "warmline"), "egress": str(ROOT / "charts" / "warmline-egress")}
FULL = {"warmline": HERE / "charts" / "warmline-full.yaml", "egress": HERE / "charts" / "egress-full.yaml"}
RENDERINGS = {
    "warmline": ["--namespace=any"],
    "warmline-full": ["--namespace=any", f"--values={FULL['warmline']}"],
    "warmline-policy": ["--set=injection.mode=policy"],
    "warmline-both": ["--set=injection.mode=policy,injection.keepWebhook=true"],
    "warmline-openshift": ["--set=injection.platform=openshift"],
    "warmline-cert-manager": ["--set=certManager.enabled=true"],
    "egress": ["--namespace=any", "--set=configMap.create=false"],
    "egress-dashboard": ["--namespace=any", "--set=dashboard.enabled=true"],
    "egress-full": ["--namespace=any", f"--values={FULL['egress']}"],
}


@pytest.mark.parametrize("name", RENDERINGS)
def test_rendering_depends_on_the_values_alone(name):
    first = render(name)
    assert first
    assert render(name) == first
    assert render(name, "--kube-version=1.29.0", "--api-versions=cert-manager.io/v1", "--api-versions=monitoring.coreos.com/v1") == first


@pytest.mark.parametrize("name", RENDERINGS)
def test_neither_a_ca_bundle_nor_the_content_of_a_secret_is_rendered(name):
    text = render(name)
    assert "caBundle:" not in text
    secrets = [document for document in documents(text) if document["kind"] == "Secret"]
    assert all({"data", "stringData"}.isdisjoint(found) for found in secrets)


@pytest.mark.parametrize("name", RENDERINGS)
def test_lint_finds_nothing(name):
    helm("lint", "--strict", chart_of(name), *RENDERINGS[name])


# Kinds that other projects define; PodMonitor and PrometheusRule are tested with Prometheus.
ELSEWHERE = ("cert-manager.io/", "monitoring.coreos.com/")


@pytest.mark.parametrize("name", RENDERINGS)
def test_fault_23_the_api_server_takes_every_rendered_object_and_knows_each_of_its_fields(name, namespace):
    rendered = documents(render(name, f"--namespace={namespace.name}"))
    ours = [found for found in rendered if not found["apiVersion"].startswith(ELSEWHERE)]
    assert ours
    kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=yaml.safe_dump_all(ours))


def test_fault_23_a_field_that_no_object_has_would_be_told(namespace):
    wrong = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": namespace.name}, "dat": {}}
    with pytest.raises(Failed, match="unknown field"):
        kubectl("apply", "--dry-run=server", "--validate=strict", "--filename=-", stdin=yaml.safe_dump(wrong))


# Values of an umbrella chart, and the charts that are rendered with them.
UMBRELLA = {
    "global.any=true": {"warmline", "warmline-egress"},
    "warmline.enabled=false": {"warmline-egress"},
    "warmline-egress.enabled=false": {"warmline"},
    "warmline.enabled=true,warmline-egress.enabled=false": {"warmline"},
    "tags.sidecars=false": set(),
    "tags.sidecars=false,warmline-egress.enabled=true": {"warmline-egress"},
    "tags.sidecars=true,warmline.enabled=false": {"warmline-egress"},
}


@pytest.mark.parametrize("values", UMBRELLA)
@pytest.mark.parametrize("conditions", [True, False])
def test_fault_23_an_umbrella_chart_switches_the_charts_by_condition_and_by_tag(tmp_path, values, conditions):
    umbrella = umbrella_chart(tmp_path, conditions)
    rendered = helm("template", "any", umbrella, f"--set={values}")
    # Without a condition, a tag alone decides.
    expected = UMBRELLA[values] if conditions or "tags.sidecars=false" not in values else set()
    assert set(re.findall("^# Source: umbrella/charts/([^/]+)/", rendered, re.M)) == expected
    helm("lint", "--strict", umbrella, f"--set={values}")


@pytest.mark.parametrize("name", RENDERINGS)
def test_fault_23_what_is_disabled_renders_nothing(name):
    assert documents(render(name, "--set=enabled=false")) == []


def umbrella_chart(folder, conditions):
    """Makes an umbrella chart of both charts with one upstream and one tag; with `conditions`, also a condition for
    each chart."""
    dependencies = []
    for chart in ["warmline", "warmline-egress"]:
        shutil.copytree(ROOT / "charts" / chart, folder / "charts" / chart)
        dependency = {"name": chart, "version": ">=0.0.0-0", "tags": ["sidecars"]}
        dependencies.append({**dependency, **({"condition": f"{chart}.enabled"} if conditions else {})})
    chart = {"apiVersion": "v2", "name": "umbrella", "version": "1.0.0", "dependencies": dependencies}
    (folder / "Chart.yaml").write_text(yaml.safe_dump(chart))
    upstream = {"name": "payments", "port": 13401, "endpoints": ["payments.invalid:443"]}
    values = {"tags": {"sidecars": True}, "warmline-egress": {"upstreams": [upstream]}}
    (folder / "values.yaml").write_text(yaml.safe_dump(values))
    (folder / "templates").mkdir()
    return str(folder)


def chart_of(name):
    return CHARTS[name.split("-")[0]]


def render(name, *more):
    return helm("template", "any", chart_of(name), *RENDERINGS[name], *more)


def documents(text):
    return [document for document in yaml.safe_load_all(text) if document]


REFUSED = [
    ("warmline", {"injection": {"mode": "webhooks"}}, "at '/injection/mode': value must be one of 'webhook', 'policy'"),
    ("warmline", {"injections": {}}, "additional properties 'injections' not allowed"),
    ("warmline", {"image": {"digest": "sha256:12"}}, "at '/image/digest': 'sha256:12' does not match pattern"),
    ("warmline", {"replicas": 0}, "at '/replicas': minimum: got 0, want 1"),
    ("warmline", {"injection": {"resources": {"limits": {"memory": "128MB"}}}}, "at '/injection/resources/limits/memory': '128MB' does not"),
    ("warmline", {"injection": {"resources": {"requests": {"cpu": 1000}}}}, "at '/injection/resources/requests/cpu': maximum: got 1,000, want 999"),
    ("warmline", {"injection": {"resources": None}}, "at '/injection': missing property 'resources'"),
    (
        "warmline",
        {"injection": {"mode": "policy", "resources": {"requests": {"memory": "1Gi"}, "limits": {"memory": "1000M"}}}},
        "injection.resources: the memory request 1Gi is above the limit 1000M: ask for no more than is allowed",
    ),
    (
        "warmline",
        {"injection": {"resources": {"requests": {"cpu": 0.5}, "limits": {"cpu": "499m"}}}},
        "injection.resources: the cpu request 0.5 is above the limit 499m: ask for no more than is allowed",
    ),
    ("warmline", {"podLabels": {"warmline.dev/inject": "true"}}, "at '/podLabels/warmline.dev~1inject': false schema"),
    ("warmline", {"enabled": "no"}, "at '/enabled': got string, want boolean"),
    ("warmline", {"tags": {"sidecars": "no"}}, "at '/tags/sidecars': got string, want boolean"),
    ("egress", {"enabled": "no"}, "at '/enabled': got string, want boolean"),
    ("egress", {"tags": {"sidecars": "no"}}, "at '/tags/sidecars': got string, want boolean"),
    (
        "egress",
        {"configMap": {"create": False}, "upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}]},
        "upstreams are given, and configMap.create is false",
    ),
    ("egress", {"image": None}, "missing property 'image'"),
    ("egress", {"prometheusRule": {"thresholds": {"restarts": None}}}, "at '/prometheusRule/thresholds': missing property 'restarts'"),
    ("egress", {"configMaps": ["Batch"]}, "at '/configMaps/0': 'Batch' does not match pattern"),
    ("egress", {"configSource": "file"}, "at '/configSource': value must be one of 'watch', 'mount'"),
    ("egress", {"config": {"admin": {}}}, "at '/config': additional properties 'admin' not allowed"),
    ("egress", {"config": {"drain": "40"}}, "at '/config/drain'"),
    ("egress", {"upstreams": [{"name": "a", "port": 1, "endpoint": "b:1"}]}, "additional properties 'endpoint' not allowed"),
    ("egress", {"upstreams": [{"name": "A", "port": 1, "endpoints": ["b:1"]}]}, "at '/upstreams/0/name': 'A' does not match pattern"),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 1, "endpoints": ["b:1"], "tls": {"trust": "/var/run/ca.crt"}}]},
        "at '/upstreams/0/tls/trust': '/var/run/ca.crt' does not match pattern '^/etc/warmline/'",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 1, "endpoints": ["b:1"], "tls": {"trust": "/etc/warmline/../ca.crt"}}]},
        "at '/upstreams/0/tls/trust': 'not' failed",
    ),
    (
        "egress",
        {
            "upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}],
            "config": {"listeners": [{"bind": ["127.0.0.1:13301", "127.0.0.1:13401"]}]},
        },
        "config.listeners[0].bind: the port of 127.0.0.1:13401 is already that of upstreams[0] (a): take another",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}, {"name": "b-c", "endpoints": ["c:1"]}]},
        "upstreams[1] (b-c): port is missing: give it a loopback port of its own, such as 13402; applications find it in WARMLINE_B_C_URL",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}, {"name": "b", "port": 13401, "endpoints": ["c:1"]}]},
        "upstreams[1] (b): port 13401 is already that of upstreams[0] (a): give each upstream a port of its own",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}, {"name": "a", "port": 13402, "endpoints": ["c:1"]}]},
        "upstreams[1] (a): the name is already that of upstreams[0] (a): names are unique",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 13401, "endpoints": ["b:1"]}, {"name": "b", "port": 13402, "endpoints": ["B:2"]}]},
        "upstreams[1] (b): the host B already leads to upstreams[0] (a): write `hosts`, which say whose Host leads where",
    ),
    (
        "egress",
        {"upstreams": [{"name": "a", "port": 13320, "endpoints": ["b:1"]}]},
        "upstreams[0] (a): port 13320 is one of the sidecar's own (13301, 13320, 13321): take another, from 13401 on",
    ),
]


@pytest.mark.parametrize(("chart", "values", "words"), REFUSED, ids=[words for _, _, words in REFUSED])
def test_wrong_values_are_refused_in_words_that_name_them(chart, values, words):
    with pytest.raises(Failed) as refused:
        helm("template", "any", CHARTS[chart], "--values=-", stdin=json.dumps(values))
    assert words in refused.value.output


def test_the_image_is_named_by_registry_repository_and_tag_or_digest():
    digest = "sha256:" + "0123456789abcdef" * 4
    image = {"image.registry": "registry.example:5000", "image.repository": "a/b", "image.tag": "c"}
    assert "image: registry.example:5000/a/b:c\n" in render("warmline", *(f"--set={key}={value}" for key, value in image.items()))
    assert f"image: warmline/warmline@{digest}\n" in render("warmline", "--set=image.tag=c", f"--set=image.digest={digest}")


def test_the_right_to_watch_is_for_warmline_and_each_further_name_once():
    def names(*arguments):
        [role] = [document for document in documents(render("egress", *arguments)) if document["kind"] == "Role"]
        return role["rules"][0]["resourceNames"]

    assert names() == ["warmline"]
    assert names("--set=configMaps={batch,warmline}") == ["warmline", "batch"]


def test_with_cert_manager_the_injector_has_no_rights_and_no_secret_of_ours():
    kinds = {document["kind"]: document for document in documents(render("warmline-cert-manager"))}
    assert not kinds.keys() & {"Secret", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding"}
    certificate = cert_manager("Certificate", render("warmline-cert-manager"))["warmline-injector"]["spec"]
    assert certificate["secretName"] == "warmline-injector-certificate", "the other one is the injector's, and would have two owners"
    assert certificate["dnsNames"] == ["warmline-injector.default.svc"]
    webhook = kinds["MutatingWebhookConfiguration"]["metadata"]
    assert webhook["annotations"] == {"cert-manager.io/inject-ca-from": "default/warmline-injector"}
    pod = kinds["Deployment"]["spec"]["template"]["spec"]
    assert pod["volumes"] == [{"name": "certificate", "secret": {"secretName": certificate["secretName"]}}]
    assert "--certificate-files=/etc/warmline/certificate" in pod["containers"][0]["args"]


def test_without_an_issuer_of_yours_the_certificate_has_an_authority_that_outlives_it():
    text = render("warmline-cert-manager")
    certificates, issuers = cert_manager("Certificate", text), cert_manager("Issuer", text)
    assert certificates["warmline-injector"]["spec"]["issuerRef"] == issuer("Issuer", "warmline-injector")
    authority = certificates["warmline-injector-ca"]["spec"]
    assert issuers["warmline-injector"]["spec"] == {"ca": {"secretName": authority["secretName"]}}
    assert (authority["isCA"], authority["duration"]) == (True, "87600h")
    assert authority["privateKey"]["rotationPolicy"] == "Never"
    assert authority["issuerRef"] == issuer("Issuer", "warmline-injector-ca")
    assert issuers["warmline-injector-ca"]["spec"] == {"selfSigned": {}}


def test_with_an_issuer_of_yours_the_chart_makes_none():
    text = render("warmline-cert-manager", "--set=certManager.issuer.name=house,certManager.issuer.kind=ClusterIssuer")
    assert cert_manager("Issuer", text) == {}
    [certificate] = cert_manager("Certificate", text).values()
    assert certificate["spec"]["issuerRef"] == issuer("ClusterIssuer", "house")


def cert_manager(kind, text):
    """Returns the objects of a kind, by name."""
    found = [document for document in documents(text) if document["apiVersion"] == "cert-manager.io/v1"]
    return {each["metadata"]["name"]: each for each in found if each["kind"] == kind}


def issuer(kind, name):
    return {"group": "cert-manager.io", "kind": kind, "name": name}


# Tests on the cluster


@pytest.fixture
def homes(make_namespace):
    """Makes a namespace for each chart, which admits only pods that PodSecurity calls restricted; uninstalls the charts
    afterwards."""
    made = {chart: make_namespace() for chart in CHARTS}
    yield made
    for chart, namespace in made.items():
        helm("uninstall", chart, "--namespace", namespace.name, "--ignore-not-found", "--wait")


# The values without which a chart cannot be installed.
FEWEST = {"warmline": [], "egress": ["--set=configMap.create=false"]}
# The values that an upgrade changes.
CHANGED = {"warmline": ["--set=priorityClassName=system-node-critical"], "egress": ["--set=configSource=mount"]}


@pytest.mark.usefixtures("default_image")
@pytest.mark.parametrize("mode", ["webhook", "policy"])
@pytest.mark.parametrize("values", ["none", "full"])
def test_charts_install_upgrade_roll_back_and_leave_nothing(homes, mode, values):
    before = all_objects()
    options = {chart: [f"--values={FULL[chart]}"] if values == "full" else FEWEST[chart] for chart in CHARTS}
    options["warmline"].append(f"--set=injection.mode={mode}")
    for chart, home in homes.items():
        helm("install", chart, CHARTS[chart], f"--namespace={home.name}", "--wait", *options[chart])
    written = by_the_injector(homes["warmline"], mode)
    check_releases(homes)

    for chart, home in homes.items():
        forced = ["--wait", "--force-conflicts", *options[chart], *CHANGED[chart]]
        helm("upgrade", chart, CHARTS[chart], f"--namespace={home.name}", *forced)
    assert by_the_injector(homes["warmline"], mode) == written
    check_releases(homes)

    for chart, home in homes.items():
        helm("rollback", chart, "1", f"--namespace={home.name}", "--wait", "--force-conflicts")
    assert by_the_injector(homes["warmline"], mode) == written
    check_releases(homes)

    for chart, home in homes.items():
        helm("uninstall", chart, f"--namespace={home.name}", "--wait")
    with suppress(TooLate):
        eventually("the cluster is as it was", lambda: not differences(before, all_objects()), timeout=60)
    assert differences(before, all_objects()) == []


def test_the_configuration_goes_on_verbatim(homes):
    home = homes["egress"]
    helm("install", "egress", CHARTS["egress"], f"--namespace={home.name}", f"--values={FULL['egress']}")
    values = yaml.safe_load(FULL["egress"].read_text())
    configuration = yaml.safe_load(home.get("configmap", "warmline")["data"]["config.yaml"])
    assert configuration == {**values["config"], "upstreams": values["upstreams"]}
    urls = {"WARMLINE_PAYMENTS_URL": "http://127.0.0.1:13401", "WARMLINE_LEDGER_EU_URL": "http://127.0.0.1:13402"}
    assert home.get("configmap", "warmline-urls")["data"] == urls


@pytest.mark.parametrize("wanted", ["dashboard.enabled=true", "configMap.create=false"])
def test_with_another_purpose_than_upstreams_there_is_no_configuration_and_the_notes_say_so(homes, wanted):
    home = homes["egress"]
    notes = helm("install", "egress", CHARTS["egress"], f"--namespace={home.name}", f"--set={wanted}", "--set=dashboard.labels.x=y")
    assert "There is no upstream in the values, so no ConfigMap `warmline` was made" in notes
    made = [found["metadata"]["name"] for found in home.get("configmaps")["items"]]
    assert "warmline" not in made and "warmline-urls" not in made


def test_fault_23_an_egress_chart_without_upstreams_says_what_is_missing_and_leaves_nothing_that_waits(homes):
    home = homes["egress"]
    with pytest.raises(Failed) as refused:
        helm("install", "egress", CHARTS["egress"], f"--namespace={home.name}")
    for words in ["upstreams is empty", "would wait in Init for it", "endpoints:", "configMap: {create: false}", home.name]:
        assert words in refused.value.output
    assert home.get("roles,rolebindings")["items"] == []
    assert [found["metadata"]["name"] for found in home.get("configmaps")["items"]] == ["kube-root-ca.crt"]


def test_with_the_certificate_of_somebody_else_the_injector_serves_without_a_right(homes, authority):
    home = homes["warmline"]
    image = ["--set=image.tag=test", "--set=image.pullPolicy=Never", f"--namespace={home.name}"]
    text = render("warmline-cert-manager", "--no-hooks", *image)
    # In place of cert-manager: a Secret for the Certificate, and its authority in the webhooks that the annotation
    # names.
    certificate = cert_manager("Certificate", text)["warmline-injector"]["spec"]
    rendered = {found["kind"]: found for found in documents(text) if found["apiVersion"] != "cert-manager.io/v1"}
    webhooks = rendered["MutatingWebhookConfiguration"]
    assert webhooks["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"{home.name}/warmline-injector"}
    for webhook in webhooks["webhooks"]:
        webhook["clientConfig"]["caBundle"] = b64encode(authority.pem.encode()).decode()
    try:
        home.apply(secret(certificate["secretName"], authority.server(*certificate["dnsNames"]).data()), *rendered.values())
        home.rolled_out("deployment/warmline-injector")
        asks = ["run", "asks", "--image=any", "--labels=warmline.dev/inject=true", "--dry-run=server"]
        made = kubectl("--namespace=default", *asks, "--output=jsonpath={.spec.initContainers[*].name}")
        assert made == "warmline"
        assert rights("warmline-injector", home, home) == rights("nobody", home, home)
    finally:
        kubectl("delete", "mutatingwebhookconfiguration", "warmline-injector", "--ignore-not-found")


# Rights: the output of `kubectl auth can-i --list` for an account, without the rights that every account has.

SECRET = "secrets [] [warmline-injector-tls] [get list watch update]"
WEBHOOK = "mutatingwebhookconfigurations.admissionregistration.k8s.io [] [warmline-injector] [get list watch patch]"
CONFIGURATION = "configmaps [] [warmline] [get list watch]"
EVENTS = "events.events.k8s.io [] [] [create]"


@pytest.mark.parametrize(
    ("values", "own"),
    [("injection.mode=webhook", {SECRET, WEBHOOK}), ("injection.mode=policy", set()), ("certManager.enabled=true", set())],
)
def test_the_injectors_rights_are_those_of_the_contract(homes, values, own):
    home, other = homes["warmline"], homes["egress"]
    roles = [found for found in documents(render("warmline", f"--set={values}", f"--namespace={home.name}")) if "Role" in found["kind"]]
    if roles:
        home.apply(*roles)
    try:
        assert rights("warmline-injector", home, home) - rights("nobody", home, home) == own
        assert rights("warmline-injector", home, other) - rights("nobody", home, other) == own - {SECRET}
    finally:
        if roles:
            kubectl("delete", "clusterrole/warmline-injector", "clusterrolebinding/warmline-injector")


@pytest.mark.parametrize(("source", "own"), [("watch", {CONFIGURATION, EVENTS}), ("mount", set())])
def test_the_sidecars_rights_are_those_of_the_contract(homes, source, own):
    home, other = homes["egress"], homes["warmline"]
    every = rights("default", home, home)
    options = [f"--values={FULL['egress']}", f"--set=configSource={source}"]
    helm("install", "egress", CHARTS["egress"], f"--namespace={home.name}", *options)
    assert rights("any", home, home) - every == own
    assert rights("any", home, other) == rights("any", other, home) == every


def rights(account, home, where):
    """Returns the rights of a ServiceAccount of `home` in the namespace `where`."""
    groups = ["system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{home.name}"]
    user = [f"--as=system:serviceaccount:{home.name}:{account}", *(f"--as-group={group}" for group in groups)]
    listed = where.kubectl("auth", "can-i", "--list", "--no-headers", *user)
    return {" ".join(line.split()) for line in listed.splitlines()}


# The objects in the cluster


def check_releases(homes):
    for chart, home in homes.items():
        helm("test", chart, f"--namespace={home.name}")


def by_the_injector(home, mode):
    """Waits until the injector has written its Secret and the webhooks' authority, and returns both.

    Returns None in policy mode, after checking that there is no Secret.
    """
    if mode == "policy":
        assert home.get("secrets", "--field-selector=type=Opaque")["items"] == []
        return None

    def written():
        content = home.get("secret", "warmline-injector-tls").get("data", {})
        webhooks = json.loads(kubectl("get", "mutatingwebhookconfiguration", "warmline-injector", "--output=json"))["webhooks"]
        bundles = [webhook["clientConfig"].get("caBundle") for webhook in webhooks]
        return content and all(bundles) and (content, bundles)

    return eventually("the injector has written its authority", written)


def all_objects():
    """Returns every object of every kind, without the parts that change by themselves."""
    kubectl("wait", "--for=create", "lease/node", "--namespace=kube-node-lease", "--timeout=60s")
    eventually("namespaces of earlier tests are gone", lambda: "Terminating" not in kubectl("get", "namespaces"), timeout=90)
    kinds = kubectl("api-resources", "--verbs=list", "--output=name").split()
    listed = ",".join(kind for kind in kinds if not kind.startswith(("events", "componentstatuses")))
    found = json.loads(kubectl("get", listed, "--all-namespaces", "--output=json"))["items"]
    return {name(each): content(each) for each in found if each["metadata"]["name"] != "kube-root-ca.crt"}


def name(each):
    return each["apiVersion"], each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]


def content(each):
    # The kubelet changes a node and its lease all the time.
    if each["kind"] in ("Lease", "Node"):
        return each["kind"]
    metadata = {key: value for key, value in each["metadata"].items() if key not in ("resourceVersion", "managedFields", "generation")}
    return {**each, "metadata": metadata, "status": None}


def differences(before, after):
    return [key for key in before.keys() | after.keys() if before.get(key) != after.get(key)]
