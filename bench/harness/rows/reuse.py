"""Reuse by clients that come one at a time: 40 one-shot clients 0.3 s apart, and 5 requests 20 s apart.

The upstream's log has the number of connections, and how many of their handshakes were full. All proxies are measured
at the same time, since almost nothing happens. They may use every core: reuse must not depend on one.
"""

from concurrent.futures import ThreadPoolExecutor

from ..bench import stopping
from ..load import one_shot

ONE_SHOT_CLIENTS, ONE_SHOT_GAP = 40, 0.3
SPACED_REQUESTS, SPACED_GAP = 5, 20.0


def run_one_shot(bench, proxies):
    """Runs 40 clients, one after the other, with pools that keep their connections for long."""
    gap = 0.1 if bench.quick else ONE_SHOT_GAP
    return _one_at_a_time(bench, "one-shot", proxies, ONE_SHOT_CLIENTS, gap, hold=True)


def run_spaced(bench, proxies):
    """Runs 5 clients, 20 s apart, with the pools' own defaults."""
    return _one_at_a_time(bench, "spaced", proxies, SPACED_REQUESTS, SPACED_GAP, hold=False)


def _one_at_a_time(bench, label, proxies, count, gap, hold):
    upstream = bench.upstream(f"upstream-{label}")
    ports = {proxy.name: upstream.port(logged=True) for proxy in proxies}
    running = []
    with stopping(running, upstream.start()):
        running += [proxy.start(_task(bench, ports[proxy.name], hold)) for proxy in proxies]
        with ThreadPoolExecutor(len(running)) as clients:
            for done in [clients.submit(_clients, bench, proxy, count, gap) for proxy in running]:
                done.result()
    return {name: upstream.seen(port).as_dict() for name, port in ports.items()}


def _task(bench, port, hold):
    return bench.task(port, hold=hold, core=bench.every_core)


def _clients(bench, proxy, count, gap):
    for number in range(count):
        if number and bench.ended.wait(gap):
            raise InterruptedError("the run was interrupted")
        status = one_shot(proxy.port)
        assert status == 200, f"{proxy.name} answered a one-shot client with {status}"
