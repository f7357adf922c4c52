"""Images into Label Studio, and out again where they are of no use."""

import contextlib
import mimetypes
import re
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from ml_backend.errors import StudioError, StudioRefused
from ml_backend.studio.transport import SLOW_SECONDS, Transport

# Label Studio takes up to 100 files and 250 MB a request; small batches show progress.
_BATCH_FILES = 50
_BATCH_BYTES = 32 * 2**20
OWN = re.compile(
    r"/data/(upload|local-files)/|/storage-data/uploaded/|/(tasks|projects)/\d+/(resolve|presign)/"
)


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
    wanted = {own_path(transport, url) for url in urls if url.startswith("/")}
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


def own_path(transport: Transport, url: str) -> str:
    """The path of a file of Label Studio's own, without what stands before it for a proxy.

    Under a sub-path Label Studio writes the browser's prefix into its own addresses, whatever the
    prefix at which this process reaches it.
    """
    if own := OWN.search(url):
        return url[own.start() :]
    prefix = urlsplit(transport.url).path
    return url.removeprefix(prefix) if url.startswith(f"{prefix}/") else url
