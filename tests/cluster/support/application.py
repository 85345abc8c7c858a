"""Applications that call an upstream all the time, and the place to which they report their counts."""

import json
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.kube import config_map, pod_template, tools

SCRIPT = Path(__file__).with_name("caller.py").read_text()
FOLDER = "/opt/caller"


class Reports:
    """The receiver of the callers' reports, on the node's address; a context manager that receives until the end of the
    block."""

    def __enter__(self):
        self._arrived = []
        self._condition = threading.Condition()
        self._server = ThreadingHTTPServer((os.environ["CLUSTER_NODE_ADDRESS"], 0), self._handler())
        self.url = "http://{}:{}/".format(*self._server.server_address)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self._server.shutdown()
        self._server.server_close()

    def wait(self, number, timeout=120):
        """Waits for `number` reports and returns all of them."""
        with self._condition:
            enough = self._condition.wait_for(lambda: len(self._arrived) >= number, timeout)
            assert enough, f"{len(self._arrived)} of {number} callers reported within {timeout} s: {self._arrived}"
            return list(self._arrived)

    def _handler(reports):
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                report = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(204)
                self.end_headers()
                with reports._condition:
                    reports._arrived.append(report)
                    reports._condition.notify_all()

            def log_message(self, *_):
                pass

        return Handler


def caller_script():
    """Returns the ConfigMap that every caller mounts."""
    return config_map("caller", {"caller.py": SCRIPT})


def caller(name, upstream, reports, seconds_after_sigterm=5, **spec):
    """Returns a pod template whose application calls the upstream of this name by its variable alone, from its first
    line on."""
    url = f"$WARMLINE_{upstream.upper().replace('-', '_')}_URL"
    command = f'exec python3 {FOLDER}/caller.py "$HOSTNAME" "{url}" {reports.url} {seconds_after_sigterm}'
    container = tools(
        "application", "bash", "-c", command,
        volumeMounts=[{"name": "caller", "mountPath": FOLDER, "readOnly": True}],
    )
    volumes = [{"name": "caller", "configMap": {"name": "caller"}}]
    labels = {"warmline.dev/inject": "true"}
    return pod_template(name, [container], volumes, labels, terminationGracePeriodSeconds=60, **spec)
