"""Lost: GETs and POSTs of an application that got no answer, while the upstream closes idle connections after a random
0 to 50 ms. The origin counts duplicates."""

import asyncio
import json
import random
from collections import Counter

from ..bench import stopping
from ..origins import RunningOrigin

CLIENTS = 16
REQUESTS = 10_000
CLOSES_WITHIN_MS = 50
_LIMIT = 10.0
_POST_BODY = b"a body that may not be sent twice"


def run(bench):
    """Returns sent, lost, the kinds of loss, and duplicates for each proxy by name."""
    requests = REQUESTS // 5 if bench.quick else REQUESTS
    return {proxy.name: _through(bench, proxy, requests) for proxy in bench.proxies}


def _through(bench, proxy, requests):
    origin = RunningOrigin(bench, f"origin-lost-{proxy.name}", "--close-idle", CLOSES_WITHIN_MS)
    running = proxy.start(bench.task(origin.port))
    try:
        with stopping(running):
            outcomes = asyncio.run(_clients(running.port, requests))
    finally:
        origin_counts = json.loads(origin.stop() or "{}")
    figures = {
        method: {
            "sent": sum(outcomes[method].values()),
            "lost": sum(n for outcome, n in outcomes[method].items() if outcome != "ok"),
            "outcomes": dict(outcomes[method]),
        }
        for method in ("GET", "POST")
    }
    bench.say(f"  {proxy.name:<10} {figures} {origin_counts}")
    return {**figures, "origin": origin_counts}


async def _clients(port, requests):
    outcomes = {"GET": Counter(), "POST": Counter()}
    numbers = iter(range(requests))
    await asyncio.gather(*(_client(port, numbers, outcomes) for _ in range(CLIENTS)))
    return outcomes


async def _client(port, numbers, outcomes):
    """Sends the requests of one application, which keeps its connection as long as the proxy does."""
    connection = None
    for number in numbers:
        method = random.choice(("GET", "POST"))
        try:
            connection = connection or await asyncio.open_connection("127.0.0.1", port)
            outcome, kept = await asyncio.wait_for(_exchange(connection, method, f"/{number}"), _LIMIT)
        except TimeoutError:  # before OSError, of which this is a subclass
            outcome, kept = "no answer", False
        except (OSError, EOFError) as error:
            outcome, kept = type(error).__name__, False
        outcomes[method][outcome] += 1
        if not kept and connection:
            connection[1].close()
            connection = None


async def _exchange(connection, method, target):
    reader, writer = connection
    body = _POST_BODY if method == "POST" else b""
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: upstream.bench.test\r\n{length}\r\n".encode() + body)
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    received = await reader.readexactly(int(head.partition("content-length:")[2].split("\r\n")[0]))
    status = head.split(" ", 2)[1]
    kept = "connection: close" not in head
    if status != "200":
        return status, kept
    return ("ok" if received == target.encode() else "another's answer"), kept
