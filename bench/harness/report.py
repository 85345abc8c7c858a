"""Prints the results as tables for people, and keeps them as JSON."""

import json
from statistics import median

from .targets import interval, ratios, verdicts

_TITLES = {
    "relay": "TCP relay", "haproxy": "HAProxy", "haproxy-aggressive": "HAProxy aggressive",
    "nginx": "nginx", "envoy": "Envoy", "warmline": "Warmline", "warmline-2-threads": "Warmline, 2 threads",
    "warmline-before": "Warmline before", "warmline-many": "Warmline, 1,000 upstreams",
}
_SEEN = ("requests", "connections", "full_handshakes", "resumed_handshakes")
_DISTURBED = 0.05


def text(results):
    """Returns the whole report as text."""
    parts = [_head(results)]
    for name, figures in results["rows"].items():
        parts.append(_failed(name, figures) if "failed" in figures else _ROWS[name](figures))
    parts.append(_targets(results["rows"]))
    return "\n\n".join(parts) + "\n"


def keep(results, directory):
    """Writes the results as JSON, with the verdicts; returns the file's path."""
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{results['when'].replace(':', '').replace(' ', '-')}.json"
    judged = [verdict.__dict__ for verdict in verdicts(results["rows"])]
    file.write_text(json.dumps({**results, "targets": judged}, indent=1))
    (directory / "latest.json").write_text(file.read_text())
    return file


def _head(results):
    machine = results["machine"]
    lines = [
        f"Warmline beside its peers, {results['when']}: {results['rounds']} rounds in turn of "
        f"{results['seconds']} s each, one worker each",
        f"{machine['processor']}, {machine['cores']} cores, Linux {machine['kernel']}, "
        f"load before the run {machine['load_average']:.1f}",
    ]
    lines += [f"  {version}" for version in machine["versions"]]
    return "\n".join(lines)


def _failed(name, figures):
    return f"{name}: FAILED\n  {figures['failed']}"


def _pooled(figures):
    return _section(
        "Pooled: 64 connections, 1 KiB answers, kept upstream connections (median, min–max)",
        _under_load(figures["samples"]), _notes(figures["samples"]),
    )


def _pairs(figures):
    samples = figures["samples"]
    each = ratios(samples, "warmline", "warmline-before", "cpu_us")
    low, high = interval(each)
    notes = [
        f"to the program before: {median(each):.3f}× in the median of {len(each)} pairs, 95 % interval {low:.3f} to {high:.3f}",
        *_notes(samples),
    ]
    return _section("Pairs: the program before and this one in turn, work as in `pooled`", _under_load(samples), notes)


def _many(figures):
    samples = figures["samples"]
    return _section(
        "Many: work as in `pooled` with one upstream, and with 1,000 in the configuration",
        _under_load(samples), _notes(samples),
    )


def _reload(figures):
    each = figures["cpu_ms"]
    rows = [
        ["", "CPU ms", "lowest", "highest", "reloads"],
        ["Warmline", *(f"{value:.1f}" for value in (median(each), min(each), max(each))), str(len(each))],
    ]
    return _section(f"Reload: {figures['upstreams']:,} upstreams, of which one has changed (median)", rows)


def _handshake(figures):
    samples, upstream = figures["samples"], figures["upstream"]
    rows = _under_load(samples)
    rows[0].append("resumed")
    for row, name in zip(rows[1:], samples):
        seen = upstream[name]
        row.append(f"{seen['resumed_handshakes'] / max(1, seen['connections']):.1%}")
    agreed = sorted({how for seen in upstream.values() for how in seen["agreed"]})
    notes = [f"agreed on: {', '.join(agreed)}", *_notes(samples)]
    return _section("Handshake: the upstream closes after each response", rows, notes)


def _under_load(samples):
    rows = [[
        "", "CPU µs/request", "× HAProxy", "user", "system",
        "requests/s", "p50 µs", "p99 µs", "its core", "others",
    ]]
    for name, taken in samples.items():
        rows.append([
            _TITLES[name], _spread(taken, "cpu_us", ".1f"), _times_haproxy(samples, name),
            _median(taken, "user_us", ".1f"), _median(taken, "system_us", ".1f"),
            _spread(taken, "rate", ".0f"), _median(taken, "p50_us", ".0f"), _spread(taken, "p99_us", ".0f"),
            _median(taken, "core_share", ".0%"), _median(taken, "others_share", ".0%"),
        ])
    return rows


def _times_haproxy(samples, name):
    if "haproxy" not in samples:
        return ""
    return f"{median(ratios(samples, name, 'haproxy', 'cpu_us')):.2f}"


def _notes(samples):
    notes = []
    errors = {name: sum(each["errors"] for each in taken) for name, taken in samples.items()}
    notes += [f"{_TITLES[name]}: {count} errors under load" for name, count in errors.items() if count]
    if any(each["others_share"] > _DISTURBED for taken in samples.values() for each in taken):
        notes.append("others used the proxy's core too: run again on a quiet machine")
    return notes


def _memory(figures):
    rows = [["", "at start", "after load", "an idle client", "a pair", "(not shared: at start)"]]
    for name, each in figures.items():
        rows.append([
            _TITLES[name], f"{each['start'] / 1024:.1f} MiB", f"{each['loaded'] / 1024:.1f} MiB",
            f"{each['idle']:.1f} KiB", f"{each['pair']:.1f} KiB", f"{each['start_private'] / 1024:.1f} MiB",
        ])
    return _section("Memory, resident; a pair: an idle client and an idle upstream connection, of 1,000", rows)


def _seen(title):
    def section(figures):
        rows = [["", "requests", "connections", "full handshakes", "resumed"]]
        for name, seen in figures.items():
            rows.append([_TITLES[name], *(str(seen[key]) for key in _SEEN)])
        return _section(title, rows)

    return section


def _lost(figures):
    rows = [["", "GETs lost", "POSTs lost", "duplicates", "upstream connections", "ways"]]
    for name, each in figures.items():
        origin = each["origin"]
        ways = {way: n for m in ("POST", "GET") for way, n in each[m]["outcomes"].items() if way != "ok"}
        rows.append([
            _TITLES[name], *(f"{each[m]['lost']} of {each[m]['sent']}" for m in ("GET", "POST")),
            str(sum(origin["duplicates"].values())), str(origin["connections"]),
            ", ".join(sorted(ways)),
        ])
    return _section("Lost while the upstream closes idle connections after 0 to 50 ms, 16 clients", rows)


def _stalled(figures):
    rows = [["", "growth"]]
    rows += [[_TITLES[name], f"{kib:.0f} KiB"] for name, kib in figures["kib_per_client"].items()]
    size = figures["large_bytes"] // 2**20
    return _section(f"A client that reads nothing of {size} MiB, each of {figures['clients']}", rows)


def _distance(figures):
    rows = [["", "pooled p50", "new connection, resumed p50", "the very first"]]
    for name, each in figures.items():
        cells = (each.get(key) for key in ("pooled_ms", "new_ms", "first_ms"))
        rows.append([_TITLES[name], *("" if cell is None else f"{cell:.1f} ms" for cell in cells)])
    return _section("An upstream at a round trip of 96 ms", rows)


def _targets(rows):
    table = [["", "wanted", "found", ""]]
    table += [[each.target, each.wanted, each.found, each.word] for each in verdicts(rows)]
    return _section("Targets", table)


_ROWS = {
    "pooled": _pooled,
    "pairs": _pairs,
    "handshake": _handshake,
    "many": _many,
    "reload": _reload,
    "memory": _memory,
    "one-shot": _seen("40 one-shot clients, one after the other, as the upstream saw them"),
    "spaced": _seen("5 requests 20 s apart, default settings"),
    "lost": _lost,
    "stalled": _stalled,
    "distance": _distance,
}
ROWS = tuple(_ROWS)


def _median(taken, field, form):
    return format(median(each[field] for each in taken), form)


def _spread(taken, field, form):
    values = [each[field] for each in taken]
    middle, low, high = (format(value, form) for value in (median(values), min(values), max(values)))
    return middle if low == high else f"{middle} ({low}–{high})"


def _section(title, rows, notes=()):
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [title]
    for row in rows:
        first, *others = zip(row, widths)
        cells = [first[0].ljust(first[1])] + [cell.rjust(width) for cell, width in others]
        lines.append("  " + "  ".join(cells).rstrip())
    return "\n".join(lines + [f"  note: {note}" for note in notes])
