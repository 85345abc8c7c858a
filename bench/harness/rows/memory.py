"""Memory: resident at start, after load, for each idle client, and for each pair of an idle client and an idle upstream
connection."""

import socket
import time
from pathlib import Path

from ..bench import stopping
from ..load import Client, wrk
from ..origins import RunningOrigin
from .turns import CONNECTIONS

PAIRS = 1000
IDLE = 1000
_ESTABLISHED = "01"


def run(bench):
    """Returns start, loaded, idle and pair in KiB for each proxy by name."""
    figures = {}
    upstream = bench.upstream("upstream-memory")
    port = upstream.port()
    with stopping(upstream.start()):
        for proxy in bench.proxies:
            figures[proxy.name] = {
                **_under_load(bench, proxy, port), "idle": _idle(bench, proxy, port), "pair": _pair(bench, proxy),
            }
            bench.say(f"  {proxy.name:<10} {figures[proxy.name]}")
    return figures


def settled(server, limit=6.0):
    """Returns the server's memory once it has not changed for a second, or at the limit."""
    end = time.monotonic() + limit
    last, since = server.memory(), time.monotonic()
    while time.monotonic() < end and time.monotonic() - since < 1.0:
        time.sleep(0.1)
        now = server.memory()
        if abs(now["rss"] - last["rss"]) > 16:
            last, since = now, time.monotonic()
    return server.memory()


def _under_load(bench, proxy, port):
    running = proxy.start(bench.task(port))
    with stopping(running):
        start = settled(running.server)
        wrk(running.port, 2, CONNECTIONS, bench.load_core)
        loaded = running.server.memory()
    return {
        "start": start["rss"], "loaded": loaded["rss"],
        "start_private": start["private"], "loaded_private": loaded["private"],
    }


def _idle(bench, proxy, port):
    """Returns the growth for each client that got one answer and asks nothing more; all share one upstream connection.
    """
    running = proxy.start(bench.task(port))
    with stopping(running):
        _warm(running.port)
        before = settled(running.server)["rss"]
        clients = [Client(running.port) for _ in range(IDLE)]
        try:
            for client in clients:
                client.get()
            return (settled(running.server)["rss"] - before) / IDLE
        finally:
            for client in clients:
                client.close()


def _pair(bench, proxy):
    """Returns the growth for each pair. The origin answers no request before it has all of them, so that none shares a
    connection."""
    origin = RunningOrigin(bench, f"origin-{proxy.name}", "--hold", PAIRS)
    with stopping(origin):
        running = proxy.start(bench.task(origin.port))
        with stopping(running):
            _warm(running.port)
            before = settled(running.server)["rss"]
            clients = [Client(running.port) for _ in range(PAIRS)]
            try:
                _all_at_once(clients)
                after = settled(running.server)["rss"]
                _assert_pairs(proxy.name, running.port, origin.port)
            finally:
                for client in clients:
                    client.close()
    return (after - before) / PAIRS


def _warm(port):
    """Sends a few requests first: things that are set up once are not part of a pair's cost."""
    client = Client(port)
    for _ in range(50):
        client.get()
    client.close()


def _all_at_once(clients):
    for client in clients:
        client.send("/held")
    statuses = {client.receive() for client in clients}
    assert statuses == {200}, f"1,000 held requests were answered with {sorted(statuses)}"


def _assert_pairs(name, proxy_port, origin_port):
    clients, upstreams = _established_to(proxy_port), _established_to(origin_port)
    # The warm-up's own connection may still be one of the idle ones.
    assert clients == PAIRS and PAIRS <= upstreams <= PAIRS + 1, (
        f"{name} holds {clients} client and {upstreams} upstream connections, not {PAIRS} of each"
    )


def _established_to(port):
    """Returns the number of established IPv4 connections to the loopback port, from /proc/net/tcp."""
    far = f"{_hex_loopback()}:{port:04X}"
    rows = (line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:])
    return sum(row[2] == far and row[3] == _ESTABLISHED for row in rows)


def _hex_loopback():
    return f"{int.from_bytes(socket.inet_aton('127.0.0.1'), 'little'):08X}"
