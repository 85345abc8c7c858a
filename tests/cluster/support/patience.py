"""Waiting for conditions that send no event: asks again and again, until the condition holds or the time is over."""

import time


class TooLate(AssertionError):
    """The condition that a test waited for did not come true in time."""


def eventually(what, look, timeout=30.0, every=0.1):
    """Returns the first true answer of `look`. `what` names the condition in words; the error contains the last answer.
    """
    end = time.monotonic() + timeout
    while True:
        seen = look()
        if seen:
            return seen
        if time.monotonic() >= end:
            raise TooLate(f"{what}: not within {timeout} s; last seen: {seen!r}")
        time.sleep(every)
