"""Images in a folder and the masks that belong to them."""

from pathlib import Path

from ml_backend.store.images import find_images
from ml_backend.store.mask_matching import Match, match_masks


def find_pairs(images: Path, masks: Path, match: Match = "name") -> dict[Path, Path]:
    """Return image → mask; images without one are left out."""
    names, others = ([path.relative_to(folder).as_posix() for path in find_images(folder)]
                     for folder in (images, masks))  # fmt: skip
    pairs = match_masks(names, others, match=match).pairs
    return {images / image: masks / pair.parts[0].mask for image, pair in pairs.items()}
