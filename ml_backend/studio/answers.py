"""Label Studio's answers and httpx's failures, told in our own errors.

`StudioUnreachable` is worth trying again later; `StudioRefused` is not. Nothing here
looks at a request's headers, so no token reaches a message.
"""

import contextlib
import re
import ssl
from collections.abc import Iterator
from typing import Any

import httpx
import orjson

from ml_backend.errors import StudioMissing, StudioRefused, StudioUnreachable

_DETAIL_LENGTH = 800

RENEW_KEY = (
    "make a new personal access token in Label Studio (Account & Settings) and set "
    "BRUSHLOOP_LABEL_STUDIO_API_KEY; a legacy token must also be allowed under "
    "Organization, API Tokens Settings"
)
ALLOW_ADDRESS = (
    "Label Studio refuses private and loopback addresses: start the Label Studio process "
    "with both ML_BLOCK_LOCAL_IP=false and SSRF_PROTECTION_ENABLED=false, or give the "
    "backend a public address (BRUSHLOOP_BACKEND_URL)"
)
TRUST_CERTIFICATE = (
    "set BRUSHLOOP_LABEL_STUDIO_CA to a PEM file that holds the certificate of the authority that "
    "signed it, or the certificate itself where it is self-signed (SSL_CERT_FILE does as well), "
    "and use the host name that the certificate was made for"
)


@contextlib.contextmanager
def translated(what: str) -> Iterator[None]:
    """Turn whatever httpx raises into a `StudioError` that names `what`."""
    try:
        yield
    except httpx.TimeoutException as error:
        raise StudioUnreachable(
            f"{what}: no answer in time ({type(error).__name__}); is Label Studio busy?"
        ) from error
    except (httpx.InvalidURL, httpx.UnsupportedProtocol) as error:
        raise StudioRefused(f"{what}: the address cannot be used: {error}") from error
    except httpx.TooManyRedirects as error:
        raise StudioRefused(f"{what}: redirected without end; check the address") from error
    except (httpx.HTTPError, httpx.StreamError) as error:
        if (reason := certificate_fault(error)) is not None:
            raise StudioRefused(f"{what}: {reason}; {TRUST_CERTIFICATE}") from error
        raise StudioUnreachable(
            f"{what}: {error or type(error).__name__}; is Label Studio running there?"
        ) from error
    except httpx.CookieConflict as error:
        raise StudioRefused(f"{what}: {error}") from error


def certificate_fault(error: BaseException) -> str | None:
    """Say what is wrong with a server's certificate, if that is why a request failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"the certificate is not trusted: {cause.verify_message}"
        cause = cause.__cause__ or cause.__context__
    return None


def check(response: httpx.Response, what: str) -> None:
    """Raise for every answer but 2xx. The body must have been read."""
    status = response.status_code
    if response.is_success:
        return
    detail = _detail(response)
    said = f"{what}: Label Studio answered {status}" + (f": {detail}" if detail else "")
    if response.is_redirect:
        raise StudioRefused(f"{said}; use the address it points to: {_target(response)}")
    if status >= httpx.codes.INTERNAL_SERVER_ERROR or status == httpx.codes.TOO_MANY_REQUESTS:
        raise StudioUnreachable(said)
    if status == httpx.codes.UNAUTHORIZED:
        raise StudioRefused(f"{said}; {RENEW_KEY}")
    if status == httpx.codes.FORBIDDEN and "network address" in detail:
        raise StudioRefused(f"{said}; {ALLOW_ADDRESS}")
    if status == httpx.codes.FORBIDDEN:
        raise StudioRefused(f"{said}; the token's user lacks the permission")
    if status == httpx.codes.NOT_FOUND:
        raise StudioMissing(f"{said}; it does not exist or the token's user may not see it")
    raise StudioRefused(said)


def parse(response: httpx.Response, what: str) -> Any:
    """The JSON of a checked answer, None for an empty one."""
    if not response.content:
        return None
    try:
        return orjson.loads(response.content)
    except orjson.JSONDecodeError:
        kind = response.headers.get("content-type", "something unnamed").split(";")[0]
        raise StudioRefused(
            f"{what}: the answer is {kind}, not JSON; is this address really Label Studio's?"
        ) from None


def _detail(response: httpx.Response) -> str:
    """What the error body says, flattened to one line."""
    try:
        body = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        return "a page of HTML" if "html" in response.headers.get("content-type", "") else ""
    parts = list(_leaves(body.get("validation_errors"))) if isinstance(body, dict) else []
    if isinstance(body, dict) and not parts:
        parts = list(_leaves(body.get("detail")))
    text = re.sub(r"<[^>]*>", "", " ".join(parts))
    return " ".join(text.split())[:_DETAIL_LENGTH]


def _leaves(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, "" if key == "non_field_errors" else f"{key}: ")
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner, path)
    elif value is not None:
        yield f"{path}{value}"


def _target(response: httpx.Response) -> str:
    target = response.url.join(response.headers.get("location", ""))
    return f"{target.scheme}://{target.netloc.decode('ascii')}"
