"""Pooled: 64 clients on kept connections, 1 KiB answers, upstream connections reused; the relay is the floor."""

from ..bench import stopping
from ..peers import Relay
from .turns import in_turn


def run(bench):
    """Returns the samples of each proxy, and of the relay, by name."""
    upstream = bench.upstream("upstream-pooled")
    plain, verified = upstream.port(tls=False), upstream.port()
    running = []
    with stopping(running, upstream.start()):
        running.append(Relay(bench.relay).start(bench.task(plain)))
        running += [proxy.start(bench.task(verified)) for proxy in bench.proxies]
        return {"samples": in_turn(bench, running)}
