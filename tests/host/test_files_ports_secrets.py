"""Secrets, ports and small private files of the home folder."""

import socket
import stat
from pathlib import Path

import pytest

from ml_backend.errors import HostError
from ml_backend.host import Ports, free_port, local_secrets
from ml_backend.host.files import read_json, write_json
from ml_backend.host.ports import is_free


@pytest.fixture
def listener():
    """A socket that listens on some port of this machine."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


def test_secrets_are_made_once_and_private(tmp_path: Path):
    """A second start reads the first one's secrets; only the owner may read the file."""
    first = local_secrets(tmp_path / "home")
    assert local_secrets(tmp_path / "home") == first
    assert stat.S_IMODE((tmp_path / "home/secrets.json").stat().st_mode) == 0o600
    assert len(bytes.fromhex(first.studio_token)) == 20
    assert local_secrets(tmp_path / "other") != first


def test_secrets_do_not_show_in_repr(tmp_path: Path):
    """Whoever logs the object reveals no password, secret or token."""
    made = local_secrets(tmp_path)
    hidden = (made.password, made.webhook_secret, made.studio_password, made.studio_token)
    assert not any(secret in repr(made) for secret in hidden)


def test_open_permissions_are_closed_again(tmp_path: Path):
    """A file that was copied with wide permissions is made private at the next start."""
    local_secrets(tmp_path)
    (tmp_path / "secrets.json").chmod(0o644)
    local_secrets(tmp_path)
    assert stat.S_IMODE((tmp_path / "secrets.json").stat().st_mode) == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"user": "a"}', "\udcff"])
def test_damaged_secrets_are_refused_and_kept(tmp_path: Path, text: str):
    """Label Studio knows the old secrets: a damaged file is an error, never replaced."""
    path = tmp_path / "secrets.json"
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(HostError, match=r"secrets\.json"):
        local_secrets(tmp_path)
    assert path.read_bytes() == text.encode("utf-8", "surrogateescape")


def test_a_failed_write_leaves_the_old_file(tmp_path: Path):
    """What cannot be serialised changes nothing and leaves no temporary file."""
    write_json(tmp_path / "a.json", {"a": 1})
    with pytest.raises(TypeError):
        write_json(tmp_path / "a.json", {"a": object()})
    assert read_json(tmp_path / "a.json") == {"a": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]


def test_unwritable_places_are_host_errors(tmp_path: Path):
    """A file where a folder should be is named in the error."""
    (tmp_path / "file").write_text("")
    with pytest.raises(HostError, match="file"):
        write_json(tmp_path / "file" / "a.json", {})


def test_a_free_remembered_port_is_kept(listener: int):
    """The remembered port is used when free, another one when somebody listens there."""
    port = free_port()
    assert is_free(port)
    assert free_port(port) == port
    assert not is_free(listener)
    assert free_port(listener) != listener


def test_ports_are_stable_across_starts(tmp_path: Path):
    """A second start gets the first one's ports although the order of questions differs."""
    first = Ports(tmp_path)
    chosen = {name: first.choose(name) for name in ("backend", "studio")}
    second = Ports(tmp_path)
    assert second.choose("studio") == chosen["studio"]
    assert second.choose("backend") == chosen["backend"]
    assert len(set(chosen.values())) == 2


def test_a_port_in_use_is_replaced(tmp_path: Path, listener: int):
    """Neither the remembered nor the preferred port is chosen while somebody listens there."""
    write_json(tmp_path / "run/ports.json", {"backend": listener})
    assert Ports(tmp_path).choose("backend", preferred=listener) != listener


def test_the_preferred_port_serves_one_name_only(tmp_path: Path):
    """Two names with the same wish get two ports."""
    ports, wish = Ports(tmp_path), free_port()
    assert ports.choose("a", preferred=wish) == wish
    assert ports.choose("b", preferred=wish) != wish


def test_a_demanded_port_must_be_free(tmp_path: Path, listener: int):
    """The port the user asked for is taken or refused by name, never replaced."""
    port = free_port()
    assert Ports(tmp_path).demand("backend", port) == port
    assert Ports(tmp_path).choose("backend") == port
    with pytest.raises(HostError, match=f"port {listener} for backend is in use"):
        Ports(tmp_path).demand("backend", listener)
