"""Programs that the seeds start: found by name, waited for, ended by process id."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time

PATIENCE = 30.0  # seconds until an awaited event counts as failed


class Missing(Exception):
    """A program or file that the seeds need is missing."""


def find(name):
    """Returns the path of a program, also in the folders of administrators' programs."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")
    if path is None:
        raise Missing(f"{name} is not installed; `scripts/install-peers seeds` installs it")
    return path


class Program:
    """A running program, stopped at the end of its `with`. Its output goes to a file; its input takes commands."""

    def __init__(self, command, log):
        self.name = os.path.basename(command[0])
        self.log = log
        with open(log, "wb") as output:
            self.process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=subprocess.STDOUT
            )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def say(self, line):
        """Writes a line to the program's standard input."""
        self.process.stdin.write(line.encode() + b"\n")
        self.process.stdin.flush()

    def lines(self):
        """Returns the complete lines of output so far."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return [line.rstrip("\n") for line in log if line.endswith("\n")]

    def wait_for_line(self, text, after=0):
        """Waits for a line that contains `text`, skipping the first `after` lines."""
        found = []

        def came():
            found[:] = [line for line in self.lines()[after:] if text in line]
            return bool(found)

        self.wait_until(came, f"a line with {text!r}")
        return found[0]

    def wait_for_port(self, port):
        """Waits until a program accepts connections on a loopback port."""
        self.wait_until(lambda: accepts(port), f"port {port} to open")

    def wait_until(self, happened, what):
        """Waits for `happened()`; if it does not happen in time, stops the program and raises an error with its output.
        """
        deadline = time.monotonic() + PATIENCE
        while not happened():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.stop()
                words = "\n".join(self.lines()[-20:])
                raise RuntimeError(f"{self.name}: waited in vain for {what}; its last lines:\n{words}")
            time.sleep(0.02)

    def stop(self, number=signal.SIGTERM, patience=5.0):
        """Sends a signal and waits for the end; kills the program if it does not end in time."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()


def accepts(port):
    """Returns true if a loopback port accepts connections."""
    with socket.socket() as attempt:
        return attempt.connect_ex(("127.0.0.1", port)) == 0


def free_ports(count):
    """Returns loopback ports that were not given before, below the range of outgoing connections' ports.

    A port is tested by binding, because a connection attempt would put packets into the captures.
    """
    found = []
    while len(found) < count:
        port = next(CANDIDATES)
        with socket.socket() as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                attempt.bind(("127.0.0.1", port))
                found.append(port)
    return found


CANDIDATES = iter(range(10_000 + os.getpid() % 8_000, 20_000))
