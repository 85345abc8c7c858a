"""The configurations of all proxies for the same work: HTTP/1.1 in, verified mTLS out, one worker, no access log.

Equal for all: TLS 1.3, X25519, the same client certificate, the upstream's name sent as SNI and verified, resumption,
kept connections on both sides without a limit that a row could reach.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from .certs import UPSTREAM_NAME
from .ports import free_port
from .processes import Server

# Limits that no row reaches, in the units that the proxies want.
_LONG = "1h"
_LONG_SECONDS = 3600
_CONNECTIONS = 4000


@dataclass(frozen=True)
class Task:
    """The work of a proxy in one row."""

    upstream_port: int
    certificates: object
    directory: Path
    core: object  # as `taskset -c` takes it
    hold: bool = True  # True: the pool keeps idle connections for long; False: the proxy's own defaults


class Proxy:
    """A running proxy; clients connect at `port`."""

    def __init__(self, name, port, server):
        self.name, self.port, self.server = name, port, server

    def stop(self):
        """Stops the proxy's processes."""
        self.server.stop()


class HaProxy:
    """HAProxy with one thread."""

    def __init__(self, reuse="always"):
        self.name = "haproxy" if reuse == "always" else f"haproxy-{reuse}"
        self._reuse = reuse

    def start(self, task):
        """Starts HAProxy for `task`."""
        port, directory = _place(task, self.name)
        file = directory / "haproxy.cfg"
        file.write_text(self._configuration(task, port))
        return _run(self.name, ["haproxy", "-db", "-f", file], task, directory, port)

    def _configuration(self, task, port):
        certificates = task.certificates
        purge = f"pool-purge-delay {_LONG}" if task.hold else ""
        return f"""
global
  nbthread 1
  maxconn {2 * _CONNECTIONS}
  ssl-default-server-options ssl-min-ver TLSv1.3
defaults
  mode http
  http-reuse {self._reuse}
  timeout connect 5s
  timeout client {_LONG}
  timeout server {_LONG}
  timeout http-keep-alive {_LONG}
frontend applications
  bind 127.0.0.1:{port} backlog 4096
  default_backend upstream
backend upstream
  server one 127.0.0.1:{task.upstream_port} ssl verify required ca-file {certificates.ca} \
verifyhost {UPSTREAM_NAME} sni str({UPSTREAM_NAME}) crt {certificates.client_bundle} \
pool-max-conn -1 {purge}
"""


class Nginx:
    """nginx with one worker, and the pool that its documentation recommends."""

    name = "nginx"

    def start(self, task):
        """Starts nginx for `task`."""
        port, directory = _place(task, self.name)
        file = directory / "nginx.conf"
        file.write_text(self._configuration(task, port, directory))
        command = ["nginx", "-e", "stderr", "-p", directory, "-c", file]
        return _run(self.name, command, task, directory, port)

    def _configuration(self, task, port, directory):
        certificates = task.certificates
        hold = f"keepalive_timeout {_LONG}; keepalive_time 24h;" if task.hold else ""
        temporary = "\n  ".join(
            f"{kind}_temp_path {directory}/{kind};"
            for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        return f"""
daemon off;
worker_processes 1;
worker_rlimit_nofile 20000;
pid {directory}/nginx.pid;
error_log stderr error;
events {{ worker_connections {3 * _CONNECTIONS}; }}
http {{
  access_log off;
  {temporary}
  keepalive_requests 1000000000;
  keepalive_timeout {_LONG};
  keepalive_time 24h;
  upstream one {{
    server 127.0.0.1:{task.upstream_port};
    keepalive {_CONNECTIONS};
    keepalive_requests 1000000000;
    {hold}
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass https://one;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_ssl_protocols TLSv1.3;
      proxy_ssl_certificate {certificates.client_certificate};
      proxy_ssl_certificate_key {certificates.client_key};
      proxy_ssl_trusted_certificate {certificates.ca};
      proxy_ssl_verify on;
      proxy_ssl_verify_depth 2;
      proxy_ssl_name {UPSTREAM_NAME};
      proxy_ssl_server_name on;
      proxy_ssl_session_reuse on;
    }}
  }}
}}
"""


class Envoy:
    """Envoy with one worker. By default Envoy keeps one TLS session for a cluster, which is not enough for concurrent
    handshakes on TLS 1.3, where a session is used once; here it keeps as many as it can use."""

    name = "envoy"

    def __init__(self, program="envoy"):
        self._program = program

    def start(self, task):
        """Starts Envoy for `task`."""
        port, directory = _place(task, self.name)
        file = directory / "envoy.json"
        file.write_text(json.dumps(self._configuration(task, port), indent=1))
        command = [self._program, "-c", file, "--concurrency", 1, "--disable-hot-restart", "-l", "error"]
        return _run(self.name, command, task, directory, port)

    def _configuration(self, task, port):
        listener = {
            "address": _socket_address(port),
            "filter_chains": [{"filters": [_typed_filter(_CONNECTION_MANAGER)]}],
        }
        return {"static_resources": {"listeners": [listener], "clusters": [_envoy_cluster(task)]}}


class Warmline:
    """Warmline. It remembers that the upstream chose X25519, and offers only X25519 from then on."""

    def __init__(self, program, threads=1, arguments=(), name="warmline", upstreams=1, settings=()):
        """Takes in `settings` further settings of each upstream: pairs of a path of keys and a value."""
        self.name = name
        self._program, self._threads, self._arguments = program, threads, tuple(arguments)
        self._upstreams, self._settings = upstreams, tuple(settings)

    def start(self, task):
        """Starts Warmline for `task`."""
        port, directory = _place(task, self.name)
        self._file = directory / "warmline.yaml"
        self._written = self._configuration(task, port)
        self._write()
        command = [self._program, "run", "--config", self._file, *self._arguments]
        return _run(self.name, command, task, directory, port)

    def change(self, number):
        """Changes the last upstream in the file of the process started last: each number gives another `maxQueue`."""
        self._written["upstreams"][-1]["pool"]["maxQueue"] = 100 + number
        self._write()

    def _write(self):
        new = self._file.with_suffix(".new")
        # JSON is valid YAML.
        new.write_text(json.dumps(self._written, indent=1))
        new.rename(self._file)

    def _configuration(self, task, port):
        pool = {"maxConnections": _CONNECTIONS}
        if task.hold:
            pool |= {"purgeDelay": _LONG, "idleTimeout": _LONG}
        return {
            "threads": self._threads,
            "metrics": {"bind": [f"127.0.0.1:{free_port()}"]},
            "admin": {"bind": [f"127.0.0.1:{free_port()}"]},
            "listeners": [{"bind": [f"127.0.0.1:{port}"]}],
            "upstreams": [
                self._upstream(task, pool, number) for number in range(self._upstreams)
            ],
        }

    def _upstream(self, task, pool, number):
        """Returns an upstream: the first gets all requests; each of the others has a host of its own, which nobody asks
        for."""
        certificates = task.certificates
        upstream = {
            "name": f"upstream-{number}" if number else "upstream",
            "hosts": [f"host-{number}.bench.test" if number else "*"],
            "endpoints": [f"127.0.0.1:{task.upstream_port}"],
            "tls": {
                "serverName": UPSTREAM_NAME,
                "minVersion": "1.3",
                "trust": str(certificates.ca),
                "identity": {
                    "certificate": str(certificates.client_certificate),
                    "key": str(certificates.client_key),
                },
            },
            "pool": dict(pool),
        }
        for (*groups, key), value in self._settings:
            group = upstream
            for name in groups:
                group = group.setdefault(name, {})
            group[key] = value
        return upstream


class Relay:
    """The plain TCP relay: the floor of the costs; with `round_trip` (milliseconds) also the long way to a distant
    upstream."""

    name = "relay"

    def __init__(self, program, round_trip=0):
        self._program, self._round_trip = program, round_trip

    def start(self, task):
        """Starts the relay for `task`."""
        port, directory = _place(task, self.name)
        command = [
            self._program, f"127.0.0.1:{port}", f"127.0.0.1:{task.upstream_port}", self._round_trip
        ]
        return _run(self.name, command, task, directory, port)


def _place(task, name):
    port = free_port()
    directory = Path(task.directory) / f"{name}-{port}"
    directory.mkdir(parents=True)
    return port, directory


def _run(name, command, task, directory, port):
    server = Server(name, command, task.core, directory)
    return Proxy(name, port, server.wait_for_port(port))


def _socket_address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _type(name):
    return {"@type": f"type.googleapis.com/envoy.extensions.{name}"}


def _typed_filter(configuration):
    return {"name": configuration["@type"].rpartition(".")[2], "typed_config": configuration}


_CONNECTION_MANAGER = {
    **_type("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    "stat_prefix": "applications",
    "codec_type": "HTTP1",
    "generate_request_id": False,
    "stream_idle_timeout": f"{_LONG_SECONDS}s",
    "common_http_protocol_options": {"idle_timeout": f"{_LONG_SECONDS}s"},
    "route_config": {
        "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{
                "match": {"prefix": "/"},
                "route": {"cluster": "upstream", "timeout": f"{_LONG_SECONDS}s"},
            }],
        }],
    },
    "http_filters": [_typed_filter(_type("filters.http.router.v3.Router"))],
}


def _envoy_cluster(task):
    endpoint = {"endpoint": {"address": _socket_address(task.upstream_port)}}
    many = 3 * _CONNECTIONS
    limits = {f"max_{kind}": many for kind in ("connections", "pending_requests", "requests")}
    return {
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "upstream", "endpoints": [{"lb_endpoints": [endpoint]}]
        },
        "circuit_breakers": {"thresholds": [limits]},
        "transport_socket": {
            "name": "envoy.transport_sockets.tls", "typed_config": _envoy_tls(task.certificates)
        },
    }


def _envoy_tls(certificates):
    matcher = {"san_type": "DNS", "matcher": {"exact": UPSTREAM_NAME}}
    return {
        **_type("transport_sockets.tls.v3.UpstreamTlsContext"),
        "sni": UPSTREAM_NAME,
        "max_session_keys": _CONNECTIONS,
        "common_tls_context": {
            "tls_params": {
                "tls_minimum_protocol_version": "TLSv1_3",
                "tls_maximum_protocol_version": "TLSv1_3",
                "ecdh_curves": ["X25519"],
            },
            "tls_certificates": [{
                "certificate_chain": {"filename": str(certificates.client_certificate)},
                "private_key": {"filename": str(certificates.client_key)},
            }],
            "validation_context": {
                "trusted_ca": {"filename": str(certificates.ca)},
                "match_typed_subject_alt_names": [matcher],
            },
        },
    }
