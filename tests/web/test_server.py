"""The backend as a process."""

import os
import signal
import socket
import threading
import time

import httpx
import pytest

from ml_backend.errors import ConfigError, HostError
from ml_backend.settings import Settings
from ml_backend.web import server
from ml_backend.web.app import create_app


def test_a_port_is_needed(settings):
    """Port 0 is refused with the way out: Label Studio could not be told where we are."""
    with pytest.raises(ConfigError, match=r"BRUSHLOOP_PORT.*1 to 65535"):
        server.serve(Settings(**(settings.model_dump() | {"port": 0})))


def test_a_taken_port_is_said(settings, jobs, service, monkeypatch):
    """A port that is in use is named, without a traceback of uvicorn."""
    monkeypatch.setattr(
        server, "create_app", lambda given: create_app(given, jobs=jobs, service=service)
    )
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostError, match=rf"127\.0\.0\.1:{port}.*BRUSHLOOP_PORT"):
            server.serve(Settings(**(settings.model_dump() | {"port": port})))


def test_it_serves_until_interrupted(settings, jobs, service, monkeypatch):
    """A served backend answers over a socket, and Ctrl-C ends it."""
    monkeypatch.setattr(
        server, "create_app", lambda given: create_app(given, jobs=jobs, service=service)
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    seen = []

    def call():
        for _ in range(100):
            try:
                seen.append(httpx.get(f"http://127.0.0.1:{port}/health", timeout=1))
                break
            except httpx.TransportError:
                time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGINT)

    caller = threading.Thread(target=call)
    caller.start()
    server.serve(Settings(**(settings.model_dump() | {"port": port})))
    caller.join(10)
    assert seen[0].json() == {"status": "UP"}
    assert "server" not in seen[0].headers
