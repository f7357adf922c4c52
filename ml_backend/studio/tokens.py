"""Label Studio's two kinds of token behind one `httpx.Auth`.

A legacy token (40 hex characters) is sent as it is. A personal access token is a JWT
*refresh* token: `/api/token/refresh/` exchanges it for an access token that lives for
300 s. label_studio_sdk does the same, but importing it takes over a second and its
exchange has no time-out of its own, so it is made here.
"""

import base64
import json
import re
import threading
import time
from collections.abc import Callable, Generator
from typing import Literal

import httpx

from ml_backend.errors import ConfigError, StudioRefused
from ml_backend.studio.answers import check, parse

TokenKind = Literal["personal", "legacy"]

_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_SPARE_SECONDS = 30


class TokenAuth(httpx.Auth):
    """Adds the `Authorization` header; renews an access token before and after it expires.

    Raises `ConfigError`, without the value, for a token that cannot stand in a header.
    """

    def __init__(self, base_url: str, api_key: str, clock: Callable[[], float] = time.time) -> None:
        key = api_key.strip()
        if not re.fullmatch(r"[!-~]+", key):
            raise ConfigError(
                "the Label Studio token is empty or has characters no token has: copy it again "
                "from Label Studio (Account & Settings) into BRUSHLOOP_LABEL_STUDIO_API_KEY"
            )
        self.kind: TokenKind = "personal" if _JWT.fullmatch(key) else "legacy"
        self._refresh_url = f"{base_url}/api/token/refresh/"
        self._key = key
        self._clock = clock
        self._access = ""
        self._expires = 0.0
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"TokenAuth({self.kind})"

    def sync_auth_flow(
        self, request: httpx.Request
    ) -> Generator[httpx.Request, httpx.Response, None]:
        """Authorise one request; an access token that is refused is renewed once."""
        if self.kind == "legacy":
            request.headers["Authorization"] = f"Token {self._key}"
            yield request
            return
        access = self._fresh() or (yield from self._exchange(request))
        request.headers["Authorization"] = f"Bearer {access}"
        response = yield request
        if response.status_code == httpx.codes.UNAUTHORIZED:
            access = yield from self._exchange(request)
            request.headers["Authorization"] = f"Bearer {access}"
            yield request

    def _fresh(self) -> str:
        with self._lock:
            return self._access if self._clock() < self._expires - _SPARE_SECONDS else ""

    def _exchange(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, str]:
        what = f"POST {self._refresh_url}"
        response = yield httpx.Request(
            "POST",
            self._refresh_url,
            json={"refresh": self._key},
            extensions={"timeout": request.extensions["timeout"]},
        )
        response.read()
        check(response, what)
        answer = parse(response, what)
        if not isinstance(answer, dict) or not isinstance(answer.get("access"), str):
            raise StudioRefused(f"{what}: the answer holds no access token")
        access: str = answer["access"]
        with self._lock:
            self._access, self._expires = access, _expiry(access)
        return access


def _expiry(token: str) -> float:
    """When a JWT expires, seconds since the epoch; 0 where it does not say."""
    payload = [*token.split("."), ""][1]
    try:
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        return float(claims["exp"])
    except (ValueError, KeyError, TypeError):
        return 0.0
