"""A Label Studio of our own: its environment, and the real server's behaviour."""

import http.server
import threading
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from ml_backend.errors import HostError
from ml_backend.host import LabelStudioServer, Processes, free_port, local_secrets


@pytest.fixture
def unstarted(tmp_path: Path) -> LabelStudioServer:
    """A server that was never started, with an executable that does not exist."""
    return LabelStudioServer(
        executable=tmp_path / "bin/label-studio",
        data_dir=tmp_path / "data",
        port=free_port(),
        secrets=local_secrets(tmp_path),
        local_files_root=tmp_path,
    )


def test_a_missing_installation_is_named(unstarted: LabelStudioServer, tmp_path: Path):
    """Without the executable the error says where it was looked for and how to install it."""
    with (
        Processes(tmp_path) as processes,
        pytest.raises(HostError, match=r"bin/label-studio; .*install"),
    ):
        unstarted.start(processes)


def test_both_address_flags_are_set(unstarted: LabelStudioServer):
    """With only one of the two Label Studio saves the backend but not its webhook."""
    environment = unstarted.environment
    assert environment["LABEL_STUDIO_ML_BLOCK_LOCAL_IP"] == "false"
    assert environment["LABEL_STUDIO_SSRF_PROTECTION_ENABLED"] == "false"


def test_the_address_for_people_is_handed_on(unstarted: LabelStudioServer):
    """Behind a proxy Label Studio must know it; without one nothing of the environment gets in."""
    assert unstarted.environment["LABEL_STUDIO_HOST"] == ""
    below = replace(unstarted, browser_url="https://host/ls")
    assert below.environment["LABEL_STUDIO_HOST"] == "https://host/ls"


def test_secrets_stay_out_of_command_and_repr(unstarted: LabelStudioServer):
    """Password and token travel in the environment only and are never printed."""
    unstarted.executable.parent.mkdir()
    unstarted.executable.touch()
    child = unstarted.child()
    for secret in (unstarted.secrets.studio_password, unstarted.secrets.studio_token):
        assert secret not in repr(child)
        assert secret not in repr(unstarted)


def test_no_server_is_unhealthy_and_makes_no_token(unstarted: LabelStudioServer):
    """An address where nobody listens is unhealthy; asking it for a token is a clear error."""
    assert not unstarted.healthy()
    with pytest.raises(HostError, match="no personal token"):
        unstarted.personal_token()


class _Backend(http.server.BaseHTTPRequestHandler):
    """The least that Label Studio accepts as a backend."""

    def _answer(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = b'{"status": "UP", "model_version": "none"}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = _answer  # noqa: N815

    def log_message(self, *_: object):
        """Say nothing."""


@pytest.fixture
def backend_url():
    """A backend on this machine's loopback address."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Backend) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def _client(server: LabelStudioServer) -> httpx.Client:
    headers = {"Authorization": f"Token {server.secrets.studio_token}"}
    return httpx.Client(base_url=server.url, headers=headers, timeout=60, trust_env=False)


def test_a_new_home_begins_with_the_empty_database_and_a_used_one_keeps_its_own(
    unstarted: LabelStudioServer, tmp_path: Path
):
    """What installation prepared is copied once, whole, and never over what people made."""
    unstarted.executable.parent.mkdir()
    unstarted.executable.write_text("#!/bin/sh\nexit 1\n")
    unstarted.executable.chmod(0o700)
    unstarted.empty_database.write_bytes(b"empty")
    for expected in (b"empty", b"used"):
        with Processes(tmp_path) as processes, pytest.raises(HostError):
            unstarted.start(processes)
        assert unstarted.database.read_bytes() == expected
        assert [path.name for path in unstarted.data_dir.iterdir()] == [unstarted.database.name]
        unstarted.database.write_bytes(b"used")


@pytest.mark.studio
def test_the_real_server(
    studio_executable: Path,
    unstarted: LabelStudioServer,
    backend_url: str,
    tmp_path: Path,
):
    """From a new home: both kinds of token work, both flags reach it, a second start finds all."""
    server = replace(unstarted, executable=studio_executable)
    waited: list[float] = []
    with Processes(tmp_path) as processes:
        server.start(processes, progress=waited.append)
        with _client(server) as client:
            project = client.post("/api/projects", json={"title": "kept"}).json()["id"]
            body = {"project": project, "url": backend_url, "title": "here"}
            assert client.post("/api/ml", json=body).status_code == 201
            hooks = client.get("/api/webhooks/", params={"project": project}).json()
            assert [hook["url"].startswith(backend_url) for hook in hooks] == [True]
            token = client.post("/api/token/refresh/", json={"refresh": server.personal_token()})
            bearer = {"Authorization": f"Bearer {token.raise_for_status().json()['access']}"}
            user = client.get("/api/current-user/whoami", headers=bearer).json()
            assert user["email"] == server.secrets.studio_email
    assert waited
    assert not server.healthy()
    with Processes(tmp_path) as processes:
        server.start(processes)
        with _client(server) as client:
            assert client.get(f"/api/projects/{project}").json()["title"] == "kept"
