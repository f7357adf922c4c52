"""HTTP to one Label Studio: time-outs, tokens, and errors of our own."""

import contextlib
import ipaddress
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import httpx
import orjson

from ml_backend.errors import ConfigError
from ml_backend.studio.answers import check, parse, translated
from ml_backend.studio.tokens import TokenAuth

CONNECT_SECONDS = 5.0
READ_SECONDS = 60.0
# Imports and project-wide recounts are slow by nature: 70 tasks/s with heavy masks.
SLOW_SECONDS = 600.0

Files = Sequence[tuple[str, tuple[str, bytes, str]]]


class Transport:
    """Requests to the Label Studio at `url`, authorised by `api_key`."""

    def __init__(
        self, url: str, api_key: str, transport: httpx.BaseTransport | None = None
    ) -> None:
        base = _base_url(url)
        self.url = str(base).rstrip("/")
        self._origin = _origin(base)
        self.auth = TokenAuth(self.url, api_key)
        self._client = httpx.Client(
            auth=self.auth,
            timeout=httpx.Timeout(READ_SECONDS, connect=CONNECT_SECONDS),
            # Label Studio's own server stalls re-used connections by 40 ms (measured: 62 ms
            # against 21); behind TLS the handshake would cost more than that.
            limits=httpx.Limits(max_keepalive_connections=0 if base.scheme == "http" else 8),
            trust_env=not _is_loopback(base.host),
            transport=transport,
        )

    def serves(self, url: httpx.URL) -> bool:
        """Whether `url` is an address of this Label Studio, so that the token may go there."""
        return _origin(url) == self._origin

    def close(self) -> None:
        """Drop the open connections."""
        self._client.close()

    def json(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str | int] | None = None,
        body: Any = None,
        content: bytes | None = None,
        files: Files | None = None,
        seconds: float = READ_SECONDS,
    ) -> Any:
        """One call of the API → its JSON.

        `body` is written by orjson and may hold uint8 arrays; `content` is JSON that has been
        serialised already. Raises `StudioUnreachable` or `StudioRefused`, with method, address
        and status.
        """
        what = f"{method} {self.url}{path}"
        if body is not None:
            content = orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY)
        with translated(what):
            response = self._client.request(
                method,
                f"{self.url}{path}",
                params=params,
                content=content,
                files=files,
                headers={"Content-Type": "application/json"} if content is not None else None,
                timeout=httpx.Timeout(seconds, connect=CONNECT_SECONDS),
            )
        check(response, what)
        return parse(response, what)

    @contextlib.contextmanager
    def stream(self, url: str, headers: Mapping[str, str]) -> Iterator[httpx.Response]:
        """GET `url`, body unread, redirects followed. The token goes only to Label Studio."""
        with translated(f"GET {url}"):
            target = httpx.URL(url)
            with self._client.stream(
                "GET",
                target,
                headers=headers,
                auth=self.auth if self.serves(target) else None,
                follow_redirects=True,
            ) as response:
                yield response


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


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
