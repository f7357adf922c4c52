"""Twenty sections with their masks, as single files and as two stacks."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image as Picture

from ml_backend.samples import make_samples

SECTIONS = 20
SIDE = 256
REAL = Path(__file__).parents[3] / "shared" / "data" / "vnc_mitochondria"


@dataclass(frozen=True)
class Sections:
    """(20, 256, 256) uint8 grey images and bool masks."""

    images: NDArray[np.uint8]
    masks: NDArray[np.bool_]

    def write_files(self, folder: Path) -> tuple[Path, Path]:
        """A file a section, `sec_p01.tif` …; the folders of images and masks."""
        for kind, pages in self._kinds():
            (folder / kind).mkdir(parents=True)
            for number, page in enumerate(pages, 1):
                tifffile.imwrite(folder / kind / f"sec_p{number:02}.tif", page)
        return folder / "images", folder / "masks"

    def write_stack(self, folder: Path) -> tuple[Path, Path]:
        """One `sec.tif` of all sections, and one of all masks; their folders."""
        for kind, pages in self._kinds():
            (folder / kind).mkdir(parents=True)
            tifffile.imwrite(folder / kind / "sec.tif", pages, photometric="minisblack")
        return folder / "images", folder / "masks"

    def truth(self, name: str) -> NDArray[np.bool_]:
        """The mask of a section by the name it has in a pool: the same either way."""
        return self.masks[int(Path(name).stem.removeprefix("sec_p")) - 1]

    def _kinds(self) -> list[tuple[str, NDArray[np.uint8]]]:
        return [("images", self.images), ("masks", (self.masks * 255).astype(np.uint8))]


def read_sections(scratch: Path) -> Sections:
    """Parts of a fly's nerve cord where the real data are at hand, else of the samples.

    `scratch`: where the samples may be drawn.
    """
    images, masks = _real() if REAL.is_dir() else _drawn(scratch)
    return Sections(np.stack(images), np.stack(masks))


def _real() -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    """Two blocks of neighbouring sections."""
    images, masks = [], []
    found = sorted((REAL / "images").glob("*.tif"))
    for number in range(SECTIONS):
        path = found[number % len(found)]
        left = 128 + 512 * (number // len(found))
        window = np.s_[384 : 384 + SIDE, left : left + SIDE]
        mask = np.asarray(Picture.open(next((REAL / "masks/mitochondria").glob(f"{path.stem}.*"))))
        images.append(tifffile.imread(path)[window])
        masks.append((mask if mask.dtype == np.bool_ else mask > 127)[window])
    return images, masks


def _drawn(scratch: Path) -> tuple[list[NDArray[np.uint8]], list[NDArray[np.bool_]]]:
    drawn = make_samples(scratch / "samples", count_clean=1, count_noisy=SECTIONS)
    images, masks = [], []
    for path in sorted(drawn.noisy_images.iterdir()):
        images.append(np.asarray(Picture.open(path))[:SIDE, :SIDE])
        masks.append(np.asarray(Picture.open(drawn.noisy_masks / path.name))[:SIDE, :SIDE] > 127)
    return images, masks
