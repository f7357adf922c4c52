"""HTTP to one Label Studio: time-outs, tokens, and errors of our own."""

import contextlib
import ipaddress
import ssl
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypedDict, Unpack

import httpx
import orjson

from ml_backend.errors import ConfigError
from ml_backend.studio.answers import check, parse, translated
from ml_backend.studio.tokens import TokenAuth
from ml_backend.text import shorten

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
# Imports and project-wide recounts are slow by nature: 70 tasks/s with heavy masks.
SLOW_SECONDS = 600.0

Files = Sequence[tuple[str, tuple[str, bytes, str]]]


class Options(TypedDict, total=False):
    """What a call may carry; `content` is JSON that has been serialised already."""

    params: Mapping[str, str | int]
    body: Any
    content: bytes
    files: Files
    seconds: float


@dataclass(frozen=True)
class Answer:
    """What a call of the API brought: its JSON, and how many bytes that was."""

    data: Any
    size: int


class Transport:
    """Requests to the Label Studio at `url`, authorised by `api_key`.

    `clock` is Label Studio's at its last answer, to the second and never ahead of it; None
    before the first answer, and where the server tells no time. `silent`: other servers, of
    images, that did not answer, and until when they are not asked again (`time.monotonic`).
    `ca`: a PEM file of certificates that are trusted besides the usual ones. `browser_url`: where
    people reach the same server; None where that has not been found out.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        transport: httpx.BaseTransport | None = None,
        ca: Path | None = None,
        browser_url: str | None = None,
    ) -> None:
        base = _base_url(url)
        self.url = str(base).rstrip("/")
        self.browser_url = browser_url and str(_base_url(browser_url)).rstrip("/")
        self._given = [self.browser_url] if self.browser_url else []
        self._origin = _origin(base)
        self.clock: datetime | None = None
        self.silent: dict[str, float] = {}
        self.auth = TokenAuth(self.url, api_key)
        self._client = httpx.Client(
            auth=self.auth,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # Label Studio's own server stalls re-used connections by 40 ms (measured: 62 ms
            # against 21); behind TLS the handshake would cost more than that.
            limits=httpx.Limits(max_keepalive_connections=0 if base.scheme == "http" else 8),
            verify=_trusted(ca),
            trust_env=not _is_loopback(base.host),
            transport=transport,
        )

    def serves(self, url: httpx.URL) -> bool:
        """Whether `url` is an address of this Label Studio, so that the token may go there."""
        return _origin(url) == self._origin

    def close(self) -> None:
        """Drop the open connections."""
        self._client.close()

    def json(self, method: str, path: str, **options: Unpack[Options]) -> Any:
        """One call of the API → its JSON; as `call` does it."""
        return self.call(method, path, **options).data

    def call(self, method: str, path: str, **options: Unpack[Options]) -> Answer:
        """One call of the API.

        `body` is written by orjson and may hold uint8 arrays; `content` is JSON that has been
        serialised already. Raises `StudioUnreachable` or `StudioRefused`, with method, address
        and status.
        """
        what = f"{method} {self.url}{path}"
        content, body = options.get("content"), options.get("body")
        seconds = options.get("seconds", READ_SECONDS)
        if body is not None:
            content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        with translated(what):
            response = self._client.request(
                method,
                f"{self.url}{path}",
                params=options.get("params"),
                content=content,
                files=options.get("files"),
                headers={"Content-Type": "application/json"} if content is not None else None,
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            )
        self.clock = _date(response) or self.clock
        check(response, what)
        return Answer(parse(response, what), len(response.content))

    def page(self, path: str) -> str:
        """One page for people, as somebody without a token sees it, redirects not followed."""
        what = f"GET {self.url}{path}"
        with translated(what):
            response = self._client.get(f"{self.url}{path}", auth=None)
        check(response, what)
        return response.text

    def look(self, url: str) -> httpx.Response:
        """GET what a browser shows, with the token where that is ours or was given to us."""
        trusted = [self.url, *self._given]
        known = any(url.startswith(f"{one}/") for one in trusted)
        with translated(f"GET {url}"):
            return self._client.get(url, auth=self.auth if known else None, follow_redirects=True)

    @contextlib.contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """GET `url`, body unread, redirects followed. The token goes only to Label Studio."""
        with translated(f"GET {shorten(url)}"):
            target = httpx.URL(url)
            with self._client.stream(
                "GET",
                target,
                headers=headers,
                auth=self.auth if self.serves(target) else None,
                follow_redirects=True,
            ) as response:
                yield response


def _date(response: httpx.Response) -> datetime | None:
    try:
        return parsedate_to_datetime(response.headers.get("date", ""))
    except ValueError:
        return None


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or {"http": 80, "https": 443}.get(url.scheme, 0)


def _base_url(url: str) -> httpx.URL:
    try:
        base = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise ConfigError(f"the address of Label Studio cannot be used: {error}") from None
    if base.scheme not in {"http", "https"} or not base.host:
        raise ConfigError(f"the address of Label Studio must begin with http(s)://, not {url!r}")
    if base.userinfo:
        raise ConfigError("the address of Label Studio must not hold a user name or password")
    return base.copy_with(query=None, fragment=None)


def _trusted(ca: Path | None) -> ssl.SSLContext:
    """Trust whom httpx trusts, with SSL_CERT_FILE for a server on this machine as well, and `ca`.

    A proxy of the environment is another thing: it is not for this machine's own addresses.
    """
    try:
        context = httpx.create_ssl_context(trust_env=True)
    except OSError as error:
        raise ConfigError(
            f"SSL_CERT_FILE or SSL_CERT_DIR cannot be used ({error}): name a PEM file, or unset it"
        ) from None
    if ca is not None:
        try:
            context.load_verify_locations(cafile=ca)
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"BRUSHLOOP_LABEL_STUDIO_CA: {ca} cannot be used as a PEM file of certificates: "
                f"{error}"
            ) from None
    return context


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
