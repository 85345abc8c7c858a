"""Clients: wrk for load, and small clients in Python for rows in which the order of events matters."""

import json
import select
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from .processes import Ended, start_on

_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True)
class Load:
    """The results of wrk; latencies are in microseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self):
        """Returns the requests per second."""
        return self.requests / self.seconds


def wrk(port, seconds, connections, core):
    """Runs wrk with one thread against a loopback port."""
    command = [
        "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency",
        "-s", _SCRIPT, f"http://127.0.0.1:{port}/",
    ]
    process = start_on(core, command, stderr=subprocess.STDOUT, text=True)
    try:
        printed = process.communicate(timeout=seconds + 30)[0]
    finally:
        process.kill()
    _, mark, figures = printed.rpartition("\nWRK ")
    if not mark:
        raise Ended(f"wrk measured nothing, and wrote: {printed.strip()}")
    return Load(**json.loads(figures))


class Client:
    """An HTTP/1.1 client on one kept connection."""

    def __init__(self, port, limit=30.0):
        self._socket = socket.create_connection(("127.0.0.1", port), limit)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._pending = b""

    def get(self, path="/"):
        """Sends a GET; returns its status and the seconds until the whole response had come."""
        start = time.perf_counter()
        self.send(path)
        return self.receive(), time.perf_counter() - start

    def receive(self):
        """Reads the next response completely and returns its status."""
        head = self._read_until(b"\r\n\r\n")
        length = _content_length(head)
        while len(self._pending) < length:
            self._receive()
        self._pending = self._pending[length:]
        return int(head.split(b" ", 2)[1])

    def send(self, path):
        """Sends a GET without reading the response."""
        self._socket.sendall(f"GET {path} HTTP/1.1\r\nHost: upstream.bench.test\r\n\r\n".encode())

    def wait_readable(self, limit=10.0):
        """Waits for the first byte of a response, which stays unread."""
        if not select.select([self._socket], [], [], limit)[0]:
            raise TimeoutError(f"no byte of an answer within {limit:.0f} s")

    def close(self):
        """Closes the connection."""
        self._socket.close()

    def _read_until(self, mark):
        while mark not in self._pending:
            self._receive()
        head, _, self._pending = self._pending.partition(mark)
        return head

    def _receive(self):
        received = self._socket.recv(65536)
        if not received:
            raise ConnectionError("the proxy closed the connection in the middle of a response")
        self._pending += received


def one_shot(port):
    """Sends a GET over a new connection, as curl does; returns its status."""
    client = Client(port)
    try:
        return client.get()[0]
    finally:
        client.close()


def _content_length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ValueError(f"a response without Content-Length: {head!r}")
