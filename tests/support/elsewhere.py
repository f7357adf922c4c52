"""The same code in this process and in one that knows nothing of it."""

import contextlib
import io
import subprocess
import sys


def printed_here_and_elsewhere(code: str) -> tuple[str, str]:
    """What `code` prints when this process runs it, and when a new interpreter does."""
    here = io.StringIO()
    with contextlib.redirect_stdout(here):
        exec(compile(code, "here", "exec"), {"__name__": "here"})
    elsewhere = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=120
    )
    return here.getvalue(), elsewhere.stdout
