"""Every view of the registry has an exact inverse."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import ConfigError
from ml_backend.learning.views import VIEWS, draw_views


def _image(height, width):
    return np.arange(height * width * 3, dtype=np.uint32).astype(np.uint8).reshape(height, width, 3)


@pytest.mark.parametrize("name", list(VIEWS))
@given(height=st.integers(1, 9), width=st.integers(1, 9))
def test_undo_takes_apply_back(name, height, width):
    """Pixels that travel through a view as channels come home to where they were."""
    image = _image(height, width)
    shown = VIEWS[name].apply(image)
    assert shown.flags.c_contiguous
    answer = np.moveaxis(shown, 2, 0).astype(np.float32)
    np.testing.assert_array_equal(VIEWS[name].undo(answer), np.moveaxis(image, 2, 0))


def test_views_are_all_different():
    """No two views of an asymmetric image look alike: these are all eight symmetries."""
    shown = {name: VIEWS[name].apply(_image(5, 5)).tobytes() for name in VIEWS}
    assert len(set(shown.values())) == len(shown) == 8


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("hflip", lambda image: image[:, ::-1]),
        ("vflip", lambda image: image[::-1]),
        ("transpose", lambda image: image.swapaxes(0, 1)),
        ("rot90", np.rot90),
    ],
)
def test_names_mean_what_they_say(name, expected):
    """The names are those of the literature, checked against numpy."""
    np.testing.assert_array_equal(VIEWS[name].apply(_image(4, 7)), expected(_image(4, 7)))


@given(views=st.integers(1, 8), seed=st.integers(0, 99))
def test_views_are_drawn_without_repeats(views, seed):
    """The plain view comes first, the others are different ones, decided by the seed."""
    names = draw_views(views, np.random.default_rng(seed))
    assert names[0] == "identity"
    assert len(set(names)) == views
    assert set(names) <= set(VIEWS)
    assert names == draw_views(views, np.random.default_rng(seed))


def test_more_views_than_there_are():
    """Nine different views do not exist, and the message names the key."""
    with pytest.raises(ConfigError, match=r"scoring\.views"):
        draw_views(9, np.random.default_rng(0))
