"""The image files at an address, without the masks that lie among them."""

from collections.abc import Sequence
from pathlib import Path

from ml_backend.errors import DataError
from ml_backend.store.endings import SUFFIXES
from ml_backend.store.listing import ListedFile, list_files, shown, why_not_read
from ml_backend.store.mask_listing import SUFFIXES as WITH_DOCUMENTS
from ml_backend.store.mask_places import Places
from ml_backend.store.mixed_folders import masks_among
from ml_backend.store.summary import Summary

IS_MASK = "a mask, not an image"
LOOKS_LIKE_MASK = "looks like the mask of another image; name its folder with --masks"


def list_images(
    address: Path | str,
    summary: Summary,
    masks: Path | str | None = None,
    labels: Sequence[str] = (),
) -> list[ListedFile]:
    """List the image files at an address, without the masks that lie among them.

    `masks`: where masks are, `labels`: those that they tell apart; without them only what is sure
    to be a mask is left out (`leave_out_masks`). Raises `DataError` where there is no image.
    """
    suffixes = SUFFIXES if masks is None else WITH_DOCUMENTS  # masks may be documents
    files = leave_out_masks(list_files(address, summary, suffixes), masks, labels, summary)
    if not files:
        passed = "; ".join(str(group) for group in summary.groups("passed_over"))
        raise DataError(
            f"no images in {address}: PNG, JPEG, TIFF, BMP and those of docs/files.md are read"
            + (f" (passed over: {passed})" if passed else "")
        )
    return files


def leave_out_masks(
    images: Sequence[ListedFile],
    masks: Path | str | None,
    labels: Sequence[str] = ("object",),
    summary: Summary | None = None,
) -> list[ListedFile]:
    """Return the pictures but for those that are masks of the others, which `summary` tells.

    They are masks by where they lie or by what their names have beside those of images. Without an
    address of masks only those are left out of which that is sure.
    """
    told = Summary() if summary is None else summary
    images = _without_documents(images, masks, told)
    names = [file.name for file in images]
    why = IS_MASK
    if masks is None:
        found, why = masks_among(names, sure=True), LOOKS_LIKE_MASK
    else:
        found = _masks_among(images, masks, labels)
    for name in names:
        if name in found:
            told.add("passed_over", shown(name), why)
    return [file for file in images if file.name not in found]


def _without_documents(
    files: Sequence[ListedFile], masks: Path | str | None, summary: Summary
) -> list[ListedFile]:
    """The pictures; documents are read with the masks, or told here if they lie elsewhere."""
    places = Places()
    root = None if masks is None else places.root(masks)
    pictures = []
    for file in files:
        why = why_not_read(file.name, SUFFIXES)
        if why is None:
            pictures.append(file)
        elif root is None or places.below(root, file) is None:
            summary.add("passed_over", shown(file.name), why)
    return pictures


def _masks_among(
    images: Sequence[ListedFile], masks: Path | str, labels: Sequence[str]
) -> set[str]:
    """Names of image files that are masks: at the address of masks, or beside their images."""
    places = Places()
    root = places.root(masks)
    inside = {}
    for file in images:
        below = places.below(root, file)
        if below is not None:
            inside[file.name] = below
    if not inside:
        return set()
    names = [file.name for file in images]
    if len(inside) == len(names) or masks_among(list(inside.values()), labels):
        return masks_among(names, labels) & set(inside)
    return set(inside) | masks_among(names, sure=True)
