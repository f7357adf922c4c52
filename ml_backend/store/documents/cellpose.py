"""Cellpose's `_seg.npy`: the numbers of objects under the key `masks`."""

from collections.abc import Callable, Iterable
from functools import partial

import numpy as np
from scipy import ndimage

from ml_backend.errors import DataError, RegionError
from ml_backend.masks.shapes import Patch
from ml_backend.store.documents.entry import MaskDocument, Region
from ml_backend.store.documents.npy_dict import read_array

ENDING = "_seg.npy"


def read_cellpose(read: Callable[[], bytes], file: str) -> MaskDocument:
    """The entry of a file, which is read when its mask is. Its objects are of the only label."""
    name = f"{file.removesuffix(ENDING)}.npy"
    return MaskDocument(name, file, "Cellpose", partial(_regions, read), only_numbers=True)


def _regions(read: Callable[[], bytes]) -> Iterable[Region]:
    numbers = read_array(read(), "masks")
    numbers = numbers[0] if numbers.ndim == 3 and len(numbers) == 1 else numbers
    if numbers.ndim != 2:
        raise DataError(f"its masks have {numbers.ndim} dimensions; save a file for each image")
    whole = numbers.astype(np.int64)
    if not (whole == numbers).all() or whole.min(initial=0) < 0 or whole.max(initial=0) >= 2**31:
        raise DataError("its masks are no numbers of objects")
    found, ranks = np.unique(np.append(0, whole), return_inverse=True)
    ranks_HW = ranks[1:].reshape(whole.shape)
    for rank, (rows, columns) in enumerate(ndimage.find_objects(ranks_HW), 1):
        patch = Patch(rows, columns, ranks_HW[rows, columns] == rank)
        number = int(found[rank])
        yield Region(str(number), partial(_draw, patch, whole.shape), number)


def _draw(patch: Patch, shape: tuple[int, ...], height: int, width: int) -> Patch:
    if shape != (height, width):
        raise RegionError(
            f"its masks are {shape[1]} x {shape[0]} px, the image {width} x {height} px"
        )
    return patch
