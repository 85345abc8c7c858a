"""Load in turn: proxies A, B, C, D, then A again, so that a change of the machine's speed affects all of them."""

import os
from pathlib import Path

from ..load import wrk

CONNECTIONS = 64
_TICKS = os.sysconf("SC_CLK_TCK")


def in_turn(bench, proxies):
    """Loads each of `proxies` in each round; returns the samples of each by name."""
    samples = {proxy.name: [] for proxy in proxies}
    for proxy in proxies:
        wrk(proxy.port, 1, CONNECTIONS, bench.load_core)  # fills its pool, its caches and its session store
    for number in range(1, bench.rounds + 1):
        for proxy in proxies:
            sample = _measure(bench, proxy)
            samples[proxy.name].append(sample)
            bench.say(
                f"  round {number}/{bench.rounds} {proxy.name:<10} {sample['cpu_us']:7.2f} µs CPU/request"
                f" {sample['rate']:8.0f}/s  p99 {sample['p99_us']:7.0f} µs"
            )
    return samples


def _measure(bench, proxy):
    """Makes one measurement: the CPU time of the whole proxy, including its children, per request that wrk counted."""
    core_before, before = _core_seconds(bench.proxy_core), proxy.server.cpu()
    load = wrk(proxy.port, bench.seconds, CONNECTIONS, bench.load_core)
    used = proxy.server.cpu().since(before)
    busy, stolen = (now - then for now, then in zip(_core_seconds(bench.proxy_core), core_before))
    return {
        "requests": load.requests,
        "errors": load.errors,
        "cpu_us": used.total / load.requests * 1e6,
        "user_us": used.user / load.requests * 1e6,
        "system_us": used.system / load.requests * 1e6,
        "rate": load.rate,
        "p50_us": load.p50,
        "p99_us": load.p99,
        "core_share": used.total / load.seconds,  # of its core, used by the proxy
        "others_share": max(0.0, busy - used.total + stolen) / load.seconds,  # of that core, used by anything else
    }


def _core_seconds(core):
    """Returns the seconds that a core was busy, and the seconds that the host took from it."""
    for line in Path("/proc/stat").read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            user, nice, system, _idle, _wait, irq, softirq, stolen = map(int, line.split()[1:9])
            return (user + nice + system + irq + softirq) / _TICKS, stolen / _TICKS
    raise RuntimeError(f"/proc/stat tells nothing about core {core}")
