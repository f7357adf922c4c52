"""Who may call: basic authentication, and a secret header for events.

Label Studio sends basic authentication with everything except webhook events, which can
only carry fixed headers (docs/label-studio.md).
"""

import base64
import binascii
from collections.abc import Mapping
from dataclasses import dataclass, field
from secrets import compare_digest

from ml_backend.errors import ConfigError
from ml_backend.loop.connect import SECRET_HEADER
from ml_backend.settings import Settings

CHALLENGE = {"WWW-Authenticate": 'Basic realm="Brushloop", charset="UTF-8"'}


@dataclass(frozen=True)
class Gate:
    """The secrets of one backend; every comparison takes the same time."""

    user: bytes
    password: bytes = field(repr=False)
    secret: bytes = field(repr=False)

    @classmethod
    def from_settings(cls, settings: Settings) -> "Gate":
        """Raise `ConfigError` where a secret is missing: the backend is never open to all."""
        given = {
            "BRUSHLOOP_PASSWORD": settings.password,
            "BRUSHLOOP_WEBHOOK_SECRET": settings.webhook_secret,
        }
        values = {name: one.get_secret_value() if one else "" for name, one in given.items()}
        missing = [name for name, value in values.items() if not value]
        if missing:
            raise ConfigError(
                f"the backend refuses to serve without {' and '.join(missing)}: set each to a "
                "long random text (`python -c 'import secrets; print(secrets.token_urlsafe())'`), "
                "or start everything with `brushloop up`, which makes its own"
            )
        return cls(settings.user.encode(), *(value.encode() for value in values.values()))

    def basic(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the right user and password."""
        scheme, _, encoded = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "basic":
            return False
        try:
            user, _, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        except (binascii.Error, ValueError):
            return False
        known = compare_digest(user, self.user)
        return compare_digest(password, self.password) and known

    def event(self, headers: Mapping[str, str]) -> bool:
        """Whether the request carries the right secret header."""
        return compare_digest(headers.get(SECRET_HEADER, "").encode("latin-1"), self.secret)
