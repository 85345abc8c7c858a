"""Stalled: the memory for clients that ask for a large response and read nothing of it."""

from ..bench import stopping
from ..load import Client
from ..upstream import LARGE_BYTES
from .memory import settled

CLIENTS = 4


def run(bench):
    """Returns the growth for each stalled client in KiB, by proxy."""
    figures = {"large_bytes": LARGE_BYTES, "clients": CLIENTS, "kib_per_client": {}}
    upstream = bench.upstream("upstream-large")
    port = upstream.port()
    with stopping(upstream.start()):
        for proxy in bench.proxies:
            running = proxy.start(bench.task(port))
            with stopping(running):
                figures["kib_per_client"][proxy.name] = _growth(running)
            bench.say(f"  {proxy.name:<10} {figures['kib_per_client'][proxy.name]:.0f} KiB")
    return figures


def _growth(running):
    clients = [Client(running.port) for _ in range(CLIENTS)]
    try:
        for client in clients:
            client.get()
        before = settled(running.server)["rss"]
        for client in clients:
            client.send("/large")
        for client in clients:
            client.wait_readable()
        return (settled(running.server)["rss"] - before) / CLIENTS
    finally:
        for client in clients:
            client.close()
