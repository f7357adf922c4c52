#!/usr/bin/env bash
# Install what the tests need, Chromium included, then run them all.
# Usage: bash scripts/test.sh [options of pytest]
# BRUSHLOOP_TEST_PROCESSES=0 runs them one after the other in this process (for a debugger).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash scripts/install.sh --dev

if ! command -v chromium >/dev/null; then
  if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "Installing Chromium …"
    log=$(mktemp)
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install -y \
      --no-install-recommends chromium; } >"$log" 2>&1 </dev/null; then
      tail -n 20 "$log" >&2
      echo "Chromium could not be installed; the browser tests need it." >&2
      exit 1
    fi
    rm -f "$log"
  else
    echo "The browser tests need Chromium as /usr/bin/chromium; install it (Debian: sudo apt-get" \
      "install chromium) and start again." >&2
    exit 1
  fi
fi

# where an environment forbids byte code, each of some hundred processes compiles every file again
unset PYTHONDONTWRITEBYTECODE
# One process starts servers and waits for them while the other computes; more would starve them.
processes=${BRUSHLOOP_TEST_PROCESSES:-2}
# every process that the tests start inherits this mark; none may outlive them
export BRUSHLOOP_TEST_RUN="$$-$RANDOM"
status=0
.venv/bin/python -m pytest --numprocesses "$processes" --dist load \
  --no-loadscope-reorder "$@" || status=$?
.venv/bin/python scripts/strays.py "BRUSHLOOP_TEST_RUN=$BRUSHLOOP_TEST_RUN" || status=1
exit "$status"
