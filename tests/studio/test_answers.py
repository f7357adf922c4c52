"""Every way in which Label Studio can say no, and that no token ever leaks."""

import base64
import json
import socket
from collections.abc import Callable

import httpx
import pytest

from ml_backend.errors import (
    ConfigError,
    StudioError,
    StudioMissing,
    StudioRefused,
    StudioUnreachable,
)
from ml_backend.studio.client import Studio

LEGACY = "f00dfeed" * 5
PERSONAL = "eyJhbGciOiJIUzI1NiJ9.eyJ0b2tlbl90eXBlIjoicmVmcmVzaCJ9.s3cr3tsignature"


def studio(answer: Callable[[httpx.Request], httpx.Response], key: str = LEGACY) -> Studio:
    """A client whose Label Studio is the function `answer`."""
    return Studio("http://studio.test", key, transport=httpx.MockTransport(answer))


def answers(status: int, **content: object) -> Callable[[httpx.Request], httpx.Response]:
    """The same answer to every request."""
    return lambda _: httpx.Response(status, **content)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "error", "hint"),
    [
        (301, StudioRefused, "https://elsewhere.test"),
        (400, StudioRefused, "title: too short"),
        (401, StudioRefused, "BRUSHLOOP_LABEL_STUDIO_API_KEY"),
        (403, StudioRefused, "permission"),
        (404, StudioMissing, "does not exist"),
        (422, StudioRefused, "too short"),
        (429, StudioUnreachable, "429"),
        (500, StudioUnreachable, "500"),
        (502, StudioUnreachable, "502"),
    ],
)
def test_a_status_becomes_our_error(status: int, error: type[StudioError], hint: str) -> None:
    """The message names the call, the status, what was said and the way out."""
    body = {"detail": "Validation error", "validation_errors": {"title": ["too short"]}}
    location = {"location": "https://elsewhere.test/api/projects/7"}
    with pytest.raises(error) as caught:
        studio(answers(status, json=body, headers=location)).get_project(7)
    assert type(caught.value) is error
    assert "GET http://studio.test/api/projects/7" in str(caught.value)
    assert str(status) in str(caught.value)
    assert hint in str(caught.value)


@pytest.mark.parametrize(
    "connect",
    [
        lambda studio: studio.connect_backend(1, "http://127.0.0.1:1", "loop", "me", "pass-word"),
        lambda studio: studio.connect_webhook(1, "http://127.0.0.1:1", "X-Secret", "pass-word"),
    ],
    ids=["backend", "webhook"],
)
def test_a_blocked_address_names_both_settings(connect: Callable[[Studio], int]) -> None:
    """Label Studio's address protection is explained with the two variables that lift it."""

    def refuse(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return httpx.Response(200, json=[])
        detail = "URL resolves to a reserved network address (block: 127.0.0.0/8)"
        return httpx.Response(403, json={"status_code": 403, "detail": detail})

    with pytest.raises(StudioRefused, match="ML_BLOCK_LOCAL_IP=false") as caught:
        connect(studio(refuse))
    assert "SSRF_PROTECTION_ENABLED=false" in str(caught.value)
    assert "pass-word" not in str(caught.value)


@pytest.mark.parametrize("status", [200, 404])
def test_a_page_instead_of_json_is_refused(status: int) -> None:
    """An address that serves web pages is not taken for Label Studio's API."""
    page = answers(status, html="<html><title>Welcome</title></html>")
    with pytest.raises(StudioRefused, match=r"text/html, not JSON|page of HTML"):
        studio(page).whoami()


HTTPX_ERRORS = sorted(
    (
        kind
        for kind in vars(httpx).values()
        if isinstance(kind, type)
        and issubclass(kind, Exception)
        # Raised by raise_for_status, which we do not call.
        and kind is not httpx.HTTPStatusError
    ),
    key=lambda kind: kind.__name__,
)


@pytest.mark.parametrize("kind", HTTPX_ERRORS)
def test_every_exception_of_httpx_is_translated(kind: type[Exception]) -> None:
    """Whatever the layer below raises leaves this room as a StudioError."""
    assert len(HTTPX_ERRORS) > 20

    def fail(_: httpx.Request) -> httpx.Response:
        try:
            raise kind("broken")
        except TypeError:
            raise kind() from None

    with pytest.raises(StudioError, match=r"GET http://studio\.test/api/projects/1"):
        studio(fail).get_project(1)


def test_a_closed_port_is_unreachable() -> None:
    """Nobody listening is said at once and in our words."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(StudioUnreachable, match="is Label Studio running there"):
        Studio(f"http://127.0.0.1:{port}", LEGACY).whoami()


@pytest.mark.parametrize("key", [LEGACY, PERSONAL])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 500])
def test_no_token_in_messages(key: str, status: int) -> None:
    """Neither the error nor its causes nor the client's repr holds the token."""
    client = studio(answers(status, json={"detail": "no"}), key)
    with pytest.raises(StudioError) as caught:
        client.whoami()
    told, error = repr(client), caught.value
    while error is not None:
        told += f"{error!r} {error}"
        error = error.__cause__ or error.__context__
    assert key not in told
    assert "Bearer" not in told


@pytest.mark.parametrize("key", ["", "  ", "two words", "line\nbreak", "schlüssel"])
def test_a_token_that_cannot_be_one(key: str) -> None:
    """A broken paste is refused before it is sent, without repeating it."""
    with pytest.raises(ConfigError) as caught:
        Studio("http://studio.test", key)
    assert not key.strip() or key not in str(caught.value)


@pytest.mark.parametrize("url", ["studio.test", "ftp://studio.test", "http://", "http://[::"])
def test_an_address_that_cannot_be_one(url: str) -> None:
    """An address without scheme or host is refused when the client is made."""
    with pytest.raises(ConfigError, match="address of Label Studio"):
        Studio(url, LEGACY)


def test_a_password_in_the_address_is_refused() -> None:
    """It would end up in messages, and the token needs the same header."""
    with pytest.raises(ConfigError) as caught:
        Studio("http://me:pass-word@studio.test", LEGACY)
    assert "pass-word" not in str(caught.value)


class Exchange:
    """A Label Studio that hands out access tokens living `seconds` and takes only the last."""

    def __init__(self, expires: float) -> None:
        self.expires = expires
        self.handed_out = 0
        self.valid = True

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer a request."""
        if request.url.path == "/base/api/token/refresh/":
            assert json.loads(request.content) == {"refresh": PERSONAL}
            assert "authorization" not in request.headers
            self.handed_out += 1
            return httpx.Response(200, json={"access": self.access()})
        if self.valid and request.headers["authorization"] == f"Bearer {self.access()}":
            return httpx.Response(200, json={"id": 1, "email": "a@b.co"})
        self.valid = True
        return httpx.Response(401, json={"detail": "expired"})

    def access(self) -> str:
        """The access token that is valid now."""
        claims = base64.urlsafe_b64encode(json.dumps({"exp": self.expires}).encode()).decode()
        return f"head.{claims.rstrip('=')}.{self.handed_out}"

    def client(self) -> Studio:
        """A client of this server, below a path."""
        return Studio("http://studio.test/base/", PERSONAL, httpx.MockTransport(self))


def test_a_personal_token_is_exchanged_once() -> None:
    """One access token serves many requests while it lives."""
    server = Exchange(expires=4e9)
    client = server.client()
    assert client.token_kind == "personal"
    assert [client.whoami().email for _ in range(3)] == ["a@b.co"] * 3
    assert server.handed_out == 1


def test_an_expiring_access_token_is_renewed_before() -> None:
    """An access token at its end is not even tried."""
    server = Exchange(expires=0)
    client = server.client()
    client.whoami()
    client.whoami()
    assert server.handed_out == 2


def test_a_refused_access_token_is_renewed_once() -> None:
    """A token revoked early costs one more request, not an error."""
    server = Exchange(expires=4e9)
    client = server.client()
    client.whoami()
    server.valid = False
    assert client.whoami().id == 1
    assert server.handed_out == 2


@pytest.mark.parametrize("answer", [{}, [], {"access": None}])
def test_an_exchange_without_a_token_is_refused(answer: object) -> None:
    """An exchange that answers something else is named, not stumbled over."""
    with pytest.raises(StudioRefused, match="no access token"):
        studio(answers(200, json=answer), PERSONAL).whoami()
