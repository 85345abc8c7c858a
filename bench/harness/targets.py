"""The targets of the benchmark, each with the measured value and a verdict."""

from dataclasses import dataclass
from math import comb
from statistics import median


@dataclass(frozen=True)
class Verdict:
    """A target: the wanted value, the found value, and whether the target is met (None: not measured)."""

    target: str
    wanted: str
    found: str
    met: bool | None

    @property
    def word(self):
        """Returns the verdict in words."""
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def ratios(samples, name, other, field):
    """Returns the ratios of `name` to `other`, round by round, so that changes of the machine's speed cancel out."""
    return [one[field] / two[field] for one, two in zip(samples[name], samples[other])]


def interval(values):
    """Returns the 95 % interval of the median, from ranks alone, which holds for any distribution."""
    ordered, count = sorted(values), len(values)
    outside, rank = 0, 0
    while rank < count // 2 and outside + comb(count, rank) <= 0.025 * 2**count:
        outside += comb(count, rank)
        rank += 1
    rank = max(0, rank - 1)
    return ordered[rank], ordered[-1 - rank]


def verdicts(rows):
    """Returns the verdicts on all targets, in the order of the report."""
    return [
        _ratio(rows, "pooled", "cpu_us", "haproxy", 0.80, "pooled CPU per request, to HAProxy"),
        _ratio(rows, "pooled", "cpu_us", "nginx", 0.95, "pooled CPU per request, to nginx"),
        _ratio(rows, "pooled", "cpu_us", "envoy", 0.50, "pooled CPU per request, to Envoy"),
        _no_dearer(rows),
        _ratio(rows, "handshake", "cpu_us", "haproxy", 0.45, "handshake per request, to HAProxy"),
        _ratio(rows, "pooled", "p99_us", "haproxy", 1.00, "p99 at 64 connections, to HAProxy"),
        _ratio(rows, "many", "cpu_us", "warmline", 1.05, "pooled CPU per request with 1,000 upstreams, to one",
               name="warmline-many"),
        _at_most("CPU of a reload with 1,000 upstreams", 50, "ms", _median(rows, "reload", "cpu_ms")),
        _at_most("memory at start", 12, "MiB", _find(rows, "memory", "warmline", "start"), 1024),
        _at_most("memory of an idle client", 8, "KiB", _find(rows, "memory", "warmline", "idle")),
        _at_most("memory of a pair", 40, "KiB", _find(rows, "memory", "warmline", "pair")),
        _at_most("a client that reads nothing", 1024, "KiB",
                 _find(rows, "stalled", "kib_per_client", "warmline")),
        _reuse(rows, "one-shot", "warmline", "40 one-shot clients"),
        _reuse(rows, "one-shot", "warmline-2-threads", "40 one-shot clients, two threads"),
        _reuse(rows, "spaced", "warmline", "5 requests 20 s apart"),
        _exactly("lost GETs", 0, _find(rows, "lost", "warmline", "GET", "lost")),
        _exactly("duplicated POSTs", 0, _find(rows, "lost", "warmline", "origin", "duplicates", "POST")),
    ]


def _ratio(rows, row, field, other, limit, text, name="warmline"):
    samples = _find(rows, row, "samples") or {}
    wanted = f"≤ {limit:.2f}×"
    if name not in samples or other not in samples:
        return Verdict(text, wanted, "", None)
    each = ratios(samples, name, other, field)
    spread = f" ({min(each):.2f}–{max(each):.2f})" if len(each) > 1 else ""
    found = f"{median(each):.2f}×{spread}"
    return Verdict(text, wanted, found, median(each) <= limit)


def _no_dearer(rows):
    text, wanted = "pooled CPU per request, to the program before", "≤ 1.01×, interval from ≤ 1.00"
    samples = _find(rows, "pairs", "samples")
    if not samples:
        return Verdict(text, wanted, "", None)
    each = ratios(samples, "warmline", "warmline-before", "cpu_us")
    low, high = interval(each)
    found = f"{median(each):.3f}× ({low:.3f}–{high:.3f})"
    return Verdict(text, wanted, found, median(each) <= 1.01 and low <= 1.00)


def _at_most(text, limit, unit, value, scale=1):
    if value is None:
        return Verdict(text, f"≤ {limit} {unit}", "", None)
    return Verdict(text, f"≤ {limit} {unit}", f"{value / scale:.1f} {unit}", value / scale <= limit)


def _median(rows, *path):
    values = _find(rows, *path)
    return median(values) if values else None


def _exactly(text, wanted, value):
    found = "" if value is None else str(value)
    return Verdict(text, str(wanted), found, None if value is None else value == wanted)


def _reuse(rows, row, name, text):
    wanted = "1 connection, 1 full handshake"
    seen = _find(rows, row, name)
    if seen is None:
        return Verdict(text, wanted, "", None)
    found = f"{seen['connections']} connections, {seen['full_handshakes']} full"
    return Verdict(text, wanted, found, seen["connections"] == 1 == seen["full_handshakes"])


def _find(rows, *path):
    for key in path:
        if not isinstance(rows, dict) or key not in rows:
            return None
        rows = rows[key]
    return rows
