"""A real Label Studio for tests: own data folder, free port, gone without a trace after."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

_REPOSITORY = Path(__file__).parents[2]
# A busy machine has taken 220 s over the first migration of the database.
_START_SECONDS = 540
_STOP_SECONDS = 10


@dataclass(frozen=True)
class LabelStudio:
    """A running server. `token` is a legacy token, `personal_token` a refresh JWT."""

    url: str
    token: str
    personal_token: str
    email: str
    password: str
    files: Path
    log: Path


def find_label_studio(given: str | None) -> Path | None:
    """The executable: as given, else the one in the repository's own environment."""
    path = Path(given) if given else _REPOSITORY / ".venv-label-studio/bin/label-studio"
    return path.absolute() if path.is_file() else None


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def run_label_studio(executable: Path, folder: Path, host: str = "") -> Iterator[LabelStudio]:
    """Start Label Studio in `folder`; stop its process group.

    Over a copy of the empty database beside the installation, where there is one: making it is
    most of a first start. `host`: the address at which browsers reach it, if that is another.
    """
    email, password, token = "tester@example.com", "correct-horse-battery", "0123456789" * 4
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    log = folder / "label-studio.log"
    files = folder / "files"
    files.mkdir()
    (folder / "data").mkdir()
    empty = executable.parent.parent / "empty.sqlite3"
    if empty.is_file():
        shutil.copy(empty, folder / "data/label_studio.sqlite3")
    environment = {
        "PATH": os.defpath,
        "HOME": str(folder),
        "LANG": "C.UTF-8",
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_USERNAME": email,
        "LABEL_STUDIO_PASSWORD": password,
        "LABEL_STUDIO_USER_TOKEN": token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_HOST": host,
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        "LATEST_VERSION_CHECK": "0",
        "COLLECT_ANALYTICS": "0",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
        "ML_BLOCK_LOCAL_IP": "false",
        "SSRF_PROTECTION_ENABLED": "false",
    }
    command = [executable, "start", "--no-browser", "--port", str(port)]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--internal-host", "127.0.0.1"],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        _wait_healthy(process, url, log)
        personal = _personal_token(url, token)
        yield LabelStudio(url, token, personal, email, password, files, log)
    finally:
        _stop_group(process)


def _wait_healthy(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(httpx.HTTPError):
            if httpx.get(f"{url}/health", trust_env=False).is_success:
                return
        time.sleep(0.3)
    tail = log.read_text(errors="replace")[-3000:]
    raise RuntimeError(f"Label Studio did not come up (exit code {process.poll()}):\n{tail}")


def _personal_token(url: str, token: str) -> str:
    headers = {"Authorization": f"Token {token}"}
    answer = httpx.post(f"{url}/api/token/", headers=headers, timeout=30, trust_env=False)
    personal: str = answer.raise_for_status().json()["token"]
    return personal


def _stop_group(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        deadline = time.monotonic() + _STOP_SECONDS
        while time.monotonic() < deadline:
            process.poll()
            if not _group_lives(process.pid):
                process.wait()
                return
            time.sleep(0.05)


def _group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
