"""The conditions of the figures: the machine, the versions, and the load from other programs."""

import os
import platform
import re
import subprocess
from pathlib import Path


def describe(programs):
    """Returns the machine's properties and the first line of each program's version."""
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "versions": [_version(command) for command in programs],
    }


def two_cores():
    """Returns the core of the proxies, and the core of load and upstream."""
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) < 2:
        raise RuntimeError("the benchmark needs two cores: one for the proxy, one for load and upstream")
    return cores[1], cores[0]


def _processor():
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text())
    return found.group(1) if found else platform.machine()


def _version(command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    lines = (done.stdout + done.stderr).replace(str(command[0]), Path(command[0]).name).split("\n")
    return next((line.strip() for line in lines if line.strip()), f"{command[0]}: unknown")
