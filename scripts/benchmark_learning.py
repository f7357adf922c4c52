"""What the benchmarks that train have in common: samples of a folder, and rows of paired seeds."""

import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from benchmark import Row, row
from benchmark_files import find_pairs

from ml_backend.learning.data import Sample
from ml_backend.store.images import decode_image
from ml_backend.store.mask_values import read_mask

Pair = tuple[np.ndarray, np.ndarray]


def samples_in(images: Path, masks: Path, weight: float = 1.0) -> list[Sample]:
    """Images of a folder that have a mask, as samples of one label, sorted by name."""
    pairs = find_pairs(images, masks)
    return [
        Sample(image.name, partial(read_pair, image, mask), weight)
        for image, mask in sorted(pairs.items())
    ]


def read_pair(image: Path, mask: Path) -> Pair:
    """Pixels (H, W, 3) uint8 and label map (H, W) uint8."""
    pixels = decode_image(image.read_bytes(), image.name)
    shape = (pixels.shape[0], pixels.shape[1])
    return pixels, read_mask(mask.read_bytes(), mask.name, shape=shape)


def paired(
    case: str,
    ours_S: Sequence[float],
    other_S: Sequence[float],
    unit: str,
    target: float,
    *,
    names: tuple[str, str] = ("ours", "other"),
) -> Row:
    """Row of means over S seeds; it holds where the ratio is above the target with each of them."""
    ours, other = np.asarray(ours_S), np.asarray(other_S)
    difference = ours - other
    if len(ours) > 1:
        case += f" ({names[0]} {spread(ours)}, {names[1]} {spread(other)}, "
        case += f"difference {spread(difference, '+')}, {len(ours)} seeds)"
    holds = bool((ours > target * other).all())
    ratio = float(ours.mean() / other.mean()) if other.mean() else float("inf")
    return row(case, float(ours.mean()), float(other.mean()), ratio, unit, target, holds=holds)


def spread(values: np.ndarray, sign: str = "") -> str:
    """Mean ± standard deviation."""
    deviation = values.std(ddof=1) if len(values) > 1 else 0.0
    return f"{values.mean():{sign}.3f} ± {deviation:.3f}"


def tell(text: str) -> None:
    """Say how far it is; standard output is for the rows."""
    print(text, file=sys.stderr, flush=True)
