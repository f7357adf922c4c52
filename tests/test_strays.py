"""The guard against processes that outlive the tests."""

import os
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "scripts/strays.py"


def strays(mark: str) -> subprocess.CompletedProcess:
    """Run the script in an environment that carries the mark too, as scripts/test.sh does."""
    name, _, value = mark.partition("=")
    command = [sys.executable, SCRIPT, mark]
    return subprocess.run(
        command, env={**os.environ, name: value}, capture_output=True, text=True, check=False
    )


def test_a_stray_is_named_and_killed(tmp_path: Path):
    """A process that carries the mark is reported and killed; another mark's is left alone."""
    code = "import time; time.sleep(600)"
    mark = f"BRUSHLOOP_TEST_STRAY={tmp_path}"
    environments = [{"BRUSHLOOP_TEST_STRAY": value} for value in (str(tmp_path), "another")]
    command = [sys.executable, "-I", "-S", "-c", code]
    stray, other = (subprocess.Popen(command, env=environment) for environment in environments)
    try:
        done = strays(mark)
        assert done.returncode == 1
        assert f"process {stray.pid}" in done.stdout
        assert stray.wait(5) == -9
        assert other.poll() is None
        assert strays(mark).returncode == 0
    finally:
        for process in (stray, other):
            process.kill()
            process.wait()
