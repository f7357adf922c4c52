"""Images in a folder and the masks that belong to them."""

from pathlib import Path

from ml_backend.store.listing import list_files
from ml_backend.store.mask_matching import Match, match_masks


def find_pairs(images: Path, masks: Path, match: Match = "name") -> dict[Path, Path]:
    """Return image → mask; images without one are left out."""
    names, others = ([file.name for file in list_files(folder)] for folder in (images, masks))
    pairs = match_masks(names, others, match=match).pairs
    return {images / image: masks / pair.parts[0].mask for image, pair in pairs.items()}
