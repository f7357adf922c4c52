"""Images out of Label Studio, and from wherever else its tasks' addresses lead."""

import base64
import contextlib
import re
import time
from collections.abc import Iterator
from urllib.parse import quote

import httpx

from ml_backend.errors import ImageUnreadable, StudioError
from ml_backend.studio.addresses import check_target, decode_inline, is_inline, server_of
from ml_backend.studio.answers import check
from ml_backend.studio.files import OWN, own_path
from ml_backend.studio.pages import browser_url
from ml_backend.studio.transport import Transport
from ml_backend.text import shorten

_CLOUD = re.compile(r"(s3|gs|azure-blob)://")
_TRIES = 3
_SILENT_SECONDS = 60
# What Label Studio would answer for any other image too: the token, or a server that is away.
_EVERYWHERE = {401, 429, 502, 503, 504}


def download(transport: Transport, url: str, *, limit: int, project_id: int | None = None) -> bytes:
    """The whole file behind an address as tasks have it, at most `limit` bytes.

    `/data/…` is Label Studio's own; a `data:` address is the file itself; `s3://`, `gs://` and
    `azure-blob://` are resolved by the storages of `project_id`; other http addresses are fetched
    without the token. Lengths are checked, and a body that broke off (the storage proxy stops
    after 20 s) is carried on from where it ended. Raises `ImageUnreadable` when the file is
    missing, too large or cannot be had whole, where the address can be none, and where another
    server does not answer, `StudioRefused` for the token, `StudioUnreachable` for Label Studio.
    """
    if is_inline(url):
        return decode_inline(url, limit)
    address = check_target(_address(transport, url, project_id), url)
    server = server_of(url)
    if time.monotonic() < transport.silent.get(server, 0):
        raise ImageUnreadable(f"image {shorten(url)}: its server did not answer a moment ago")
    data = bytearray()
    for _ in range(_TRIES):
        with _blamed(transport, address, url, server):
            total = _append(transport, address, data, url, limit)
        if total is None or len(data) == total:
            return bytes(data)
    raise ImageUnreadable(
        f"image {shorten(url)}: the download broke off at {len(data)} of {total} bytes"
    )


def _address(transport: Transport, url: str, project_id: int | None) -> str:
    scheme, colon, rest = url.partition("://")
    url = scheme.lower() + colon + rest if colon else url
    if _CLOUD.match(url):
        if project_id is None:
            raise ImageUnreadable(
                f"image {shorten(url)}: only the storages of a project can resolve it"
            )
        coded = base64.urlsafe_b64encode(url.encode(errors="replace")).decode()
        return f"{transport.url}/projects/{project_id}/resolve/?fileuri={quote(coded)}"
    if url.startswith("/") and not url.startswith("//"):
        return transport.url + own_path(transport, url)
    if scheme.lower() in {"http", "https"} and colon:
        # its own storages write the browser's address before files that it serves itself
        could_be = OWN.search(url.partition("?")[0])
        if could_be and url.startswith(f"{browser_url(transport)}/"):
            return transport.url + url.removeprefix(browser_url(transport))
        return url
    raise ImageUnreadable(f"image {shorten(url)}: an address that Label Studio does not serve")


@contextlib.contextmanager
def _blamed(transport: Transport, address: httpx.URL, url: str, server: str) -> Iterator[None]:
    """Blame the image, not Label Studio, where it is another server that fails, or the address.

    A server that does not answer is not asked again for a while: thousands of images would each
    wait for it.
    """
    try:
        yield
    except (UnicodeError, OverflowError) as error:  # of names and ports, when they are looked up
        raise ImageUnreadable(
            f"image {shorten(url)}: an address that cannot be used: {shorten(error)}"
        ) from error
    except StudioError as error:
        cause = error.__cause__
        host = address.host
        if isinstance(cause, httpx.TransportError):
            elsewhere = not transport.serves(cause.request.url)
            host = cause.request.url.host
            if elsewhere and not isinstance(cause, httpx.UnsupportedProtocol):
                transport.silent[server] = time.monotonic() + _SILENT_SECONDS
        else:
            is_address = isinstance(cause, httpx.InvalidURL | httpx.TooManyRedirects)
            elsewhere = is_address or not transport.serves(address)
        if not elsewhere:
            raise
        reason = str(cause or error) or type(cause).__name__
        raise ImageUnreadable(
            f"image {shorten(url)}: {shorten(host)} does not answer: {shorten(reason)}"
        ) from cause


def _append(
    transport: Transport, address: httpx.URL, data: bytearray, url: str, limit: int
) -> int | None:
    """Fetch what `data` still lacks → the file's length, None where the server hides it."""
    # Label Studio sends no Content-Length with uploads, but answers ranges with the length.
    headers = {"Range": f"bytes={len(data)}-", "Accept-Encoding": "identity"}
    with transport.stream(str(address), headers) as response:
        _check(response, url, is_own=transport.serves(address) and transport.serves(response.url))
        start, total = _extent(response)
        if start != len(data):
            data.clear()
        if start > len(data):
            return total
        if total is not None and total > limit:
            raise ImageUnreadable(
                f"image {shorten(url)}: {total} bytes are more than the limit of {limit}"
            )
        try:
            for chunk in response.iter_bytes():
                data.extend(chunk)
                if len(data) > limit:
                    raise ImageUnreadable(
                        f"image {shorten(url)}: larger than the limit of {limit} bytes"
                    )
        except httpx.RemoteProtocolError:
            # The connection closed early: the caller sees it in the length.
            return total if total is not None else len(data) + 1
    return total


def _check(response: httpx.Response, url: str, *, is_own: bool) -> None:
    """Say whose fault an answer is: the token's and Label Studio's own stop everything."""
    if response.is_success:
        return
    response.read()
    status = response.status_code
    # For a file it no longer has, Label Studio answers 500 instead of 404.
    lost = status == httpx.codes.INTERNAL_SERVER_ERROR and b"NoneType" in response.content
    if lost or status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise ImageUnreadable(f"image {shorten(url)}: not there (any more)")
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise ImageUnreadable(f"image {shorten(url)}: the file is empty")
    if is_own and status in _EVERYWHERE:
        check(response, f"GET {shorten(url)}")
    raise ImageUnreadable(f"image {shorten(url)}: {response.url.host} answered {status}")


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of this body within the file, and the file's length where it is told."""
    matched = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("content-range", ""))
    if matched and response.status_code == httpx.codes.PARTIAL_CONTENT:
        return int(matched[1]), int(matched[2])
    length = response.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None
