"""Handshake: the upstream closes after each response, so that each request costs a TLS handshake."""

from ..bench import stopping
from .turns import in_turn


def run(bench, proxies):
    """Returns the samples of each proxy by name, and the upstream's counts of its handshakes."""
    upstream = bench.upstream("upstream-closing")
    ports = {proxy.name: upstream.port(keeps=False, logged=True) for proxy in proxies}
    running = []
    with stopping(running, upstream.start()):
        running += [proxy.start(bench.task(ports[proxy.name])) for proxy in proxies]
        samples = in_turn(bench, running)
    return {
        "samples": samples,
        "upstream": {name: upstream.seen(port).as_dict() for name, port in ports.items()},
    }
