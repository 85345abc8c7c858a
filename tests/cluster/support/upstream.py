"""A real upstream: nginx that demands client certificates, in a pod behind a Service or outside of the pods, on the
node.

nginx answers with the subject and serial number of the client's certificate, and writes one line for each request: the
serial number, the connection, the request's number on that connection, the request.
"""

import itertools
import os
import signal
import subprocess

from support.kube import config_map, deployment, pod_template, secret, service, tools
from support.patience import eventually

IN_POD = "/etc/upstream"
PORT = 8443

CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {work}/pid;
error_log stderr;
events {{ worker_connections 1024; }}
http {{
    client_body_temp_path {work}/1; proxy_temp_path {work}/2; fastcgi_temp_path {work}/3;
    uwsgi_temp_path {work}/4; scgi_temp_path {work}/5;
    log_format calls '$ssl_client_serial $connection $connection_requests "$request"';
    access_log {log} calls;
    keepalive_requests 100000;
    lingering_close always;
    default_type text/plain;
    server {{
        listen {listen} ssl;
        ssl_certificate {files}/tls.crt;
        ssl_certificate_key {files}/tls.key;
        {client}
        location / {{ return 200 "$ssl_client_s_dn $ssl_client_serial\\n"; }}
    }}
}}
"""


def _configuration(listen, files, work, log, clients, user=""):
    client = f"ssl_client_certificate {files}/clients.crt; ssl_verify_client on;" if clients else ""
    return CONFIGURATION.format(listen=listen, files=files, work=work, log=log, client=client, user=user)


def _files(credential, clients):
    return {**credential.data(), **({"clients.crt": clients} if clients else {})}


def upstream_in_pod(namespace, name, authority, clients, replicas=1):
    """Makes an upstream in a pod and waits until it is ready; `clients` is the PEM of the authorities of client
    certificates; with None no certificate is demanded."""
    host = f"{name}.{namespace.name}.svc.cluster.local"
    nginx = tools(
        "nginx", "nginx", "-c", f"{IN_POD}/nginx.conf", "-e", "stderr",
        ports=[{"containerPort": PORT}],
        readinessProbe={"tcpSocket": {"port": PORT}, "periodSeconds": 1},
        volumeMounts=[{"name": "files", "mountPath": IN_POD, "readOnly": True}, {"name": "work", "mountPath": "/tmp"}],
    )
    sources = [{"secret": {"name": name}}, {"configMap": {"name": f"{name}-nginx"}}]
    volumes = [{"name": "files", "projected": {"sources": sources}}, {"name": "work", "emptyDir": {}}]
    configuration = _configuration(PORT, IN_POD, "/tmp", "/dev/stdout", clients)
    namespace.apply(
        secret(name, _files(authority.server(host), clients)),
        config_map(f"{name}-nginx", {"nginx.conf": configuration}),
        deployment(name, pod_template(name, [nginx], volumes, labels={"warmline.dev/inject": "false"}), replicas),
        service(name, 443, PORT),
    )
    namespace.rolled_out(f"deployment/{name}")
    return host


class UpstreamOutside:
    """nginx as a process of the node, on the node's own address; a context manager that ends it with the block.

    Each has a new port, so that calls of an earlier test's pods, which are still ending, do not reach it.
    """

    _ports = itertools.count(18443)

    def __init__(self, folder, authority, clients, name="outside.example"):
        folder.mkdir(exist_ok=True)
        self.name = name
        self.endpoint = f"{os.environ['CLUSTER_NODE_ADDRESS']}:{next(self._ports)}"
        self._folder = folder
        self._log = folder / "calls.log"
        for file, content in _files(authority.server(name), clients).items():
            (folder / file).write_text(content)
        (folder / "nginx.conf").write_text(_configuration(self.endpoint, folder, folder, self._log, clients, "user root;"))

    def __enter__(self):
        self._process = subprocess.Popen(["nginx", "-c", self._folder / "nginx.conf", "-e", "stderr"])
        eventually("nginx outside of the pods", lambda: self._log.exists() and self._listens())
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.wait(10)

    def calls(self):
        """Returns each request so far: (serial number of the client's certificate, connection, number on that
        connection, request)."""
        lines = [line.split(" ", 3) for line in self._log.read_text().splitlines()]
        return [(serial, int(connection), int(number), request.strip('"')) for serial, connection, number, request in lines]

    def present(self, credential):
        """Changes nginx's own certificate, which the next handshake sees; idle connections end."""
        for file, content in credential.data().items():
            (self._folder / file).write_text(content)
        self._process.send_signal(signal.SIGHUP)

    def _listens(self):
        assert self._process.poll() is None, "nginx ended by itself: see what it said above"
        address, port = self.endpoint.split(":")
        return subprocess.run(["bash", "-c", f"exec 3<>/dev/tcp/{address}/{port}"], capture_output=True).returncode == 0
