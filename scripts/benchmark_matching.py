"""Which mask belongs to which image: the time that takes, by the number of files.

Files are made empty in a temporary folder, as many images as masks, and are found and paired as
`pool add` does. Matching is linear: ten times the files take about ten times as long.
"""

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmark import Row, best_of, row

from ml_backend.store.listing import ListedFile, list_files
from ml_backend.store.mask_matching import match_masks
from ml_backend.store.mask_pairing import pair_masks

LAYOUTS = {
    "a_mask beside a": ("plate 3/{:05d}.png", "plate 3/{:05d}_mask.png"),
    "a folder a case": ("{:05d}/image.png", "{:05d}/mask.png"),
    "one name in many folders": ("well {:05d}/0.png", "well {:05d}/0.png"),
}
_MOST_GROWTH = 20  # of ten times the files: a square has 100
_MOST_LISTINGS = 10


@dataclass(frozen=True)
class Picture:
    """An image of one page, as a collection has it."""

    name: str
    file: ListedFile
    stack: str | None = None
    page: int = 0
    pages: int = 1


def rows(*, quick: bool = False) -> Iterator[Row]:
    """Measure 20,000 files against 2,000, or a tenth of both if `quick`, and against listing."""
    many = 1_000 if quick else 10_000
    for layout, forms in LAYOUTS.items():
        durations = []
        for count in (many, many // 10):
            images, masks = ([form.format(n) for n in range(count)] for form in forms)
            matches, duration = best_of(partial(match_masks, images, masks))
            if len(matches.pairs) != count:
                raise SystemExit(f"{layout}: {len(matches.pairs)} of {count} pairs are found")
            durations.append(duration)
        ours, other = durations
        ratio = ours / other
        case = f"match {2 * many:,} files against {2 * many // 10:,}: {layout}"
        yield row(case, ours, other, ratio, "ms", _MOST_GROWTH, holds=ratio <= _MOST_GROWTH)
    yield against_listing(many)


def against_listing(count: int) -> Row:
    """Row of listing and pairing masks, and of listing images and masks alone."""
    with tempfile.TemporaryDirectory(prefix="brushloop-benchmark-") as place:
        root = Path(place)
        for folder, form in zip(("images", "masks"), LAYOUTS["a_mask beside a"], strict=True):
            for number in range(count):
                path = root / folder / form.format(number)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.touch()
        files = list_files(root / "images")
        images = [Picture(file.name, file) for file in files]
        pairs, ours = best_of(partial(pair_masks, images, root / "masks"))
        if len(pairs.files) != count:
            raise SystemExit(f"{len(pairs.files)} of {count} pairs are found")
        _, other = best_of(lambda: [list_files(root / name) for name in ("images", "masks")])
    ratio = ours / other
    case = f"pair {count:,} images and masks, against listing both"
    return row(case, ours, other, ratio, "ms", _MOST_LISTINGS, holds=ratio <= _MOST_LISTINGS)
