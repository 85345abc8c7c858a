"""Another vendor's mutating webhook, called before or after Warmline's: it puts an init container of its own first."""

import base64
import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import yaml

from support.kube import kubectl, tools


class OtherMutator:
    """A running webhook. `configuration` decides the order: API servers call webhooks by the names of their
    configurations."""

    def __init__(self, folder, authority, configuration, container):
        self.calls = 0
        self._configuration = configuration
        self._authority = authority
        self._container = tools(container, "true")
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.socket = self._tls(folder).wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever)

    def __enter__(self):
        self._thread.start()
        kubectl("apply", "--server-side", "--filename=-", stdin=yaml.safe_dump(self._registration()))
        return self

    def __exit__(self, *_):
        kubectl("delete", "mutatingwebhookconfiguration", self._configuration)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _tls(self, folder):
        credential = self._authority.server("localhost")
        file = folder / f"{self._configuration}.pem"
        file.write_text(credential.certificate + credential.key)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(file)
        return context

    def _registration(self):
        bundle = base64.b64encode(self._authority.pem.encode()).decode()
        port = self._server.server_address[1]
        webhook = {
            "name": f"{self._configuration}.example.com",
            "clientConfig": {"url": f"https://localhost:{port}/", "caBundle": bundle},
            "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
            "objectSelector": {"matchLabels": {"warmline.dev/inject": "true"}},
            "admissionReviewVersions": ["v1"],
            "sideEffects": "None",
        }
        kind = {"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration"}
        return {**kind, "metadata": {"name": self._configuration}, "webhooks": [webhook]}

    def _answer(self, review):
        request = review["request"]
        present = request["object"]["spec"].get("initContainers")
        response = {"uid": request["uid"], "allowed": True}
        if self._container["name"] not in [container["name"] for container in present or []]:
            path = "/spec/initContainers/0" if present else "/spec/initContainers"
            value = self._container if present else [self._container]
            patch = json.dumps([{"op": "add", "path": path, "value": value}])
            response.update(patchType="JSONPatch", patch=base64.b64encode(patch.encode()).decode())
        self.calls += 1
        return {"apiVersion": review["apiVersion"], "kind": review["kind"], "response": response}

    def _handler(self):
        mutator = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                review = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                answer = json.dumps(mutator._answer(review)).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_):
                pass

        return Handler
