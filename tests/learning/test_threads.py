"""How torch's threads share the processor."""

import os
import subprocess
import sys

import pytest

_SCRIPT = "import ml_backend.learning, torch"


@pytest.mark.parametrize(("given", "expected"), [(None, "PASSIVE"), ("ACTIVE", "ACTIVE")])
def test_waiting_threads_sleep_unless_told_otherwise(given, expected):
    """Torch's OpenMP starts with threads that sleep while they wait; a user's own word wins."""
    environment = {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}
    environment["OMP_DISPLAY_ENV"] = "true"
    if given is not None:
        environment["OMP_WAIT_POLICY"] = given
    done = subprocess.run(
        [sys.executable, "-c", _SCRIPT],
        env=environment, capture_output=True, text=True, check=True, timeout=120,
    )  # fmt: skip
    assert f"OMP_WAIT_POLICY = '{expected}'" in done.stderr
