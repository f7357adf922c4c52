"""Free TCP ports that stay the same from one start to the next."""

import socket
from pathlib import Path

from ml_backend.errors import HostError
from ml_backend.host.files import read_json, write_json


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Tell whether a server could listen on `host:port` now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        # as servers do: connections of the last start in TIME_WAIT do not block the port
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def free_port(remembered: int | None = None, host: str = "127.0.0.1") -> int:
    """Return `remembered` if it is free, else some free port of 1024..65535."""
    if remembered and is_free(remembered, host):
        return remembered
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Ports:
    """The ports of one home folder by name, remembered in `home/run/ports.json`."""

    def __init__(self, home: Path, host: str = "127.0.0.1") -> None:
        self._path = home / "run" / "ports.json"
        self._host = host
        self._chosen: dict[str, int] = {}

    def choose(self, name: str, preferred: int | None = None) -> int:
        """Pick the port remembered for `name`, else `preferred`, else any; remember the choice.

        No two names of one start get the same port.
        """
        remembered = read_json(self._path) or {}
        wishes = (remembered.get(name), preferred)
        taken = set(self._chosen.values())
        for wish in wishes:
            if (
                isinstance(wish, int)
                and wish > 0
                and wish not in taken
                and is_free(wish, self._host)
            ):
                return self._keep(name, wish)
        # ports remembered by others are left to them although nobody listens there yet
        taken |= {port for port in remembered.values() if isinstance(port, int)}
        port = free_port(host=self._host)
        while port in taken:
            port = free_port(host=self._host)
        return self._keep(name, port)

    def demand(self, name: str, port: int) -> int:
        """Take exactly `port`, as the user asked. Raises `HostError` when it is in use."""
        if port in self._chosen.values() or not is_free(port, self._host):
            raise HostError(
                f"port {port} for {name} is in use; choose another, or leave it out for a free one"
            )
        return self._keep(name, port)

    def _keep(self, name: str, port: int) -> int:
        self._chosen[name] = port
        write_json(self._path, {**(read_json(self._path) or {}), **self._chosen})
        return port
