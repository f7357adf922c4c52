"""What a mask's values mean where nobody says it: only what is unmistakable (docs/files.md)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from ml_backend.store.mask_reading import MaskReading
from ml_backend.store.mask_values.codes import Codes, channels_of
from ml_backend.store.mask_values.edges import noise_count, stray_count
from ml_backend.store.mask_values.levels import read_levels
from ml_backend.store.mask_values.numbers import ranks_of, sign_of_numbers
from ml_backend.store.mask_values.options import IGNORE
from ml_backend.store.mask_values.table import refusal

U8 = NDArray[np.uint8]
_LOSSY = "JPEG changes numbers, so that only black and white are told apart in it; save it as PNG"
_STRAYS = "stray pixels between 0 and 255 (fewer than 0.2 % of the white) went to the nearer"
_NOISE = "grey pixels away from all edges went to the nearer of black and white"
_LIKELY = "its few values were taken for numbers of objects, as each is in one piece"
_DARK = 16
_CLASSES = 32  # a single value from 2 to here may be the number of a class


def guess(codes: Codes, labels: int, *, instances: bool) -> MaskReading:
    """Read codes without being told. Raises `RegionError` with the values where that is unclear."""
    if codes.kind == "colours":
        return _one_colour(codes, labels)
    found = codes.count()[0].tolist()
    if found == [0]:
        return MaskReading(np.zeros(codes.plane.shape, np.uint8), rule="empty")
    if found[0] < 0:
        raise refusal(codes, labels, "negative values are no labels")
    if codes.kind == "indices":
        return _as_written(codes, labels, found)
    return _one_label(codes, found, instances) if labels == 1 else _labels(codes, labels, found)


def _one_label(codes: Codes, found: Sequence[int], instances: bool) -> MaskReading:
    if codes.lossy:
        is_white = found[0] == IGNORE
        reading = _few(codes, found) if is_white else _black_and_white(codes, found)
        why = _LOSSY
    else:
        reading = _few(codes, found) or _black_and_white(codes, found)
        reading = reading or _unknown(codes, found) or _numbers(codes, instances)
        reading = reading or _one_value(codes, found, _CLASSES if not instances else 1)
        why = _doubt(found)
    if reading is None:
        raise refusal(codes, 1, why)
    return reading


def _few(codes: Codes, found: Sequence[int]) -> MaskReading | None:
    """Bits, 0 and 1, and what is white all over."""
    if codes.kind == "bits":
        return MaskReading(codes.plane, rule="1 bit")
    if list(found) == [0, 1]:
        return MaskReading(codes.plane.astype(np.uint8), rule="0 and 1")
    if list(found) == [IGNORE]:
        note = "all of its pixels are 255: the label covers the whole image"
        mask = np.ones(codes.plane.shape, np.uint8)
        return MaskReading(mask, notes=(note,), rule="0 and 255")
    return None


def _unknown(codes: Codes, found: Sequence[int]) -> MaskReading | None:
    """0, 1 and a value that stands for unknown pixels."""
    unknown = set(found) & codes.ignore
    if set(found) - unknown != {0, 1}:
        return None
    mask = np.where(codes.plane > 1, IGNORE, codes.plane).astype(np.uint8)
    return MaskReading(mask, rule=f"0, 1 and {' and '.join(map(str, sorted(unknown)))} for unknown")


def _one_value(codes: Codes, found: Sequence[int], least: int) -> MaskReading | None:
    """0 and one other."""
    if len(found) != 2 or found[0] != 0 or found[1] < least:
        return None
    return MaskReading((codes.plane > 0).astype(np.uint8), rule=f"0 and {found[1]}")


def _numbers(codes: Codes, instances: bool) -> MaskReading | None:
    """Numbers of objects, and the greatest number of more than 8 bits for unknown pixels."""
    is_unknown = codes.plane == max(codes.ignore, default=-1)
    if not codes.deep or not is_unknown.any():
        sign = sign_of_numbers(codes, wanted=instances)
        if sign is None:
            return None
        is_object, ranks = (codes.plane > 0).astype(np.uint8), ranks_of(codes)
        notes = () if sign == "sure" else (_LIKELY,)
        return MaskReading(is_object, ranks, notes, "numbers of objects")
    rest = replace(codes, plane=np.where(is_unknown, 0, codes.plane), ignore=frozenset())
    reading = _numbers(rest, instances)
    if reading is None:
        return None
    mask = np.where(is_unknown, IGNORE, reading.mask).astype(np.uint8)
    return replace(reading, mask=mask, rule="numbers of objects, the greatest for unknown")


def _doubt(found: Sequence[int]) -> str:
    if found[0] != 0:
        return "no pixel is 0, so that all of the image would be the label"
    if len(found) == 2:
        return "a class of several, perhaps"
    return "more values than the one label, and neither edges nor numbers of objects"


def _black_and_white(codes: Codes, found: Sequence[int]) -> MaskReading | None:
    """0 and 255, with whatever is stray or lies along the edges on the nearer side."""
    if codes.deep or found[-1] > IGNORE:
        return None
    mask = (codes.plane > 127).astype(np.uint8)
    if found[0] == 0 and found[-1] == IGNORE:
        strays = stray_count(codes, frozenset({0, IGNORE}))
        if strays == 0:
            return MaskReading(mask, rule="0 and 255")
        if strays is not None:
            return MaskReading(mask, notes=(_STRAYS,), rule="0 and 255")
    return _soft(codes, "black and white with grey edges")


def _soft(codes: Codes, rule: str) -> MaskReading | None:
    noise = noise_count(codes)
    if noise is None:
        return None
    mask = (codes.plane > 127).astype(np.uint8)
    return MaskReading(mask, notes=(_NOISE,) if noise else (), rule=rule)


def _labels(codes: Codes, labels: int, found: Sequence[int]) -> MaskReading:
    if codes.kind == "bits":
        raise refusal(codes, labels, f"black and white do not tell {labels} labels apart")
    if codes.kind != "shares" and not codes.lossy:
        reading = _numbered_labels(codes, labels, found)
        if reading is not None:
            return reading
        levels = None if codes.deep else read_levels(codes, labels)
        if levels is not None:
            return MaskReading(levels, rule=f"{labels + 1} greys")
    raise refusal(codes, labels, f"they do not say which of the {labels} labels they are")


def _numbered_labels(codes: Codes, labels: int, found: Sequence[int]) -> MaskReading | None:
    """0…K as they are; without any 0 all of 1…K must occur."""
    unknown = [code for code in found if code in codes.ignore and code > labels]
    rest = [code for code in found if code not in unknown]
    is_whole = bool(rest) and (rest[0] == 0 or rest == list(range(1, labels + 1)))
    if not is_whole or rest[-1] > labels or (unknown and rest == [0]):
        return None
    mask = np.where(codes.plane > labels, IGNORE, codes.plane).astype(np.uint8)
    return MaskReading(mask, rule=f"0 to {labels}")


def _as_written(codes: Codes, labels: int, found: Sequence[int]) -> MaskReading:
    """A palette's indices are labels: nobody paints a palette by accident."""
    if any(code > labels and code != IGNORE for code in found):
        why = f"an indexed mask of {labels} labels has 0 to {labels} and 255"
        raise refusal(codes, labels, why)
    return MaskReading(codes.plane.astype(np.uint8), rule="indices of a palette")


def _one_colour(codes: Codes, labels: int) -> MaskReading:
    """One colour on black, of whatever brightness, perhaps with soft edges."""
    found, counts = codes.count()
    colours = np.array([channels_of(code) for code in found.tolist()])
    if labels == 1 and len(found) == 2 and found[0] == 0:
        return MaskReading((codes.plane > 0).astype(np.uint8), rule="one colour on black")
    ink = colours[np.argmax(counts * (colours.max(axis=1) > _DARK))]
    if labels == 1 and 0 < colours.max() <= 255 and _on_a_line(colours, counts, ink):
        brightness = (codes.plane >> 32, codes.plane >> 16 & 0xFFFF, codes.plane & 0xFFFF)
        grey = np.maximum.reduce(brightness).astype(np.float64) * (255 / ink.max())
        soft = Codes(np.minimum(np.rint(grey), 255).astype(np.uint8), "greys", lossy=codes.lossy)
        reading = _soft(soft, "a colour on black with soft edges")
        if reading is not None:
            return reading
    raise refusal(codes, labels, "colours do not say which label they are")


def _on_a_line(
    colours: NDArray[np.int64], counts: NDArray[np.int64], ink: NDArray[np.int64]
) -> bool:
    """Whether the colours are shades of one ink, but for what JPEG does to a hundredth of them."""
    if ink.max() <= _DARK:
        return False
    share = colours.max(axis=1, keepdims=True) / ink.max()
    off = np.abs(colours - share * ink).max(axis=1)
    return bool(counts[off > 48].sum() <= 0.01 * counts.sum())
