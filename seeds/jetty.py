"""50,000 requests to Jetty, which keeps the TLS sessions: how many handshakes were full?

Users reported over 1,000 key exchanges for 50,000 requests: their proxy ended connections with a reset or without
close_notify, and the Java server then dropped the session. Here rounds of requests alternate with pauses in which the
proxy closes its idle connections, so that each round begins with new ones. In the first round there is no session to
resume: at least as many handshakes are full as that round has connections.
"""

import glob
import os
import re
import socket
import threading
import time

from capture import Capture
from certificates import PASSWORD, SERVER_NAME
from programs import PATIENCE, Missing, Program, find
from proxies import Pool
from table import render

CLIENTS = 20
ROUNDS = 50
PAUSE = 3.0  # seconds within which a proxy should have closed its idle connections

# HAProxy closes half of the surplus at every purge delay; so does Warmline, which closes the rest by age.
POOL = Pool(
    haproxy="pool-purge-delay 50ms",
    warmline="purgeDelay: 50ms, idleTimeout: 200ms",
)


def replay(proxies, certificates, requests):
    """Runs the situation with each proxy; returns the table as text, and the promises that Warmline did not keep."""
    rows, missed = [], []
    for version in ("TLSv1.2", "TLSv1.3"):
        counted = [run_one(proxy, certificates, version, requests) for proxy in proxies]
        rows += rows_of(version, counted)
        missed += [
            f"{version}: {broken}"
            for proxy, counts in zip(proxies, counted)
            if proxy.title == "Warmline"
            for broken in broken_promises(counts)
        ]
    title = (f"{requests:,} requests to Jetty by {CLIENTS} clients in {ROUNDS} rounds; "
             "sessions kept by the server, no tickets")
    return render(title, [proxy.title for proxy in proxies], rows), missed


def rows_of(version, counted):
    """Returns the rows of one TLS version."""
    names = {
        "connections": f"{version}: upstream connections",
        "full": "    full handshakes",
        "resumed": "    resumed handshakes",
        "resets": "    RSTs sent by the proxy",
        "lost": "    requests without a good answer",
    }
    return [(name, [counts[key] for counts in counted]) for key, name in names.items()]


def broken_promises(counts):
    """Yields the broken promises: full handshakes in the first round alone, no RST, every answer good."""
    if counts["full"] > CLIENTS:
        yield f"{counts['full']} full handshakes; at most {CLIENTS} were expected"
    if counts["resets"]:
        yield f"{counts['resets']} RSTs; none was expected"
    if counts["lost"]:
        yield f"{counts['lost']} requests without a good answer; none was expected"


def run_one(proxy, certificates, version, requests):
    """Runs one proxy before a Jetty of its own; returns the counts when all requests are done."""
    with Jetty(certificates, version) as origin, proxy.start(certificates, origin.port, POOL) as running:
        with Capture(certificates.path("jetty.pcap"), [origin.port, running.port]) as capture:
            lost = sum(one_round(origin, running.port, requests // ROUNDS) for _ in range(ROUNDS))
            running.end()
            counts = origin.counts()
            capture.finish()
        return counts | {
            "lost": lost,
            "connections": capture.connections(origin.port),
            "resets": capture.resets(origin.port, running.port),
        }


def one_round(origin, port, requests):
    """Runs all clients at once, then waits until the proxy has closed its idle connections. Returns the number of lost
    requests."""
    clients = [Client(port, requests // CLIENTS) for _ in range(CLIENTS)]
    threads = [threading.Thread(target=client.run) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until_idle_connections_are_closed(origin)
    return sum(client.lost for client in clients)


def wait_until_idle_connections_are_closed(origin):
    """Waits until the origin has no open connection, but at most for `PAUSE`, since a proxy may keep some."""
    deadline = time.monotonic() + PAUSE

    while origin.counts()["open"] and time.monotonic() < deadline:
        time.sleep(0.02)


class Client:
    """An application: sends requests one after the other over one connection to the proxy."""

    def __init__(self, port, requests):
        self.port = port
        self.requests = requests
        self.lost = 0

    def run(self):
        """Sends all requests; after a failure the rest goes over a new connection."""
        left = self.requests
        while left > 0:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection:
                left -= self._send(connection, left)
            if left > 0:
                self.lost += 1
                left -= 1

    @staticmethod
    def _send(connection, count):
        """Sends up to `count` requests over one connection; returns the number of good answers."""
        reader = connection.makefile("rb")
        for done in range(count):
            try:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: {SERVER_NAME}\r\n\r\n".encode())
                if not read_good_answer(reader):
                    return done
            except OSError:  # reset, or no answer in time
                return done
        return count


def read_good_answer(reader):
    """Reads one whole answer; returns true if it was a 200 with all of its body."""
    good = reader.readline().startswith(b"HTTP/1.1 200 ")
    length = 0
    for field in iter(reader.readline, b"\r\n"):
        if not field:
            return False
        name, _, value = field.partition(b":")
        if name.lower() == b"content-length":
            length = int(value)
    return len(reader.read(length)) == length and good


class Jetty(Program):
    """A running JettyOrigin.java."""

    def __init__(self, certificates, version):
        source = os.path.join(os.path.dirname(os.path.abspath(__file__)), "JettyOrigin.java")
        command = [find("java"), "-Dcom.sun.net.ssl.requireCloseNotify=true",
                   "-Djdk.tls.server.enableSessionTicketExtension=false",
                   "-Dorg.eclipse.jetty.util.log.class=org.eclipse.jetty.util.log.StdErrLog",
                   "-Dorg.eclipse.jetty.LEVEL=WARN",
                   "-cp", class_path(), source, version,
                   certificates.path("server.p12"), certificates.path("trust.p12"), PASSWORD]
        super().__init__(command, certificates.path(f"jetty-{version}.log"))
        self.port = int(self.wait_for_line("port=").partition("=")[2])

    def counts(self):
        """Returns the counts so far: full, resumed, failed, requests, open."""
        before = len(self.lines())
        self.say("counts")
        line = self.wait_for_line("full=", after=before)
        return {name: int(number) for name, number in re.findall(r"(\w+)=(\d+)", line)}


def class_path():
    """Returns the jars of Debian's Jetty 9 that an embedded server needs."""
    names = ["jetty9-server", "jetty9-http", "jetty9-io", "jetty9-util", "servlet-api"]
    jars = [f"/usr/share/java/{name}.jar" for name in names]
    if not all(glob.glob(jar) for jar in jars):
        raise Missing("Jetty is not installed; `scripts/install-peers seeds` installs libjetty9-java")
    return ":".join(jars)
