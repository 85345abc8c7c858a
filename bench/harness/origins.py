"""Starts the small origin of `origin.py` for a row, on the load's core."""

import sys
from pathlib import Path

from .ports import free_port
from .processes import Server

_PACKAGE_PARENT = Path(__file__).resolve().parent.parent


class RunningOrigin:
    """An origin process at `port`."""

    def __init__(self, bench, name, *options):
        self.port = free_port()
        certificates = bench.certificates
        command = [
            sys.executable, "-B", "-m", "harness.origin", "--port", self.port,
            "--certificate", certificates.upstream_certificate, "--key", certificates.upstream_key,
            "--ca", certificates.ca, *options,
        ]
        environment = {"PYTHONPATH": str(_PACKAGE_PARENT)}
        self._server = Server(name, command, bench.load_core, bench.directory, environment)
        self._server.wait_for_port(self.port)

    def stop(self):
        """Ends the process and returns its output."""
        return self._server.stop()
