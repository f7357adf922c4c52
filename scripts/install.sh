#!/usr/bin/env bash
# Make .venv (Brushloop) and .venv-label-studio side by side and install what changed since last
# time. Usage: bash scripts/install.sh [--dev]
# PYTHON=… chooses the interpreter; pip's own PIP_… variables are respected.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
jobs_running=()
trap 'for job in "${jobs_running[@]}"; do kill -TERM -- "-$job" 2>/dev/null || true; done; exit 130' \
  INT TERM HUP

extra=
[ "${1:-}" = --dev ] && extra='[dev]'

find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 python3.12 python3.13 python3 python}; do
    if "$candidate" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' \
      >/dev/null 2>&1; then
      command -v "$candidate"
      return
    fi
  done
  echo "Brushloop needs Python 3.11 or newer with its venv module (Debian: apt-get install" \
    "python3 python3-venv). Found none; set PYTHON to its path." >&2
  return 1
}

# fingerprint FILE…: changes when a file, the checkout's place or the kind of install does
fingerprint() {
  { echo "$root"; cat "$@"; } | cksum | tr ' \t' '--'
}

# is_current FOLDER FINGERPRINT: a development install serves where a plain one is wanted
is_current() {
  [ -x "$1/bin/python" ] && [ -f "$1/.installed" ] || return 1
  local installed
  installed=$(cat "$1/.installed")
  [ "$installed" = "$2[dev]" ] || [ "$installed" = "$2$extra" ]
}

# install_into FOLDER STAMP PIP-ARGUMENT…
install_into() {
  local folder=$1 stamp=$2
  shift 2
  rm -f "$folder/.installed"
  if ! { [ -x "$folder/bin/python" ] && [ "$(cat "$folder/.place" 2>/dev/null)" = "$root" ] &&
    "$folder/bin/python" -c 'import pip' 2>/dev/null; }; then
    "$python" -m venv --clear "$folder"
    echo "$root" >"$folder/.place"
  fi
  pip_install "$folder" "$@"
  if [ "$folder" = .venv-label-studio ]; then
    make_empty_database "$folder"
  fi
  # BaaL, which the tests compare with, asks for all of Jupyter and imports none of it
  if [ "$folder" = .venv ] && [ -n "$extra" ]; then
    pip_install "$folder" --constraint constraints.txt --no-deps baal
  fi
  echo "$stamp" >"$folder/.installed"
}

# make_empty_database FOLDER: Label Studio's migrations take a minute, so they run once; every new
# home starts with a copy (LabelStudioServer.start)
make_empty_database() {
  local data=$root/$1/data
  rm -rf "$data" "$1/empty.sqlite3"
  mkdir "$data"
  env -i PATH="$PATH" HOME="$data" LANG=C.UTF-8 LABEL_STUDIO_BASE_DATA_DIR="$data" \
    LABEL_STUDIO_COLLECT_ANALYTICS=0 LABEL_STUDIO_LATEST_VERSION_CHECK=0 \
    "$1/bin/label-studio" version
  mv "$data/label_studio.sqlite3" "$1/empty.sqlite3"
  rm -rf "$data"
}

# pip_install FOLDER PIP-ARGUMENT…
pip_install() {
  local folder=$1
  shift
  "$folder/bin/python" -m pip install --disable-pip-version-check --no-input --progress-bar off \
    "$@"
}

# start_install NAME FOLDER STAMP PIP-ARGUMENT…: in the background, log beside the folder
start_install() {
  local name=$1 folder=$2
  shift
  names+=("$name")
  logs+=("$root/$folder.log")
  # a process group of its own, so that Ctrl-C ends pip and whatever pip started
  set -m
  install_into "$@" >"$folder.log" 2>&1 9<&- </dev/null &
  set +m
  jobs_running+=("$!")
}

# wait_for_installs: a line every few seconds until all are done; fails with the log's end
wait_for_installs() {
  local began=$SECONDS told=$SECONDS index alive step
  while :; do
    alive=0
    for index in "${!jobs_running[@]}"; do
      kill -0 "${jobs_running[$index]}" 2>/dev/null || continue
      alive=1
      if ((SECONDS - told >= 10)); then
        step=$(grep -E '^(Collecting|Downloading|Building|Installing|  Downloading)' \
          "${logs[$index]}" 2>/dev/null | tail -n 1 | sed 's/^ *//' | cut -c 1-80) || true
        echo "  ${names[$index]}: $((SECONDS - began)) s ${step:+· $step}"
      fi
    done
    ((alive)) || break
    ((SECONDS - told >= 10)) && told=$SECONDS
    sleep 1
  done
  local failed=0
  for index in "${!jobs_running[@]}"; do
    if ! wait "${jobs_running[$index]}"; then
      failed=1
      echo "Installing ${names[$index]} failed; the end of ${logs[$index]}:" >&2
      tail -n 20 "${logs[$index]}" >&2
    fi
  done
  jobs_running=()
  return "$failed"
}

# two installs in one checkout take turns
exec 9<pyproject.toml
if command -v flock >/dev/null; then
  flock --nonblock 9 || { echo "Waiting for another install in this folder …"; flock 9; }
fi

names=() logs=()
ours=$(fingerprint pyproject.toml constraints.txt)
theirs=$(fingerprint constraints-label-studio.txt)
if ! is_current .venv "$ours"; then
  python=$(find_python)
  start_install Brushloop .venv "$ours$extra" --constraint constraints.txt --editable ".$extra"
fi
if ! is_current .venv-label-studio "$theirs" || ! [ -f .venv-label-studio/empty.sqlite3 ]; then
  python=${python:-$(find_python)}
  start_install "Label Studio" .venv-label-studio "$theirs[dev]" \
    --requirement constraints-label-studio.txt
fi
if ((${#jobs_running[@]})); then
  echo "Installing $(IFS=,; echo "${names[*]}" | sed 's/,/ and /') with $("$python" --version)." \
    "The first time this takes some minutes."
  wait_for_installs
  echo "Installed."
fi
