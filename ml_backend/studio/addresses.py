"""Addresses of images as tasks have them: what they mean, and how they are kept and named.

A task's address was written by a person or another program. Whatever is in it, it costs its own
task at most: nothing here raises anything but `ImageUnreadable`.
"""

import base64
import binascii
import contextlib
import hashlib
import mimetypes
import re
from urllib.parse import unquote, unquote_to_bytes, urlsplit

import httpx

from ml_backend.errors import ImageUnreadable
from ml_backend.text import shorten

LONGEST = 6000  # characters; longer ones are not asked for: servers break such requests off
_KEPT = 2000  # characters that the catalog keeps of an address
_CUT = re.compile(r"… sha256:[0-9a-f]{64}")
_INLINE = re.compile(r"data:([^,]*),", re.IGNORECASE)


def is_inline(address: str) -> bool:
    """Whether an address is an image itself, as a `data:` URI."""
    return _INLINE.match(address) is not None


def decode_inline(address: str, limit: int) -> bytes:
    """Return the file that a `data:` URI holds, at most `limit` bytes. Raises ImageUnreadable."""
    found = _INLINE.match(address)
    if found is None:
        raise ImageUnreadable(f"image {shorten(address)}: not a data: address")
    if len(address) > 4 * limit + 200:  # no coding makes more of a byte than three characters
        raise ImageUnreadable(f"image {shorten(address)}: larger than the limit of {limit} bytes")
    data = unquote_to_bytes(address[found.end() :])
    if found[1].lower().replace(" ", "").endswith(";base64"):
        packed = re.sub(rb"[\t\n\f\r ]", b"", data).rstrip(b"=")
        try:
            data = base64.b64decode(packed + b"=" * (-len(packed) % 4), validate=True)
        except binascii.Error as error:
            raise ImageUnreadable(
                f"image {shorten(address)}: a data: address whose base64 is broken: {error}"
            ) from None
    if len(data) > limit:
        raise ImageUnreadable(f"image {shorten(address)}: larger than the limit of {limit} bytes")
    if not data:
        raise ImageUnreadable(f"image {shorten(address)}: the data: address holds nothing")
    return data


def kept_address(address: str) -> str:
    """Return an address as the catalog keeps it: one that is an image, or odd, by its hash.

    Equal addresses give equal ones, different ones different ones.
    """
    if shorten(address, _KEPT) == address and not is_inline(address):
        return address
    digest = hashlib.sha256(address.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{shorten(address[:_KEPT], 60)}… sha256:{digest}"


def is_cut(kept: str) -> bool:
    """Whether the catalog keeps only the beginning of an address."""
    return _CUT.search(kept) is not None


def file_name(address: str) -> str:
    """What the file behind a task's address is called, `image` where the address does not say."""
    if found := _INLINE.match(address):
        return "image" + (mimetypes.guess_extension(found[1].split(";")[0].strip().lower()) or "")
    try:
        parts = urlsplit(original(address))
        name = unquote(fields(parts.query).get("d", parts.path)).rsplit("/", 1)[-1]
    except ValueError:
        return "image"
    return name if name.strip(".") and name.isprintable() else "image"


def original(address: str) -> str:
    """The address that a task was given: Label Studio shows those in a cloud as its own."""
    with contextlib.suppress(ValueError):
        given = fields(urlsplit(address).query)
        for key in ("fileuri", "url"):
            with contextlib.suppress(ValueError):
                decoded = base64.urlsafe_b64decode(unquote(given.get(key, ""))).decode()
                if "://" in decoded:
                    return decoded
    return address


def server_of(address: str) -> str:
    """The server that an address names, `https://host:port`; empty where it names none."""
    try:
        return "{0.scheme}://{0.netloc}".format(urlsplit(original(address)))
    except ValueError:
        return ""


def fields(query: str) -> dict[str, str]:
    """Divide a query into its fields, as they stand."""
    return dict(part.partition("=")[::2] for part in query.split("&"))


def check_target(target: str, address: str) -> httpx.URL:
    """Return what is to be asked for, if it can be. Raises ImageUnreadable that names `address`."""
    if len(target) > LONGEST * 2 or len(address) > LONGEST:
        raise ImageUnreadable(
            f"image {shorten(address)}: an address of more than {LONGEST} characters"
        )
    try:
        url = httpx.URL(target)
        host = url.host.encode("idna") if url.host.isascii() else url.raw_host
    except (httpx.InvalidURL, ValueError) as error:
        raise ImageUnreadable(
            f"image {shorten(address)}: an address that cannot be used: {shorten(error)}"
        ) from None
    if not host or not 0 < (url.port or 80) < 2**16:
        raise ImageUnreadable(f"image {shorten(address)}: an address without a server or a port")
    return url
