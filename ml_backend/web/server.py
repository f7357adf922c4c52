"""The backend as a process: uvicorn with limits."""

import contextlib
import socket

import uvicorn

from ml_backend.errors import ConfigError, HostError
from ml_backend.settings import Settings, start_logging
from ml_backend.web.app import create_app

CONNECTIONS = 256  # beyond that uvicorn answers 503 instead of falling over


def serve(settings: Settings) -> None:
    """Serve until TERM or Ctrl-C; running requests get ten seconds to end.

    Raises `ConfigError` without a fixed port or without secrets, `HostError` where the
    address cannot be listened on.
    """
    if settings.port == 0:
        raise ConfigError(
            "BRUSHLOOP_PORT is 0, but Label Studio must know the port: choose one from 1 to 65535"
        )
    start_logging(settings)
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=CONNECTIONS,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=10,
    )
    with _listen(settings.host, settings.port) as listener, contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=CONNECTIONS)
    except OSError as error:
        raise HostError(
            f"cannot listen on {host}:{port}: {error.strerror or error}; "
            "choose another BRUSHLOOP_PORT or BRUSHLOOP_HOST"
        ) from None
