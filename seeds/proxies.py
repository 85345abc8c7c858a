"""The proxies that are compared: HAProxy in its reuse modes, and Warmline, each with one worker thread."""

import os
import signal

from certificates import SERVER_NAME
from programs import Program, find, free_ports


class HaProxy:
    """HAProxy with one `http-reuse` mode."""

    def __init__(self, mode):
        self.mode = mode
        self.title = f"HAProxy {mode}"

    def start(self, certificates, endpoint, pool):
        """Starts HAProxy before a loopback port; returns the running proxy."""
        port, = free_ports(1)
        file = certificates.path(f"haproxy-{port}.cfg")
        with open(file, "w", encoding="utf-8") as configuration:
            configuration.write(self._configuration(certificates, port, endpoint, pool.haproxy))
        return Proxy([find("haproxy"), "-db", "-f", file], port, signal.SIGUSR1, file + ".log")

    def _configuration(self, certificates, port, endpoint, pool):
        tls = (f"ssl crt {certificates.path('client.pem')} ca-file {certificates.path('ca.crt')} "
               f"verify required verifyhost {SERVER_NAME} sni str({SERVER_NAME})")
        return (f"global\n  nbthread 1\n  hard-stop-after 3s\n"
                f"defaults\n  mode http\n  http-reuse {self.mode}\n"
                f"  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"
                f"frontend local\n  bind 127.0.0.1:{port}\n  default_backend origin\n"
                f"backend origin\n  server origin 127.0.0.1:{endpoint} {tls} {pool}\n")


class Warmline:
    """Warmline, the program of this repository."""

    title = "Warmline"

    def __init__(self, binary):
        self.binary = os.path.abspath(binary)

    def start(self, certificates, endpoint, pool):
        """Starts Warmline before a loopback port; returns the running proxy."""
        port, metrics, admin = free_ports(3)
        file = certificates.path(f"warmline-{port}.yaml")
        with open(file, "w", encoding="utf-8") as configuration:
            configuration.write(f"""\
metrics: {{ bind: ["127.0.0.1:{metrics}"] }}
admin: {{ bind: ["127.0.0.1:{admin}"] }}
listeners:
  - bind: ["127.0.0.1:{port}"]
upstreams:
  - name: origin
    hosts: ["*"]
    endpoints: ["127.0.0.1:{endpoint}"]
    tls:
      serverName: {SERVER_NAME}
      trust: {certificates.path("ca.crt")}
      identity:
        certificate: {certificates.path("client.crt")}
        key: {certificates.path("client.key")}
    pool: {{ {pool.warmline} }}
""")
        command = [self.binary, "run", "--config", file]
        return Proxy(command, port, signal.SIGTERM, file + ".log")


class Pool:
    """The same pool settings for both: HAProxy's server options, and the content of Warmline's `pool`."""

    def __init__(self, haproxy="", warmline=""):
        self.haproxy = haproxy
        self.warmline = warmline


class Proxy(Program):
    """A running proxy that listens on `port` and ends properly on one signal."""

    def __init__(self, command, port, ending, log):
        super().__init__(command, log)
        self.port = port
        self.ending = ending
        self.wait_for_port(port)

    def end(self):
        """Ends the proxy properly, which may take a few seconds."""
        self.stop(self.ending, patience=10.0)
