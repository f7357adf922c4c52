"""Label Studio behind TLS with a certificate of one's own, on this machine."""

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import trustme

from ml_backend.errors import ConfigError, ImageUnreadable, StudioRefused
from ml_backend.studio.client import Studio

LEGACY = "f00dfeed" * 5


class Handler(BaseHTTPRequestHandler):
    """Says who the user is, and gives the beginning of any file."""

    def do_GET(self) -> None:
        """Answer."""
        body = b'{"id": 1, "email": "a@b.co"}'
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Stay silent."""


class Silent(ThreadingHTTPServer):
    """A server to which a broken handshake is no event."""

    def handle_error(self, *_: object) -> None:
        """Stay silent."""


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    """An authority that nobody knows."""
    return trustme.CA()


@pytest.fixture(scope="module")
def pem(authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The authority's certificate as a file."""
    path = tmp_path_factory.mktemp("certificates") / "authority.pem"
    authority.cert_pem.write_to_path(str(path))
    return path


@pytest.fixture(scope="module")
def server(authority: trustme.CA) -> Iterator[str]:
    """The address of a server that shows a certificate for `localhost` alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    http = Silent(("127.0.0.1", 0), Handler)
    http.daemon_threads = True
    http.socket = context.wrap_socket(http.socket, server_side=True)
    thread = threading.Thread(target=http.serve_forever, args=(0.02,))
    thread.start()
    yield f"https://localhost:{http.server_port}"
    http.shutdown()
    thread.join()
    http.server_close()


def test_an_unknown_authority_is_refused_with_the_way_out(server: str) -> None:
    """It is no failure that passes, and the message says what to set."""
    with pytest.raises(StudioRefused, match="certificate is not trusted") as caught:
        Studio(server, LEGACY).whoami()
    assert "BRUSHLOOP_LABEL_STUDIO_CA" in str(caught.value)
    assert server in str(caught.value)


def test_the_setting_makes_an_authority_trusted(server: str, pem: Path) -> None:
    """With its certificate the same address works, on this machine as anywhere."""
    assert Studio(server, LEGACY, ca=pem).whoami().email == "a@b.co"


def test_the_environment_does_as_well(
    server: str, pem: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE holds for loopback addresses too."""
    monkeypatch.setenv("SSL_CERT_FILE", str(pem))
    assert Studio(server, LEGACY).whoami().email == "a@b.co"


def test_a_certificate_of_another_name_is_refused(server: str, pem: Path) -> None:
    """The authority is known, the name is not: the message says both."""
    with pytest.raises(StudioRefused, match=r"not valid for .127\.0\.0\.1.") as caught:
        Studio(server.replace("localhost", "127.0.0.1"), LEGACY, ca=pem).whoami()
    assert "host name" in str(caught.value)


def test_an_image_on_such_a_server_costs_itself_only(server: str) -> None:
    """Another server's certificate is the image's trouble, not Label Studio's."""
    client = Studio("http://studio.test", LEGACY)
    with pytest.raises(ImageUnreadable, match="certificate verify failed"):
        client.download(f"{server}/a.png", limit=100)


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_a_file_that_holds_no_certificate_is_named(tmp_path: Path, content: str | None) -> None:
    """A setting that cannot be used says which, before anything is asked."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match="BRUSHLOOP_LABEL_STUDIO_CA") as caught:
        Studio("https://studio.test", LEGACY, ca=path)
    assert str(path) in str(caught.value)
    assert "SSL_CERT_FILE" not in str(caught.value)


def test_a_file_of_the_environment_that_is_gone_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSL_CERT_FILE that points nowhere is said in a sentence."""
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    with pytest.raises(ConfigError, match="SSL_CERT_FILE"):
        Studio("https://studio.test", LEGACY)
