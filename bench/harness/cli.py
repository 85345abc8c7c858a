"""The command line: the rows to run, their order, and the treatment of failures."""

import argparse
import json
import os
import shlex
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from . import install, machine, report, targets
from .bench import Bench
from .certs import Certificates
from .peers import Envoy, HaProxy, Nginx, Warmline
from .processes import prefer, stop_all, stop_on_signals
from .rows import distance, handshake, lost, many, memory, pairs, pooled, reload, reuse, stalled

PROXIES = ("haproxy", "nginx", "envoy", "warmline")


def main():
    """Runs the benchmark; the exit status is 1 if a row failed, or with `--strict` if a target was missed."""
    options = _options()
    stop_on_signals()
    try:
        programs = _programs(options)
        with tempfile.TemporaryDirectory(prefix="warmline-bench-") as directory:
            return _run(options, programs, Path(directory))
    except install.Missing as missing:
        print(f"bench: {missing}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("bench: interrupted; every server is being stopped", file=sys.stderr)
        return 130
    finally:
        stop_all()


def _options():
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Warmline beside HAProxy, nginx, Envoy and a plain TCP relay."
    )
    parser.add_argument("--rounds", type=int, help="rounds in turn under load (5)")
    parser.add_argument("--seconds", type=int, help="seconds of each measurement under load (4)")
    parser.add_argument("--only", type=_names(report.ROWS), default=report.ROWS, metavar="ROW,...",
                        help=f"rows to run: {','.join(report.ROWS)}")
    parser.add_argument("--without", type=_names(PROXIES), default=(), metavar="NAME,...",
                        help=f"proxies to leave out: {','.join(PROXIES)}")
    parser.add_argument("--quick", action="store_true",
                        help="under 100 s: one short round, fewer requests, no row with 20 s gaps")
    parser.add_argument("--warmline", metavar="FILE",
                        help="a warmline that is built already (default: as scripts/release builds it)")
    parser.add_argument("--before", metavar="FILE",
                        help="a warmline of another commit: the row `pairs` loads it and this one in turn")
    parser.add_argument("--after-setting", type=_setting, action="append", default=[], metavar="KEY=VALUE",
                        help="a setting of the upstream for the second program of `pairs` alone, as "
                             "headerCase=kept or tls.keyExchange=classic; may be repeated")
    parser.add_argument("--warmline-arguments", type=shlex.split, default=[], metavar="TEXT",
                        help="more arguments for `warmline run`")
    parser.add_argument("--nice", type=int, default=0, metavar="N",
                        help="nice value of everything in the run: below 0 (as root) on a machine in use")
    parser.add_argument("--strict", action="store_true", help="exit status 1 when a target is missed")
    options = parser.parse_args()
    if "pairs" in options.only and options.before is None:
        if options.only != report.ROWS:
            parser.error("the row `pairs` needs --before FILE, a warmline of another commit")
        options.only = tuple(name for name in options.only if name != "pairs")
    if options.after_setting and "pairs" not in options.only:
        parser.error("--after-setting is for the row `pairs`")
    options.rounds = options.rounds or (1 if options.quick else 5)
    options.seconds = options.seconds or (2 if options.quick else 4)
    return options


def _names(known):
    def parse(text):
        names = tuple(text.split(","))
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"no {', '.join(unknown)}; known: {', '.join(known)}")
        return names

    return parse


def _setting(text):
    """Parses a path of keys and a value, which is taken as JSON if it is valid JSON, else as text."""
    path, equals, value = text.partition("=")
    if not (path and equals):
        raise argparse.ArgumentTypeError(f"{text} is not KEY=VALUE")
    try:
        value = json.loads(value)
    except ValueError:
        pass
    return path.split("."), value


def _programs(options):
    """Returns the paths of all programs of the run; installs or builds those that are missing."""
    wanted = [name for name in PROXIES if name not in options.without]
    _say("looking for the programs, installing and building what is missing")
    install.debian_programs(["nginx", "wrk", "openssl", "taskset"] + ["haproxy"] * ("haproxy" in wanted))
    programs = {"haproxy": "haproxy", "nginx": "nginx", "relay": install.relay()}
    if "envoy" in wanted:
        programs["envoy"] = install.envoy()
    if "warmline" in wanted:
        programs["warmline"] = options.warmline or install.warmline()
    return programs


def _run(options, programs, directory):
    started = time.monotonic()
    results = {
        "when": time.strftime("%Y-%m-%d %H:%M:%S"),
        "rounds": options.rounds, "seconds": options.seconds, "quick": options.quick,
        "machine": machine.describe(_version_commands(options, programs)),
    }
    bench = _bench(options, programs, directory)
    results["rows"] = _rows(options, bench, programs)
    file = report.keep(results, install.BENCH / "results")
    print("\n" + report.text(results))
    print(f"{time.monotonic() - started:.0f} s; kept as {os.path.relpath(file)}")
    return _status(options, results["rows"])


def _bench(options, programs, directory):
    prefer(options.nice)
    proxy_core, load_core = machine.two_cores()
    os.sched_setaffinity(0, {load_core})
    return Bench(
        certificates=Certificates(directory / "certificates"), directory=directory,
        proxy_core=proxy_core, load_core=load_core, proxies=_proxies(options, programs),
        relay=programs["relay"], rounds=options.rounds, seconds=options.seconds, quick=options.quick,
        say=_say, ended=threading.Event(),
    )


def _proxies(options, programs):
    every = {
        "haproxy": lambda: HaProxy(),
        "nginx": lambda: Nginx(),
        "envoy": lambda: Envoy(programs["envoy"]),
        "warmline": lambda: _warmline(options, programs),
    }
    return tuple(make() for name, make in every.items() if name not in options.without)


def _pairs(options, bench, programs):
    before = Warmline(options.before, arguments=options.warmline_arguments, name="warmline-before")
    return pairs.run(bench, before, _warmline(options, programs, settings=options.after_setting))


def _many(options, bench, programs):
    many_upstreams = _warmline(options, programs, name="warmline-many", upstreams=many.UPSTREAMS)
    return many.run(bench, _warmline(options, programs), many_upstreams)


def _reload(options, bench, programs):
    return reload.run(bench, _warmline(options, programs, upstreams=many.UPSTREAMS))


def _one_shot_proxies(options, bench, programs):
    """Returns the proxies of the one-shot row: those of all rows, and variants of its own."""
    variants = [] if "haproxy" in options.without else [HaProxy("aggressive")]
    variants += bench.proxies
    if "warmline" not in options.without:
        variants.append(_warmline(options, programs, threads=2, name="warmline-2-threads"))
    return variants


def _warmline(options, programs, **settings):
    return Warmline(programs["warmline"], arguments=options.warmline_arguments, **settings)


def _version_commands(options, programs):
    arguments = {"haproxy": "-v", "nginx": "-v", "envoy": "--version", "warmline": "--version"}
    return [
        [programs[name], argument] for name, argument in arguments.items() if name not in options.without
    ]


def _rows(options, bench, programs):
    """Runs the rows: those under load one at a time, then the others, with the waiting ones in the background."""
    rows = {}

    def row(name, run):
        if name in options.only:
            _say(name)
            rows[name] = _row(name, run)

    row("pooled", lambda: pooled.run(bench))
    row("pairs", lambda: _pairs(options, bench, programs))
    row("handshake", lambda: handshake.run(bench, bench.proxies))
    if "warmline" not in options.without:
        row("many", lambda: _many(options, bench, programs))
        row("reload", lambda: _reload(options, bench, programs))
    with ThreadPoolExecutor(2) as background:
        waiting = _waiting_rows(options, bench, programs)
        begun = {name: background.submit(_row, name, run) for name, run in waiting.items()}
        with _ending(bench):
            row("memory", lambda: memory.run(bench))
            row("lost", lambda: lost.run(bench))
            row("stalled", lambda: stalled.run(bench))
            row("distance", lambda: distance.run(bench))
            if begun:
                _say("waiting for " + ", ".join(begun))
            rows |= {name: future.result() for name, future in begun.items()}
    return {name: rows[name] for name in report.ROWS if name in rows}


@contextmanager
def _ending(bench):
    """Sets the event `ended` when the run ends: rows in the background would otherwise wait for up to 20 s."""
    try:
        yield
    finally:
        bench.ended.set()


def _waiting_rows(options, bench, programs):
    one_shot = _one_shot_proxies(options, bench, programs)
    rows = {"one-shot": lambda: reuse.run_one_shot(bench, one_shot)}
    if not options.quick:
        rows["spaced"] = lambda: reuse.run_spaced(bench, bench.proxies)
    return {name: run for name, run in rows.items() if name in options.only}


def _row(name, run):
    """Runs one row; an error becomes its result, so that the results of the other rows are kept."""
    try:
        return run()
    except Exception as error:  # the report shows the error, whatever its type is
        _say(f"{name} failed: {error}")
        return {"failed": f"{type(error).__name__}: {error}"}


def _status(options, rows):
    failed = any("failed" in figures for figures in rows.values())
    missed = any(verdict.met is False for verdict in targets.verdicts(rows))
    return 1 if failed or (options.strict and missed) else 0


def _say(text):
    print(f"[{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)
