#!/usr/bin/env bash
# Install what is missing, then bring up the whole loop: Redis, Label Studio, backend, worker and
# scheduler. Usage: bash scripts/run.sh [options of `brushloop up`]; Ctrl-C stops everything.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
bash "$root/scripts/install.sh"
# the caller's folder stays: relative paths among the options mean what the user thinks
exec "$root/.venv/bin/brushloop" up \
  --label-studio "$root/.venv-label-studio/bin/label-studio" "$@"
