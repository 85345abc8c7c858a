"""Distance: the upstream is 96 ms away, there and back. A pooled request should cost one round trip, and a request on a
new connection three: TCP, TLS 1.3, the request. The relay alone shows its own part."""

from statistics import median

from ..bench import stopping
from ..load import Client
from ..peers import Relay

ROUND_TRIP_MS = 96
_POOLED, _NEW = 15, 8


def run(bench):
    """Returns the medians in milliseconds by proxy: pooled, new (resumed), and the very first."""
    upstream = bench.upstream("upstream-distant")
    kept, closing, plain = upstream.port(), upstream.port(keeps=False), upstream.port(tls=False)
    ways = []
    figures = {}
    with stopping(ways, upstream.start()):
        kept_way, closing_way, plain_way = (_way(bench, ways, port) for port in (kept, closing, plain))
        figures["relay"] = {"pooled_ms": median(_times(plain_way.port, _POOLED)[1:])}
        for proxy in bench.proxies:
            figures[proxy.name] = _through(bench, proxy, kept_way.port, closing_way.port)
            bench.say(f"  {proxy.name:<10} {figures[proxy.name]}")
    return figures


def _way(bench, ways, port):
    way = Relay(bench.relay, ROUND_TRIP_MS).start(bench.task(port, core=bench.load_core))
    ways.append(way)
    return way


def _through(bench, proxy, kept_port, closing_port):
    pooled = _times_through(bench, proxy, kept_port, _POOLED)
    new = _times_through(bench, proxy, closing_port, _NEW)
    return {
        "first_ms": pooled[0], "pooled_ms": median(pooled[1:]),
        "new_ms": median(new[1:]),
    }


def _times_through(bench, proxy, port, count):
    running = proxy.start(bench.task(port))
    with stopping(running):
        return _times(running.port, count)


def _times(port, count):
    client = Client(port)
    times = []
    for _ in range(count):
        status, seconds = client.get()
        assert status == 200, f"a distant upstream's answer came with status {status}"
        times.append(seconds * 1000)
    client.close()
    return times
