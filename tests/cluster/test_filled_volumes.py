"""Volumes of the sidecar that another container of the pod fills: with both ways of injection and both kinds of init
container."""

import pytest

from support.egress import configure, mutual
from support.kube import pod, secret, tools
from support.patience import eventually
from support.sidecar import metrics
from support.upstream import upstream_in_pod

pytestmark = pytest.mark.usefixtures("either_way")
ASKING = {"warmline.dev/inject": "true"}
# Another user than the sidecar's, like that of Vault's agent and spiffe-helper: the sidecar reads the files by their
# group.
WRITER = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True, "runAsUser": 10100}
IDENTITY = {"name": "warmline-identity", "emptyDir": {"medium": "Memory"}}
# The source of the writer's files: another volume in place of Vault.
VAULT = {"name": "vault", "secret": {"secretName": "vault", "optional": True}}
COPY = "umask 027 && cat /vault/tls.key >/identity/tls.key && cat /vault/tls.crt >/identity/tls.crt"


@pytest.fixture
def payments(namespace, identity, authority):
    """Configures an upstream that demands client certificates, and deletes the namespace's own Secret
    `warmline-identity`."""
    host = upstream_in_pod(namespace, "payments", authority, authority.pem)
    configure(namespace, mutual("payments", 13401, f"{host}:443"))
    namespace.delete("secret/warmline-identity")


def writer(command, **more):
    mounts = [{"name": "warmline-identity", "mountPath": "/identity"}, {"name": "vault", "mountPath": "/vault", "readOnly": True}]
    return tools("writer", "bash", "-c", command, volumeMounts=mounts, **{"securityContext": WRITER, **more})


def asking(*init):
    first = 'curl --silent --show-error --fail "$WARMLINE_PAYMENTS_URL/first" && exec sleep infinity'
    security = {"runAsNonRoot": True, "runAsUser": 10001, "fsGroup": 13301, "seccompProfile": {"type": "RuntimeDefault"}}
    application = tools("application", "bash", "-c", first)
    return pod("asking", [application], [IDENTITY, VAULT], ASKING, initContainers=list(init), securityContext=security)


def first_answer(namespace):
    return eventually("the application's first answer", lambda: namespace.logs("asking", "application"), timeout=60)


def test_fault_21_an_init_container_fills_the_identity_and_the_first_line_is_answered(namespace, payments, authority):
    credential = authority.client("from-vault")
    namespace.apply(secret("vault", credential.data()))
    after = tools("after", "bash", "-c", 'curl --silent --show-error --fail "$WARMLINE_PAYMENTS_URL/init"')
    namespace.apply(asking(writer(COPY), after))
    namespace.wait("condition=Ready", "pod/asking")
    assert names(namespace) == ["writer", "warmline", "after"]
    answer = f"CN=from-vault {credential.serial}\n"
    assert namespace.logs("asking", "after") == answer
    assert first_answer(namespace) == answer


def test_fault_21_a_native_sidecar_fills_the_identity_late_and_renews_it(namespace, payments, authority):
    credential = authority.client("from-vault")
    # The container starts before there are any files, and copies them whenever they change.
    command = f"while true; do cmp --silent /vault/tls.crt /identity/tls.crt || {{ {COPY}; }} 2>/dev/null; sleep 0.2; done"
    namespace.apply(asking(writer(command, restartPolicy="Always")))
    namespace.wait("create", "pod/asking")
    assert names(namespace) == ["writer", "warmline"]
    waiting = "waiting for a configuration"
    eventually("the sidecar waits", lambda: waiting in sidecars_log(namespace), timeout=60)
    namespace.apply(secret("vault", credential.data()))
    namespace.wait("condition=Ready", "pod/asking", timeout=120)
    assert first_answer(namespace) == f"CN=from-vault {credential.serial}\n"
    renewed = authority.client("renewed")
    namespace.apply(secret("vault", renewed.data()))
    applied = lambda: metrics(namespace, "asking").sum("warmline_identity_reloads_total", result="applied")
    eventually("the renewed identity is in force", lambda: applied() >= 1, timeout=120)
    again = namespace.execute("asking", "application", "bash", "-c", 'curl --silent --fail "$WARMLINE_PAYMENTS_URL/again"')
    assert again == f"CN=renewed {renewed.serial}\n"


def names(namespace):
    return [container["name"] for container in namespace.get("pod", "asking")["spec"]["initContainers"]]


def sidecars_log(namespace):
    try:
        return namespace.logs("asking", "warmline")
    except AssertionError:
        # The container has not begun.
        return ""
