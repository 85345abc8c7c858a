"""Waiting for what sends no event: asked again and again, until it is so or the time is over."""

import time


class TooLate(AssertionError):
    """What was waited for did not come."""


def eventually(what, look, timeout=30.0, every=0.1):
    """The first true answer of `look`. `what` says in words what is waited for; the last answer stands in the error."""
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= end:
            raise TooLate(f"{what}: not within {timeout} s; last seen: {seen!r}")
        time.sleep(every)
