"""The upstream of most rows: nginx with one worker, which demands a client certificate on its TLS ports."""

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from .ports import free_port
from .processes import Server

BODY_BYTES = 1024
LARGE_BYTES = 64 * 1024 * 1024
_LOG_FORMAT = (
    "$server_port $connection $ssl_session_reused $ssl_protocol $ssl_curve $ssl_cipher $ssl_client_verify"
)


@dataclass(frozen=True)
class Seen:
    """The counts of the upstream for one port."""

    requests: int
    connections: int
    full: int
    resumed: int
    agreed: tuple  # of (protocol, curve, cipher), each once

    def as_dict(self):
        """Returns the counts for the JSON results."""
        return {
            "requests": self.requests, "connections": self.connections,
            "full_handshakes": self.full, "resumed_handshakes": self.resumed,
            "agreed": [" ".join(parts) for parts in self.agreed],
        }


class Upstream:
    """An nginx, configured port by port before `start`."""

    def __init__(self, name, certificates, directory, core):
        self._name, self._certificates, self._core = name, certificates, core
        self._directory = Path(directory) / name
        self._directory.mkdir(parents=True)
        self._ports, self._blocks = [], []
        self._server = None

    def port(self, tls=True, keeps=True, logged=False):
        """Adds a port and returns it. Without `keeps` it closes after each response; only with `logged` can `seen`
        count its requests."""
        port = free_port()
        lines = [f"listen 127.0.0.1:{port} backlog=4096{' ssl' if tls else ''};"]
        lines.append("keepalive_timeout 1h;" if keeps else "keepalive_timeout 0;")
        if logged:
            lines.append(f"access_log {self._directory}/access.log seen;")
        self._ports.append(port)
        self._blocks.append("server {\n    " + "\n    ".join(lines) + "\n" + _LOCATIONS + "  }")
        return port

    def start(self):
        """Starts nginx and waits until every port accepts connections."""
        with open(self._directory / "large", "wb") as large:
            large.truncate(LARGE_BYTES)
        configuration = self._directory / "nginx.conf"
        configuration.write_text(self._configuration())
        command = ["nginx", "-e", "stderr", "-p", self._directory, "-c", configuration]
        self._server = Server(self._name, command, self._core, self._directory)
        self._server.wait_for_port(*self._ports)
        return self

    def stop(self):
        """Stops nginx, which also completes its log."""
        self._server.stop()

    def seen(self, port):
        """Returns the counts of the log for `port` so far."""
        first, requests, agreed = {}, 0, set()
        for line in (self._directory / "access.log").read_text().splitlines():
            at, connection, reused, protocol, curve, cipher, verified = line.split()
            if int(at) != port:
                continue
            assert verified == "SUCCESS", f"a request without a verified client certificate: {line}"
            requests += 1
            first.setdefault(connection, reused)
            agreed.add((protocol, curve, cipher))
        counts = defaultdict(int)
        for reused in first.values():
            counts[reused] += 1
        return Seen(requests, len(first), counts["."], counts["r"], tuple(sorted(agreed)))

    def _configuration(self):
        certificates, directory = self._certificates, self._directory
        return _TEMPLATE.format(
            directory=directory, log_format=_LOG_FORMAT,
            certificate=certificates.upstream_certificate, key=certificates.upstream_key,
            ca=certificates.ca, servers="\n  ".join(self._blocks),
        )


_LOCATIONS = f"""
    location / {{ return 200 '{"x" * BODY_BYTES}'; }}
    location = /large {{ }}
"""

_TEMPLATE = """
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 10000; }}
http {{
  access_log off;
  log_format seen '{log_format}';
  default_type application/octet-stream;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  fastcgi_temp_path {directory}/fastcgi;
  uwsgi_temp_path {directory}/uwsgi;
  scgi_temp_path {directory}/scgi;
  root {directory};
  tcp_nodelay on;
  reset_timedout_connection off;
  keepalive_requests 1000000000;
  keepalive_time 24h;
  ssl_protocols TLSv1.3;
  ssl_ecdh_curve X25519;
  ssl_conf_command Ciphersuites TLS_AES_256_GCM_SHA384;
  ssl_certificate {certificate};
  ssl_certificate_key {key};
  ssl_client_certificate {ca};
  ssl_verify_client on;
  ssl_session_cache shared:sessions:20m;
  ssl_session_timeout 1h;
  {servers}
}}
"""
