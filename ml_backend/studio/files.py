"""Images into and out of Label Studio."""

import base64
import contextlib
import mimetypes
import re
import secrets
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import quote, unquote, urlsplit

import httpx

from ml_backend.errors import ImageUnreadable, StudioError, StudioRefused
from ml_backend.studio.answers import check
from ml_backend.studio.pages import browser_url
from ml_backend.studio.transport import SLOW_SECONDS, Transport

# Label Studio takes up to 100 files and 250 MB a request; small batches show progress.
_BATCH_FILES = 50
_BATCH_BYTES = 32 * 2**20
_OWN = re.compile(r"/data/(upload|local-files)/|/storage-data/uploaded/")
_CLOUD = re.compile(r"(s3|gs|azure-blob)://")
_TRIES = 3
_SILENT_SECONDS = 60
# What Label Studio would answer for any other image too: the token, or a server that is away.
_EVERYWHERE = {401, 429, 502, 503, 504}


def upload(transport: Transport, project_id: int, images: Sequence[tuple[str, bytes]]) -> list[str]:
    """Store `images` (name, file content) → their addresses `/data/upload/…`, in order.

    No tasks are made. Raises `StudioRefused` for a type Label Studio does not take (TIFF)
    and for a file that arrived with another length; then none of them stays there.
    """
    urls: list[str] = []
    try:
        for batch in _batches(images):
            urls.extend(_upload_batch(transport, project_id, batch))
    except StudioRefused:
        _delete_quietly(transport, project_id, urls)
        raise
    return urls


def uploads(transport: Transport, project_id: int) -> dict[str, int]:
    """Index all files of a project that the token's user has uploaded: address → id."""
    rows = _listed(transport, project_id)
    return {f"/data/{row['file']}": row["id"] for row in rows}


def _listed(transport: Transport, project_id: int) -> list[dict[str, Any]]:
    path = f"/api/projects/{project_id}/file-uploads"
    rows: list[dict[str, Any]] = transport.json(
        "GET", path, params={"all": "true"}, seconds=SLOW_SECONDS
    )
    return rows


def delete_uploads(transport: Transport, project_id: int, urls: Collection[str]) -> int:
    """Delete files by the addresses that `upload` gave → how many were there.

    Addresses of anything else are left alone.
    """
    wanted = {_own_path(transport, url) for url in urls if url.startswith("/")}
    ids = [file_id for url, file_id in uploads(transport, project_id).items() if url in wanted]
    if ids:  # without ids Label Studio would delete every file of the project
        path = f"/api/projects/{project_id}/file-uploads"
        transport.json("DELETE", path, body={"file_upload_ids": ids}, seconds=SLOW_SECONDS)
    return len(ids)


def _delete_quietly(transport: Transport, project_id: int, urls: Collection[str]) -> None:
    """Delete files on the way out of an error that says more than another would."""
    with contextlib.suppress(StudioError):
        delete_uploads(transport, project_id, urls)


def _batches(images: Sequence[tuple[str, bytes]]) -> Iterator[list[tuple[str, bytes]]]:
    batch: list[tuple[str, bytes]] = []
    size = 0
    for name, data in images:
        if batch and (len(batch) == _BATCH_FILES or size + len(data) > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append((name, data))
        size += len(data)
    if batch:
        yield batch


def _upload_batch(
    transport: Transport, project_id: int, batch: Sequence[tuple[str, bytes]]
) -> list[str]:
    token = secrets.token_hex(4)  # by which these files are found, whatever Label Studio answers
    # Distinct field names: of files under one name Label Studio keeps the last only.
    files = [
        (f"file{index}", (f"{token}-{name}", data, mimetypes.guess_type(name)[0] or "image/png"))
        for index, (name, data) in enumerate(batch)
    ]
    path = f"/api/projects/{project_id}"
    try:
        answer = transport.json(
            "POST",
            f"{path}/import",
            params={"commit_to_project": "false"},
            files=files,
            seconds=SLOW_SECONDS,
        )
        ids = answer["file_upload_ids"]
        listed = transport.json("GET", f"{path}/file-uploads", params={"ids": str(ids)})
    except StudioRefused:
        # Where the labeling config has several data keys Label Studio stores the files and then
        # refuses to make tasks of them, which nobody has asked for.
        listed = [row for row in _listed(transport, project_id) if f"-{token}-" in row["file"]]
        ids = sorted(row["id"] for row in listed)
        if len(ids) != len(batch):
            _delete_quietly(transport, project_id, [f"/data/{row['file']}" for row in listed])
            raise
    stored = {row["id"]: row for row in listed}
    try:
        _check_stored(project_id, batch, ids, stored)
    except StudioRefused:
        _delete_quietly(transport, project_id, [f"/data/{row['file']}" for row in listed])
        raise
    return [f"/data/{stored[file_id]['file']}" for file_id in ids]


def _check_stored(
    project_id: int,
    batch: Sequence[tuple[str, bytes]],
    ids: Sequence[int],
    stored: Mapping[int, Mapping[str, Any]],
) -> None:
    """Refuse files that did not all come, or did not come whole."""
    if len(ids) != len(batch) or not stored.keys() >= set(ids):
        raise StudioRefused(f"of {len(batch)} images sent to project {project_id}, {len(ids)} came")
    for file_id, (name, data) in zip(ids, batch, strict=True):
        if stored[file_id]["size"] != len(data):
            raise StudioRefused(
                f"image {name}: Label Studio stored {stored[file_id]['size']} bytes of {len(data)}"
            )


def file_name(url: str) -> str:
    """What the file behind a task's address is called, `image` where the address does not say."""
    parts = urlsplit(_original(url))
    name = unquote(_fields(parts.query).get("d", parts.path)).rsplit("/", 1)[-1]
    return name if name.strip(".") and name.isprintable() else "image"


def _original(url: str) -> str:
    """The address that a task was given: Label Studio shows those in a cloud as its own."""
    given = _fields(urlsplit(url).query)
    for key in ("fileuri", "url"):
        with contextlib.suppress(ValueError):
            original = base64.urlsafe_b64decode(unquote(given.get(key, ""))).decode()
            if "://" in original:
                return original
    return url


def _fields(query: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in query.split("&"))


def download(transport: Transport, url: str, *, limit: int, project_id: int | None = None) -> bytes:
    """The whole file behind an address as tasks have it, at most `limit` bytes.

    `/data/…` is Label Studio's own; `s3://`, `gs://` and `azure-blob://` are resolved by
    the storages of `project_id`; other http addresses are fetched without the token.
    Lengths are checked, and a body that broke off (the storage proxy stops after 20 s) is
    carried on from where it ended. Raises `ImageUnreadable` when the file is missing, too
    large or cannot be had whole, also where another server does not answer, `StudioRefused`
    for the token, `StudioUnreachable` for Label Studio.
    """
    address = _address(transport, url, project_id)
    server = "{0.scheme}://{0.netloc}".format(urlsplit(_original(url)))
    if time.monotonic() < transport.silent.get(server, 0):
        raise ImageUnreadable(f"image {url}: its server did not answer a moment ago")
    data = bytearray()
    for _ in range(_TRIES):
        with _blamed(transport, url, server):
            total = _append(transport, address, data, url, limit)
        if total is None or len(data) == total:
            return bytes(data)
    raise ImageUnreadable(f"image {url}: the download broke off at {len(data)} of {total} bytes")


def _address(transport: Transport, url: str, project_id: int | None) -> str:
    if _CLOUD.match(url):
        if project_id is None:
            raise ImageUnreadable(f"image {url}: only the storages of a project can resolve it")
        coded = base64.urlsafe_b64encode(url.encode()).decode()
        return f"{transport.url}/projects/{project_id}/resolve/?fileuri={quote(coded)}"
    if url.startswith("/") and not url.startswith("//"):
        return transport.url + _own_path(transport, url)
    if re.match(r"https?://", url):
        # its own storages write the browser's address before files that it serves itself
        if _OWN.search(urlsplit(url).path) and url.startswith(f"{browser_url(transport)}/"):
            return transport.url + url.removeprefix(browser_url(transport))
        return url
    raise ImageUnreadable(f"image {url}: an address that Label Studio does not serve")


def _own_path(transport: Transport, url: str) -> str:
    """The path of a file of Label Studio's own, without what stands before it for a proxy.

    Under a sub-path Label Studio writes the browser's prefix into its own addresses, whatever the
    prefix at which this process reaches it.
    """
    if own := _OWN.search(url):
        return url[own.start() :]
    prefix = urlsplit(transport.url).path
    return url.removeprefix(prefix) if url.startswith(f"{prefix}/") else url


@contextlib.contextmanager
def _blamed(transport: Transport, url: str, server: str) -> Iterator[None]:
    """Blame the image, not Label Studio, where it is another server that does not answer.

    That is not asked again for a while: thousands of images would each wait for it.
    """
    try:
        yield
    except StudioError as error:
        cause = error.__cause__
        if not isinstance(cause, httpx.TransportError) or transport.serves(cause.request.url):
            raise
        transport.silent[server] = time.monotonic() + _SILENT_SECONDS
        reason = str(cause) or type(cause).__name__
        raise ImageUnreadable(
            f"image {url}: {cause.request.url.host} does not answer: {reason}"
        ) from cause


def _append(
    transport: Transport, address: str, data: bytearray, url: str, limit: int
) -> int | None:
    """Fetch what `data` still lacks → the file's length, None where the server hides it."""
    # Label Studio sends no Content-Length with uploads, but answers ranges with the length.
    headers = {"Range": f"bytes={len(data)}-", "Accept-Encoding": "identity"}
    with transport.stream(address, headers) as response:
        _check(transport, response, url)
        start, total = _extent(response)
        if start != len(data):
            data.clear()
        if start > len(data):
            return total
        if total is not None and total > limit:
            raise ImageUnreadable(f"image {url}: {total} bytes are more than the limit of {limit}")
        try:
            for chunk in response.iter_bytes():
                data.extend(chunk)
                if len(data) > limit:
                    raise ImageUnreadable(f"image {url}: larger than the limit of {limit} bytes")
        except httpx.RemoteProtocolError:
            # The connection closed early: the caller sees it in the length.
            return total if total is not None else len(data) + 1
    return total


def _check(transport: Transport, response: httpx.Response, url: str) -> None:
    """Say whose fault an answer is: the token's and Label Studio's own stop everything."""
    if response.is_success:
        return
    response.read()
    status = response.status_code
    # For a file it no longer has, Label Studio answers 500 instead of 404.
    lost = status == httpx.codes.INTERNAL_SERVER_ERROR and b"NoneType" in response.content
    if lost or status in {httpx.codes.NOT_FOUND, httpx.codes.GONE}:
        raise ImageUnreadable(f"image {url}: not there (any more)")
    if status == httpx.codes.REQUESTED_RANGE_NOT_SATISFIABLE:
        raise ImageUnreadable(f"image {url}: the file is empty")
    if transport.serves(response.url) and status in _EVERYWHERE:
        check(response, f"GET {url}")
    raise ImageUnreadable(f"image {url}: {response.url.host} answered {status}")


def _extent(response: httpx.Response) -> tuple[int, int | None]:
    """First byte of this body within the file, and the file's length where it is told."""
    matched = re.fullmatch(r"bytes (\d+)-\d+/(\d+)", response.headers.get("content-range", ""))
    if matched and response.status_code == httpx.codes.PARTIAL_CONTENT:
        return int(matched[1]), int(matched[2])
    length = response.headers.get("content-length", "")
    return 0, int(length) if length.isdigit() else None
