"""Waiting, for the tests of the jobs room."""

import time
from collections.abc import Callable


def until(condition: Callable[[], object], seconds: float = 30.0) -> object:
    """Wait for a truthy answer of `condition` and return it."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return answer
