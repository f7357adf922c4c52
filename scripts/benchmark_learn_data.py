"""What `benchmark.py learn` learns from: a dozen images or tiles of a case, and images held out.

Images are split whole, before they are cut into tiles; of a stack the held-out images are
neighbours with validation images on both sides, because neighbouring sections look alike.
"""

import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import chain, zip_longest
from pathlib import Path
from typing import NamedTuple

import numpy as np
from benchmark import DATA
from benchmark_files import find_pairs

from ml_backend.learning.data import IGNORE, Sample
from ml_backend.masks.tiles import Window, cut_tiles
from ml_backend.samples import make_samples
from ml_backend.store.images import decode_image
from ml_backend.store.mask_matching import Match
from ml_backend.store.mask_values import parse_values, read_mask

TRAIN, VAL = 12, 4  # of 16 labelled images the product keeps a quarter for validation
TILE = 256  # px
WHOLE = 1024  # px; longer images of a user are cut into tiles
DRAWN = 36  # pictures, where there are no others
CROP = 768  # px; of a held-out image at most so much is judged, from its middle

Pair = tuple[np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Case:
    """Images of one kind with their masks.

    `values` says what the masks' greys mean, `tile` the side of the tiles (None: whole images),
    `stack` that the images are sections of one volume. `test` images are held out, and `val`
    of the others validate (0: nothing is left for that). `rare`: the last label is hardly ever
    there, only its IoU counts, and the other side is the same training with patches from anywhere.
    """

    name: str
    images: Path
    masks: Path
    labels: tuple[str, ...] = ("object",)
    values: str | None = None
    tile: int | None = None
    stack: bool = False
    test: int = 4
    val: int = VAL
    crop: int = CROP
    rare: bool = False
    match: Match = "name"

    @cached_property
    def files(self) -> list[tuple[Path, Path]]:
        """Each image with its mask, in natural order."""
        pairs = find_pairs(self.images, self.masks, self.match)
        return list(pairs.items())

    def load(self, index: int) -> Pair:
        """Read an image (H, W, 3) uint8 and its label map (H, W) uint8."""
        image, mask = self.files[index]
        pixels = decode_image(image.read_bytes(), image.name)
        values = parse_values(self.values) if self.values else None
        shape = (pixels.shape[0], pixels.shape[1])
        labels = len(self.labels)
        return pixels, read_mask(mask.read_bytes(), mask.name, labels, values=values, shape=shape)


class Material(NamedTuple):
    """What both sides are given; nobody sees `test` before the end."""

    train: list[Sample]
    val: list[Sample]
    test: list[Sample]


def real_cases() -> list[Case]:
    """Six cases of real images in ../shared/data, or none where it is not there."""
    if not DATA.is_dir():
        return []
    vnc, epfl = DATA / "vnc_mitochondria", DATA / "epfl_ca1_6class"
    isbi, nuclei = DATA / "isbi2012_membranes", DATA / "dsb2018_nuclei"
    axons, copepods = DATA / "axon_myelin_sem", DATA / "copepods_loki"
    bright = "128-255=1"
    return [
        Case(
            "VNC mitochondria", vnc / "images", vnc / "masks/mitochondria",
            ("mitochondrion",), bright, tile=TILE, stack=True, test=3, val=2,
        ),
        Case(
            "EPFL mitochondria", epfl / "images", epfl / "masks/mitochondrion",
            ("mitochondrion",), bright, tile=TILE, stack=True, val=2,
        ),
        Case(
            "ISBI membranes", isbi / "images", isbi / "masks",
            ("membrane",), "0-127=1", stack=True,
        ),
        Case("DSB nuclei", nuclei / "images", nuclei / "masks", ("nucleus",), test=24),
        Case(
            "axon and myelin", axons / "images", axons / "masks",
            ("myelin", "axon"), "64-191=1,192-255=2", tile=2 * TILE, test=3, val=2,
        ),
        Case(
            "copepods' lipid sacs", copepods / "images", copepods / "masks",
            ("lipid sac",), test=3, val=0,
        ),
    ]  # fmt: skip


def rare_cases() -> list[Case]:
    """Cases that are run only when they are named: a label of 0.7 % of the pixels beside others."""
    if not DATA.is_dir():
        return []
    vnc = DATA / "vnc_mitochondria"
    labels = ("membrane", "mitochondrion", "synapse")
    values = "0-96=1,191=2,223=3"
    place = vnc / "images", vnc / "masks/labels"
    return [Case("rare synapses", *place, labels, values, stack=True, test=3, val=2, rare=True,
                 match="number")]  # fmt: skip


def sample_case(folder: Path) -> Case:
    """Pictures that the package draws itself."""
    made = make_samples(folder, count_clean=1, count_noisy=DRAWN)
    return Case("drawn plankton", made.noisy_images, made.noisy_masks, test=20)


def own_case(
    images: Path,
    masks: Path,
    labels: Sequence[str] = (),
    values: str | None = None,
    tile: int | None = None,
) -> Case:
    """Somebody's images: a fifth of them, but at most 24, is held out."""
    case = Case(images.resolve().name, images, masks, tuple(labels) or ("object",), values, tile)
    count = len(case.files)
    if count < 5:
        raise SystemExit(f"{images}: {count} images have a mask in {masks}; at least 5 are needed")
    longest = max(case.load(0)[1].shape)
    test = min(max(count // 5, 2), 24)
    val = VAL if count >= TRAIN + VAL + test else 1
    cut = tile or (TILE if longest > WHOLE or count < TRAIN + val + test else None)
    return Case(case.name, images, masks, case.labels, values, cut, test=test, val=val)


def material_of(case: Case, seed: int) -> Material:
    """Split and draw by the seed; the first three seeds hold out different images."""
    rng = np.random.default_rng([seed, zlib.crc32(case.name.encode())])
    train, val, test = split(len(case.files), case, seed)
    held = [_parts(case, index, lambda shape: [_middle(shape, case.crop)]) for index in test]
    return Material(
        _drawn(case, train, TRAIN, rng),
        _drawn(case, val, VAL, rng) if val else [],
        list(chain.from_iterable(held)),
    )


def split(count: int, case: Case, seed: int) -> tuple[list[int], list[int], list[int]]:
    """Numbers of the images to train with, to validate with, and held out."""
    order = np.arange(count)
    if not case.stack:
        order = np.random.default_rng(zlib.crc32(case.name.encode())).permutation(count)
    turned = np.roll(order, -(seed * count // 3 + seed // 3)).tolist()
    before, end = case.val // 2, case.test + case.val
    held = turned[before : before + case.test]
    return turned[end:], turned[:before] + turned[before + case.test : end], held


def _drawn(
    case: Case, indices: Sequence[int], count: int, rng: np.random.Generator
) -> list[Sample]:
    """Draw `count` images, or tiles from as many images as possible, with every label in them."""

    def windows(shape: tuple[int, int]) -> list[Window]:
        return cut_tiles(*shape, case.tile or max(shape))

    images = [_parts(case, index, windows) for index in indices]
    present = _labels(chain.from_iterable(images))
    for _ in range(100):
        columns = [[tiles[i] for i in rng.permutation(len(tiles))] for tiles in images]
        rows = zip_longest(*[columns[i] for i in rng.permutation(len(columns))])
        drawn = [sample for row in rows for sample in row if sample][:count]
        if _labels(drawn) == present:
            return drawn
    raise SystemExit(f"{case.name}: no {count} images or tiles show all labels; try others")


def _labels(samples: Iterable[Sample]) -> set[int]:
    found = {int(label) for sample in samples for label in np.unique(sample.load()[1])}
    return found - {0, IGNORE}


def _middle(shape: tuple[int, int], side: int) -> Window:
    height, width = (min(length, side) for length in shape)
    return Window((shape[1] - width) // 2, (shape[0] - height) // 2, width, height)


def _parts(
    case: Case, index: int, windows: Callable[[tuple[int, int]], list[Window]]
) -> list[Sample]:
    """Keep parts of an image in memory."""
    image, mask = case.load(index)
    name = case.files[index][0].stem
    return [
        Sample(f"{name} at {window.x},{window.y}", partial(_cut, image, mask, window))
        for window in windows((mask.shape[0], mask.shape[1]))
    ]


def _cut(image: np.ndarray, mask: np.ndarray, window: Window) -> Pair:
    return np.ascontiguousarray(image[window.slices]), np.ascontiguousarray(mask[window.slices])
