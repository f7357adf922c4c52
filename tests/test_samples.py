"""The generated pictures: same seed, same bytes; masks that fit; a folder that is whole."""

import subprocess
import sys

import cv2
import numpy as np
import pytest

from ml_backend import samples
from ml_backend.errors import StoreError
from ml_backend.samples import make_samples
from ml_backend.silhouettes import FORMS, Pen


def _grey(path):
    pixels = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert pixels.ndim == 2
    assert pixels.dtype == np.uint8
    return pixels


def _tree(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A few pictures of both domains."""
    return make_samples(tmp_path_factory.mktemp("a") / "s", count_clean=10, count_noisy=10, seed=1)


@pytest.mark.parametrize("domain", ["clean", "noisy"])
def test_every_image_has_its_mask(made, domain):
    """Same file names, same sizes within the promised ones, masks of 0 and 255, none empty."""
    images, masks = getattr(made, f"{domain}_images"), getattr(made, f"{domain}_masks")
    names = sorted(path.name for path in images.iterdir())
    assert names == sorted(path.name for path in masks.iterdir())
    assert len(names) == 10
    for name in names:
        image, mask = _grey(images / name), _grey(masks / name)
        assert image.shape == mask.shape
        assert image.shape[0] == 256
        assert 256 <= image.shape[1] <= 320
        assert set(np.unique(mask)) == {0, 255}
        assert 0.004 < np.mean(mask > 0) < 0.5


def test_clean_masks_are_what_a_threshold_finds(made):
    """On white, what is dark is in the mask up to its edge, and what is in the mask is dark."""
    for path in sorted(made.clean_images.iterdir()):
        mask = _grey(made.clean_masks / path.name) > 0
        dark = _grey(path) < 225
        edged = cv2.dilate(mask.astype(np.uint8), np.ones((3, 3))) > 0
        assert edged[dark].mean() > 0.995
        assert dark[mask].mean() > 0.97


def test_noisy_is_another_domain(made):
    """Grey, uneven and grainy, with debris about as dark as specimens outside the masks."""
    debris = 0
    for path in sorted(made.noisy_images.iterdir()):
        image, mask = _grey(path).astype(float), _grey(made.noisy_masks / path.name) > 0
        assert 90 < np.median(image) < 220
        assert image[mask].mean() < image[~mask].mean() - 5
        near = cv2.dilate(mask.astype(np.uint8), np.ones((7, 7))) > 0
        debris += (image[~near] < image[mask].mean()).sum()
    assert debris > 1000


def test_the_seed_decides_every_byte(made, tmp_path):
    """Another process makes the same files, and fewer pictures are the first of more."""
    code = (
        "import sys, pathlib; from ml_backend.samples import make_samples;"
        "make_samples(pathlib.Path(sys.argv[1]), count_clean=2, count_noisy=3, seed=1)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "s")], check=True)
    there, here = _tree(tmp_path / "s"), _tree(made.clean_images.parents[1])
    there.pop("samples.json")
    assert len(there) == 10
    assert there == {name: here[name] for name in there}


def test_another_seed_makes_other_pictures(made, tmp_path):
    """Seeds differ in their pictures."""
    other = make_samples(tmp_path / "s", count_clean=1, count_noisy=0, seed=2)
    name = "clean-0000.png"
    assert (other.clean_images / name).read_bytes() != (made.clean_images / name).read_bytes()


def test_a_second_call_changes_nothing(tmp_path):
    """The same call again finds what is there instead of drawing it anew."""
    arguments = {"count_clean": 1, "count_noisy": 1, "seed": 4}
    first = make_samples(tmp_path / "s", **arguments)
    times = [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))]
    assert make_samples(tmp_path / "s", **arguments) == first
    assert [path.stat().st_mtime_ns for path in sorted(tmp_path.rglob("*"))] == times


def test_other_contents_are_left_alone(tmp_path):
    """A folder of someone's files, or of another seed, is refused and stays as it was."""
    (tmp_path / "photo.png").write_bytes(b"mine")
    with pytest.raises(StoreError, match="other files than samples"):
        make_samples(tmp_path)
    with pytest.raises(StoreError, match="cannot write samples"):
        make_samples(tmp_path / "photo.png")
    assert _tree(tmp_path) == {"photo.png": b"mine"}
    make_samples(tmp_path / "s", count_clean=1, count_noisy=0, seed=1)
    with pytest.raises(StoreError, match=r"'seed': 2.*choose another folder"):
        make_samples(tmp_path / "s", count_clean=1, count_noisy=0, seed=2)


def test_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    """A failure half-way leaves no folder, so the next call starts afresh."""
    written = []

    def write(path, pixels):
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        written.append(path)
        path.write_bytes(pixels.tobytes())

    monkeypatch.setattr(samples, "_write", write)
    with pytest.raises(StoreError, match="No space left"):
        make_samples(tmp_path / "s", count_clean=3, count_noisy=0)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", list(FORMS))
def test_every_form_is_one_specimen(name):
    """A form fits its frame, and what is dark is part of it; thin parts hang together."""
    pen = Pen(256, 256, centre=(128, 128), size=80, angle=0.4)
    FORMS[name](pen, np.random.default_rng(0))
    dark, mask = pen.planes()
    assert 0.02 < mask.mean() < 0.3
    assert (dark[mask] > 0.1).mean() > 0.97
    assert dark[~mask].max() < 0.5
    bridged = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5)))  # cells of a chain stand apart
    assert cv2.connectedComponents(bridged)[0] == 2
