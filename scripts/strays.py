"""End the processes whose environment holds NAME=VALUE and fail if there were any.

Usage: python scripts/strays.py NAME=VALUE
"""

import sys
from contextlib import suppress

import psutil


def find(mark: str) -> list[psutil.Process]:
    """List the processes that carry the mark, this one and its parents excepted."""
    name, _, value = mark.partition("=")
    this = psutil.Process()
    family = {this.pid, *(parent.pid for parent in this.parents())}
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.pid not in family and process.environ().get(name) == value:
                found.append(process)
    return found


def main(mark: str) -> int:
    """Give them five seconds to end on their own, then name and kill them."""
    psutil.wait_procs(find(mark), timeout=5)
    left = find(mark)
    for process in left:
        with suppress(psutil.Error):
            print(f"left behind: process {process.pid}: {' '.join(process.cmdline())[:200]}")
            process.kill()
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
