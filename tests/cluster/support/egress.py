"""The things that a namespace needs to call out: identity, trust, and the chart `warmline-egress` with its upstreams.
"""

from support.helm import install
from support.kube import config_map, secret

IDENTITY = {"certificate": "/etc/warmline/identity/tls.crt", "key": "/etc/warmline/identity/tls.key"}
TRUST = "/etc/warmline/trust/ca.crt"


def mutual(name, port, endpoint, **tls):
    """Returns the values of an upstream that uses mutual TLS, with the namespace's identity and trust."""
    return {"name": name, "port": port, "endpoints": [endpoint], "tls": {"trust": TRUST, "identity": IDENTITY, **tls}}


def give_identity(namespace, credential):
    """Makes the Secret of the identity or replaces its content, as cert-manager does."""
    namespace.apply({**secret("warmline-identity", credential.data()), "type": "kubernetes.io/tls"})


def give_trust(namespace, *authorities):
    namespace.apply(config_map("warmline-trust", {"ca.crt": "".join(authority.pem for authority in authorities)}))


def configure(namespace, *upstreams, **values):
    install("warmline-egress", namespace.name, {"upstreams": list(upstreams), **values})
