"""Pairs: the Warmline of another commit and this one in turn, on the work of the row `pooled`.

A change of one per cent is less than the noise of a machine. Twelve pairs of ten seconds, each pair's ratio by itself,
and the interval of the ratios' median make it visible.
"""

from dataclasses import replace

from ..bench import stopping
from .turns import in_turn

PAIRS = 12
SECONDS = 10


def run(bench, before, now):
    """Returns the samples of the proxies `before` and `now`, by name."""
    upstream = bench.upstream("upstream-pairs")
    port = upstream.port()
    long = bench if bench.quick else replace(
        bench, rounds=max(bench.rounds, PAIRS), seconds=max(bench.seconds, SECONDS)
    )
    running = []
    with stopping(running, upstream.start()):
        running += [proxy.start(bench.task(port)) for proxy in (before, now)]
        return {"samples": in_turn(long, running)}
