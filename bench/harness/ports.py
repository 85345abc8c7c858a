"""Free loopback ports, below the range from which the kernel takes the ports of outgoing connections."""

import random
import socket

_RANGE = range(20000, 32000)
_given = set()


def free_port():
    """Returns a port that is free now and that was not returned before in this run."""
    for _ in range(1000):
        port = random.choice(_RANGE)
        if port not in _given and _bindable(port):
            _given.add(port)
            return port
    raise RuntimeError(f"no free loopback port between {_RANGE.start} and {_RANGE.stop}")


def _bindable(port):
    with socket.socket() as probe:
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True
