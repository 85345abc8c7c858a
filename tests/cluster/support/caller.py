"""The application: calls its upstream from its first line on, and at its end reports how many calls it lost. It knows
only a URL.

usage: caller.py NAME URL REPORT SECONDS_AFTER_SIGTERM. Half of its threads connect for each request, the others keep
their connection. After SIGTERM it goes on for SECONDS_AFTER_SIGTERM, and then sends its counts, and the longest time
without a good call, to REPORT. It runs in a pod, from a ConfigMap, with Python's own library alone.
"""

import http.client
import json
import signal
import sys
import threading
import time
import urllib.request
from urllib.parse import urlsplit

name, url, report, after = sys.argv[1], urlsplit(sys.argv[2]), sys.argv[3], float(sys.argv[4])
began = time.time()
told = threading.Event()
over = threading.Event()
lock = threading.Lock()
counts = {"name": name, "good": 0, "after_told": 0, "lost": [], "longest_gap": 0.0}
last_good = began


def connect():
    return http.client.HTTPConnection(url.hostname, url.port, timeout=15)


def call(connection):
    connection.request("GET", "/call")
    response = connection.getresponse()
    body = response.read()
    if response.status != 200 or not body.startswith(b"CN="):
        raise ValueError(f"{response.status} {body[:300].decode(errors='replace')}")


def count(error=None):
    global last_good
    now = time.time()
    with lock:
        if error:
            counts["lost"].append(f"{now - began:.3f} s: {type(error).__name__}: {error}")
        else:
            counts["longest_gap"] = max(counts["longest_gap"], now - last_good)
            last_good = now
            counts["good"] += 1
            counts["after_told"] += told.is_set()


def keep_calling(one_shot):
    connection = connect()
    while not over.is_set():
        try:
            call(connection)
            count()
        except (OSError, ValueError, http.client.HTTPException) as error:
            count(error)
            connection.close()
        if one_shot:
            connection.close()
        over.wait(0.02)
    connection.close()


signal.signal(signal.SIGTERM, lambda *_: told.set())
callers = [threading.Thread(target=keep_calling, args=(one_shot,)) for one_shot in (True, False, True, False)]
for caller in callers:
    caller.start()
while not told.wait(0.1):
    pass
over.wait(after)
over.set()
for caller in callers:
    caller.join()
urllib.request.urlopen(urllib.request.Request(report, json.dumps(counts).encode(), method="POST"), timeout=10).read()
