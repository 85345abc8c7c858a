"""A small mTLS origin for what nginx cannot do. Run as a program: `python -m harness.origin --help`.

With `--close-idle MS` it closes each connection that has been idle for a random time up to MS, as an upstream
does that is out of step with its proxy; it counts each request by its target, so that a duplicate is seen. A
request for /held is answered when `--hold N` of them wait. On SIGTERM it prints what it counted as JSON.
"""

import argparse
import asyncio
import json
import random
import signal
import ssl
from collections import Counter


class Origin:
    """The state that all connections share."""

    def __init__(self, close_idle, hold):
        self.close_idle, self.hold = close_idle, hold
        self.connections = 0
        self.delivered = Counter()
        self._held = []

    def held(self, answer):
        """Keeps `answer` until all held requests have come, then gives all answers."""
        self._held.append(answer)
        if len(self._held) == self.hold:
            for each in self._held:
                each()
            self._held.clear()

    def counts(self):
        """Returns the counts that are printed at the end."""
        duplicates = Counter()
        for (method, _), times in self.delivered.items():
            duplicates[method] += times - 1
        return {
            "connections": self.connections,
            "delivered": sum(self.delivered.values()),
            "duplicates": {"GET": duplicates["GET"], "POST": duplicates["POST"]},
        }


class Connection(asyncio.Protocol):
    """A connection: reads whole requests and answers each with its target as body."""

    def __init__(self, origin):
        self._origin = origin
        self._pending = b""
        self._closing = None

    def connection_made(self, transport):
        self._transport = transport
        self._origin.connections += 1

    def connection_lost(self, _error):
        self._stay()

    def data_received(self, data):
        self._stay()
        self._pending += data
        while (request := self._next_request()) is not None:
            self._serve(*request)

    def _next_request(self):
        head, mark, rest = self._pending.partition(b"\r\n\r\n")
        length = _content_length(head) if mark else 0
        if not mark or len(rest) < length:
            return None
        self._pending = rest[length:]
        method, target, _ = head.decode("latin-1").split(" ", 2)
        return method, target

    def _serve(self, method, target):
        if target == "/held":
            self._origin.held(lambda: self._answer(target))
            return
        self._origin.delivered[method, target] += 1
        self._answer(target)

    def _answer(self, target):
        body = target.encode()
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        if self._origin.close_idle is not None:
            after = random.uniform(0, self._origin.close_idle)
            self._closing = asyncio.get_running_loop().call_later(after, self._transport.close)

    def _stay(self):
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None


def _content_length(head):
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    return 0


def _tls(arguments):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(arguments.certificate, arguments.key)
    context.load_verify_locations(arguments.ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


async def _serve(arguments):
    origin = Origin(arguments.close_idle and arguments.close_idle / 1000, arguments.hold)
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ended.set)
    await loop.create_server(
        lambda: Connection(origin), "127.0.0.1", arguments.port, ssl=_tls(arguments), backlog=4096
    )
    await ended.wait()
    print(json.dumps(origin.counts()), flush=True)


def _arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--certificate", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--ca", required=True)
    parser.add_argument("--close-idle", type=float, metavar="MS")
    parser.add_argument("--hold", type=int, default=1, metavar="N")
    return parser.parse_args()


if __name__ == "__main__":
    asyncio.run(_serve(_arguments()))
