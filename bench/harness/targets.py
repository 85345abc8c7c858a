"""The targets of the issue, each with what was measured and a verdict."""

from dataclasses import dataclass
from statistics import median


@dataclass(frozen=True)
class Verdict:
    """One target: what is wanted, what was found, whether that is met (None: not measured)."""

    target: str
    wanted: str
    found: str
    met: bool | None

    @property
    def word(self):
        """For people."""
        return {True: "met", False: "MISSED", None: "not measured"}[self.met]


def ratios(samples, name, other, field):
    """`name` against `other`, round by round: the machine's mood cancels out."""
    return [one[field] / two[field] for one, two in zip(samples[name], samples[other])]


def verdicts(rows):
    """All targets, in the order of the issue."""
    return [
        _ratio(rows, "pooled", "cpu_us", "haproxy", 0.80, "pooled CPU per request, to HAProxy"),
        _ratio(rows, "pooled", "cpu_us", "nginx", 0.95, "pooled CPU per request, to nginx"),
        _ratio(rows, "pooled", "cpu_us", "envoy", 0.50, "pooled CPU per request, to Envoy"),
        _ratio(rows, "handshake", "cpu_us", "haproxy", 0.45, "handshake per request, to HAProxy"),
        _ratio(rows, "pooled", "p99_us", "haproxy", 1.00, "p99 at 64 connections, to HAProxy"),
        _at_most("memory at start", 12, "MiB", _find(rows, "memory", "warmline", "start"), 1024),
        _at_most("memory of a pair", 40, "KiB", _find(rows, "memory", "warmline", "pair")),
        _at_most("a client that reads nothing", 1024, "KiB",
                 _find(rows, "stalled", "kib_per_client", "warmline")),
        _reuse(rows, "one-shot", "warmline", "40 one-shot clients"),
        _reuse(rows, "one-shot", "warmline-2-threads", "40 one-shot clients, two threads"),
        _reuse(rows, "spaced", "warmline", "5 requests 20 s apart"),
        _exactly("lost GETs", 0, _find(rows, "lost", "warmline", "GET", "lost")),
        _exactly("duplicated POSTs", 0, _find(rows, "lost", "warmline", "origin", "duplicates", "POST")),
    ]


def _ratio(rows, row, field, other, limit, text):
    samples = _find(rows, row, "samples") or {}
    wanted = f"≤ {limit:.2f}×"
    if "warmline" not in samples or other not in samples:
        return Verdict(text, wanted, "", None)
    each = ratios(samples, "warmline", other, field)
    spread = f" ({min(each):.2f}–{max(each):.2f})" if len(each) > 1 else ""
    found = f"{median(each):.2f}×{spread}"
    return Verdict(text, wanted, found, median(each) <= limit)


def _at_most(text, limit, unit, value, scale=1):
    if value is None:
        return Verdict(text, f"≤ {limit} {unit}", "", None)
    return Verdict(text, f"≤ {limit} {unit}", f"{value / scale:.1f} {unit}", value / scale <= limit)


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
