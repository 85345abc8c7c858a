"""40 curls 0.3 s apart, and 5 curls 20 s apart, to nginx with client certificates: how many upstream connections?

Users reported 28 connections for the 40, with `pool-max-conn -1` and `pool-purge-delay 200s`, and 5 for the 5 with the
default purge delay. All runs take place at the same time, each over a proxy and an nginx port of its own.
"""

import collections
import contextlib
import subprocess
import threading
import time

from capture import Capture
from certificates import SERVER_NAME
from programs import Program, find, free_ports
from proxies import Pool
from table import render


class Situation:
    """A number of curls, the pause between them, and the settings of the pool."""

    def __init__(self, curls, pause, pool):
        self.curls = curls
        self.pause = pause
        self.pool = pool
        self.title = f"{curls} curls {pause:g} s apart"


KEPT = Pool(haproxy="pool-max-conn -1 pool-purge-delay 200s", warmline="maxIdle: -1, purgeDelay: 200s")
SITUATIONS = [Situation(40, 0.3, KEPT), Situation(5, 20.0, Pool())]


class Lane:
    """A situation with one of the proxies."""

    def __init__(self, situation, proxy, endpoint, certificates):
        self.situation = situation
        self.proxy = proxy
        self.endpoint = endpoint
        self.running = proxy.start(certificates, endpoint, situation.pool)
        self.good = 0

    def send(self):
        """Runs the curls."""
        for number in range(self.situation.curls):
            if number:
                time.sleep(self.situation.pause)
            self.good += curl(self.running.port)


def replay(proxies, certificates):
    """Runs both situations with each proxy; returns the tables as text, and the promises that Warmline did not keep."""
    pairs = [(situation, proxy) for situation in SITUATIONS for proxy in proxies]
    ports = free_ports(len(pairs))
    with contextlib.ExitStack() as programs:
        nginx = programs.enter_context(start_nginx(certificates, ports))
        lanes = []
        for pair, port in zip(pairs, ports):
            lanes.append(Lane(*pair, port, certificates))
            programs.enter_context(lanes[-1].running)
        listeners = [lane.running.port for lane in lanes]
        capture = programs.enter_context(Capture(certificates.path("curls.pcap"), ports + listeners))
        send_all(lanes)
        capture.catch_up()
        serving = {lane: resets(capture, lane) for lane in lanes}
        for lane in lanes:
            lane.running.end()
        capture.finish()
        return tables(lanes, capture, nginx, serving), missed(lanes, capture)


def send_all(lanes):
    """Runs all lanes at the same time."""
    threads = [threading.Thread(target=lane.send) for lane in lanes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def tables(lanes, capture, nginx, serving):
    """Returns one table for each situation."""
    return "\n".join(
        table(situation, [lane for lane in lanes if lane.situation is situation], capture, nginx, serving)
        for situation in SITUATIONS
    )


def table(situation, lanes, capture, nginx, serving):
    """Returns the table of one situation."""
    rows = [
        ("upstream connections (SYNs captured)", [begun(capture, lane) for lane in lanes]),
        ("connections x uses of each", [uses(nginx, lane) for lane in lanes]),
        ("RSTs sent by the proxy while serving", [serving[lane] for lane in lanes]),
        ("RSTs sent by the proxy in all, its end included", [resets(capture, lane) for lane in lanes]),
        ("good answers", [lane.good for lane in lanes]),
    ]
    return render(situation.title, [lane.proxy.title for lane in lanes], rows)


def missed(lanes, capture):
    """Returns Warmline's lanes that broke a promise: one connection, no RST, every answer good."""
    return [
        f"{lane.situation.title}: {begun(capture, lane)} connections, {resets(capture, lane)} RSTs, "
        f"{lane.good} good answers; 1, 0 and {lane.situation.curls} were expected"
        for lane in lanes
        if lane.proxy.title == "Warmline"
        and (begun(capture, lane), resets(capture, lane), lane.good) != (1, 0, lane.situation.curls)
    ]


def begun(capture, lane):
    """Returns the number of connections that the proxy began."""
    return capture.connections(lane.endpoint)


def resets(capture, lane):
    """Returns the number of RSTs that the proxy has sent until now, to nginx and to the curls."""
    return capture.resets(lane.endpoint, lane.running.port)


def uses(nginx, lane):
    """Returns how many requests each connection carried, as nginx saw it: `28x1, 1x12` for 28 connections with one
    request and one with 12."""
    own = [line.split() for line in nginx.lines() if line.startswith(f"port={lane.endpoint} ")]
    each = collections.Counter(connection for _, connection in own)
    groups = collections.Counter(each.values())
    return ", ".join(f"{count}x{size}" for size, count in sorted(groups.items()))


def curl(port):
    """Makes one request with a new curl process; returns true if the answer was good."""
    url = f"http://127.0.0.1:{port}/"
    command = [find("curl"), "--silent", "--fail", "--noproxy", "*", "--max-time", "10",
               "--header", f"Host: {SERVER_NAME}", "--output", "/dev/null", url]
    return subprocess.run(command, check=False).returncode == 0


def start_nginx(certificates, ports):
    """Starts nginx as one process with a port for each lane; it logs port and connection of each request."""
    file = certificates.path("nginx.conf")
    listens = " ".join(f"listen 127.0.0.1:{port} ssl;" for port in ports)
    folders = " ".join(
        f"{kind}_temp_path {certificates.path(kind)};"
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    with open(file, "w", encoding="utf-8") as configuration:
        configuration.write(f"""\
daemon off; master_process off; pid {certificates.path("nginx.pid")};
events {{ worker_connections 256; }}
http {{
    {folders}
    log_format seeds 'port=$server_port $connection';
    access_log /dev/stdout seeds;
    server {{
        {listens}
        ssl_certificate {certificates.path("server.crt")};
        ssl_certificate_key {certificates.path("server.key")};
        ssl_client_certificate {certificates.path("ca.crt")};
        ssl_verify_client on;
        ssl_protocols TLSv1.2 TLSv1.3;
        location / {{ return 200 'hello\\n'; }}
    }}
}}
""")
    command = [find("nginx"), "-p", certificates.folder, "-e", "stderr", "-c", file]
    nginx = Program(command, certificates.path("nginx.log"))
    nginx.wait_for_port(ports[-1])
    return nginx
