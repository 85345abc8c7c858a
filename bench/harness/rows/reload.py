"""Reload: CPU time of the process for a changed configuration of 1,000 upstreams, of which one differs."""

import time

from ..bench import stopping
from ..processes import Ended
from .many import UPSTREAMS

RELOADS = 9
_QUIET_SECONDS = 0.001
_LIMIT = 20.0


def run(bench, proxy):
    """Returns the CPU time of each reload in milliseconds."""
    reloads = 3 if bench.quick else RELOADS
    upstream = bench.upstream("upstream-reload")
    port = upstream.port()
    with stopping(upstream.start()):
        running = proxy.start(bench.task(port))
        with stopping(running):
            each = [_reload(proxy, running.server, number) for number in range(1, reloads + 1)]
    bench.say("  " + ", ".join(f"{cpu:.1f} ms" for cpu in each))
    return {"upstreams": UPSTREAMS, "cpu_ms": each}


def _reload(proxy, server, number):
    """Measures one reload, from the file's change until the process is quiet again."""
    _quiet(server)
    before, done = server.cpu().total, _in_force(server)
    proxy.change(number)
    end = time.monotonic() + _LIMIT
    while _in_force(server) == done:
        if time.monotonic() > end:
            raise Ended(f"no changed configuration was in force within {_LIMIT:.0f} s")
        time.sleep(0.02)
    return (_quiet(server) - before) * 1000


def _in_force(server):
    return server.log.read_bytes().count(b"changed configuration is in force")


def _quiet(server):
    """Waits until the server uses next to no CPU time; returns the CPU time that it has used so far."""
    end = time.monotonic() + _LIMIT
    last = server.cpu().total
    while time.monotonic() < end:
        time.sleep(0.3)
        now = server.cpu().total
        if now - last < _QUIET_SECONDS:
            return now
        last = now
    return last
