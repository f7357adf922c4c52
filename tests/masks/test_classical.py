"""Thresholding finds objects on either kind of background."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from ml_backend.errors import ImageUnreadable, UnknownName
from ml_backend.masks.classical import METHODS, foreground_mask

DATA = Path(__file__).parents[2].parent / "shared/data/plankton_ndsb_derived"


def scene(*, background: int, objects: int, noise: float = 4) -> tuple[np.ndarray, np.ndarray]:
    """Return a noisy image of a disc and a ring's filled shape, with specks, and its mask."""
    mask = np.zeros((120, 160), np.uint8)
    cv2.circle(mask, (50, 60), 24, 1, -1)
    cv2.ellipse(mask, (120, 60), (18, 36), 20, 0, 360, 1, -1)
    image = np.where(mask > 0, objects, background).astype(float)
    image[58:62, 48:52] = background  # a hole
    image[5:7, 5:7] = objects  # a speck
    image += np.random.default_rng(0).normal(0, noise, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask.astype(bool)


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two masks."""
    return float((a & b).sum() / (a | b).sum())


@pytest.mark.parametrize("method", list(METHODS))
@pytest.mark.parametrize(("background", "objects"), [(230, 60), (20, 180)])
def test_objects_are_found(method: str, background: int, objects: int) -> None:
    """Dark and light objects are found whole: no holes, no specks."""
    image, mask = scene(background=background, objects=objects)
    for picture in (image, np.repeat(image[..., None], 3, 2)):
        found = foreground_mask(picture, method)
        assert found.dtype == np.bool_
        assert iou(found, mask) > 0.97
        assert found[60, 50]
        assert not found[5, 5]


def test_local_threshold_copes_with_uneven_light() -> None:
    """Where light falls off across the image, the local threshold still finds the objects."""
    image, mask = scene(background=210, objects=90)
    light = np.linspace(1.0, 0.55, image.shape[1])
    assert iou(foreground_mask((image * light).astype(np.uint8), "local"), mask) > 0.9


def test_hysteresis_keeps_faint_appendages() -> None:
    """A faint antenna that touches a dark body belongs to it; a faint spot elsewhere does not."""
    image = np.full((80, 120), 240, np.uint8)
    cv2.circle(image, (40, 40), 18, 40, -1)
    cv2.line(image, (40, 40), (95, 40), 165, 3)
    cv2.circle(image, (40, 40), 18, 40, -1)
    cv2.circle(image, (100, 70), 5, 165, -1)
    assert foreground_mask(image, "hysteresis")[40, 90]
    assert not foreground_mask(image, "hysteresis")[70, 100]


def test_the_threshold_lies_in_the_middle_of_a_gap() -> None:
    """Half of it, which hysteresis takes, must not lie within the background's noise."""
    image, mask = scene(background=25, objects=220, noise=6)
    assert iou(foreground_mask(image, "hysteresis", min_area=9), mask) > 0.97


def test_even_image_has_no_foreground() -> None:
    """Nothing stands out of an even image."""
    assert not foreground_mask(np.full((20, 30), 128, np.uint8)).any()


def test_small_objects_are_kept_on_request() -> None:
    """`min_area` decides what is a speck."""
    image, _ = scene(background=230, objects=60)
    assert foreground_mask(image, min_area=1)[5, 5]


def test_closing_joins_and_opening_cuts() -> None:
    """A body cut by a bright line is whole again, a thin tail is gone; both up to the border."""
    image = np.full((60, 120), 230, np.uint8)
    image[20:40, 0:50] = 40
    image[:, 24:26] = 230
    image[29:31, 50:110] = 40
    plain = foreground_mask(image)
    assert not plain[30, 24]
    assert plain[30, 90]
    shaped = foreground_mask(image, closing=2, opening=3)
    assert shaped[30, 24]
    assert shaped[30, 0]
    assert not shaped[30, 90]
    assert iou(shaped, np.pad(np.ones((20, 50), bool), ((20, 20), (0, 70)))) > 0.97


@pytest.mark.parametrize(("largest", "found"), [(1, 1), (2, 2), (3, 2), (None, 2)])
def test_the_largest_objects_are_kept(largest: int | None, found: int) -> None:
    """One specimen an image: the rest is debris; asking for more than there are changes nothing."""
    image, mask = scene(background=230, objects=60)
    kept = foreground_mask(image, largest=largest)
    count, _ = cv2.connectedComponents(kept.astype(np.uint8))
    assert count - 1 == found
    assert kept[60, 120]  # the ellipse is larger than the disc
    assert not (kept & ~cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))).astype(bool)).any()


def test_unusable_input_is_refused() -> None:
    """Unknown methods list the known ones; other arrays than uint8 images are refused."""
    with pytest.raises(UnknownName, match="hysteresis, local, otsu"):
        foreground_mask(np.zeros((4, 4), np.uint8), "watershed")
    with pytest.raises(ImageUnreadable, match="float64"):
        foreground_mask(np.zeros((4, 4)))


def test_plankton_on_white() -> None:
    """Real silhouettes with faint limbs are found about as by whoever made their masks."""
    images = sorted((DATA / "images").glob("*"))
    if not images:
        pytest.skip("../shared/data/plankton_ndsb_derived is absent")
    masks = {path.stem: path for path in (DATA / "masks").glob("*")}
    scores = []
    for path in images[::6]:
        image = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        mask = cv2.imread(str(masks[path.stem]), cv2.IMREAD_GRAYSCALE) > 127
        scores.append(iou(foreground_mask(image, "hysteresis"), mask))
    assert np.median(scores) > 0.75
