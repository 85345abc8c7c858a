"""Many: the work of the row `pooled` with 1,000 upstreams in the configuration, one of them in use, beside a
configuration with one."""

from ..bench import stopping
from .turns import in_turn

UPSTREAMS = 1000


def run(bench, alone, many):
    """Returns the samples of Warmline with one upstream and with many, by name."""
    upstream = bench.upstream("upstream-many")
    port = upstream.port()
    running = []
    with stopping(running, upstream.start()):
        running += [proxy.start(bench.task(port)) for proxy in (alone, many)]
        return {"samples": in_turn(bench, running)}
