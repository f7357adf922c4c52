"""Pairing by name, and the shared data sets: every image, every mask, every pair."""

import csv
from collections import defaultdict
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml_backend.store.images import decode_image
from ml_backend.store.listing import list_files
from ml_backend.store.mask_matching import match_masks
from ml_backend.store.mask_values import parse_values, read_mask

DATA = Path(__file__).parents[2].parent / "shared/data"


VALUES = {
    "vnc_mitochondria/labels": "0-96=1,128=2,159=3,191=4,223=5,255=6",
    "sandstone_ct": "#0000ff=1,#ff0000=2,#00ff00=3,#ffff00=4",
}
LABELS = {"vnc_mitochondria/labels": 6, "sandstone_ct": 4, "axon_myelin_sem": 2}
COVERAGE = {  # share of the first label, all images of the set together; README.md of the data
    "vnc_mitochondria/mitochondria": 0.054,
    "vnc_mitochondria/membranes": 0.20,
    "vnc_mitochondria/synapses": 0.006,
    "isbi2012_membranes": 1 - 0.22,
}


def true_labels(dataset, pixels):
    """What the data's README says, written down independently of the reader."""
    first = pixels[..., 0] if pixels.ndim == 3 else pixels
    if dataset == "axon_myelin_sem":
        return np.digitize(first, [64, 192])
    if dataset == "sandstone_ct":
        red, green, blue = np.moveaxis(pixels > 127, 2, 0)
        return np.select([blue, red & ~green, green & ~red, red & green], [1, 2, 3, 4], 9)
    if dataset == "vnc_mitochondria/labels":
        return np.select([first == v for v in (128, 159, 191, 223, 255)], [2, 3, 4, 5, 6], 1)
    if dataset in {"dsb2018_nuclei", "copepods_loki"} or pixels.dtype == bool:
        return first > 0
    return first > 127


@cache
def pairs():
    """Dataset → rows of pairs.csv; empty where the data are not on this machine."""
    rows = defaultdict(list)
    if (DATA / "pairs.csv").is_file():
        with (DATA / "pairs.csv").open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                rows[row["dataset"]].append(row)
    return rows


@pytest.fixture
def needs_data():
    """Skip where the shared data sets are not on this machine."""
    if not pairs():
        pytest.skip("the shared data sets are not on this machine")


ROWS = [row for rows in pairs().values() for row in rows]


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["mask"])
def test_real_masks(row):
    """Every mask of pairs.csv reads as its README says, in the size of its image."""
    dataset, path = row["dataset"], DATA / row["mask"]
    with Image.open(DATA / row["image"]) as image:
        shape = (image.height, image.width)
    values = parse_values(VALUES[dataset]) if dataset in VALUES else None
    mask = read_mask(
        path.read_bytes(), path.name, LABELS.get(dataset, 1), values=values, shape=shape
    )
    with Image.open(path) as image:
        assert np.array_equal(mask, true_labels(dataset, np.asarray(image)))


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("dataset", COVERAGE)
def test_real_coverage(dataset):
    """The share of foreground is the README's, which rounds and counts more sections."""
    shares = []
    for row in pairs()[dataset]:
        path = DATA / row["mask"]
        shares.append(read_mask(path.read_bytes(), path.name).mean())
    assert np.mean(shares) == pytest.approx(COVERAGE[dataset], rel=0.16)


@pytest.mark.usefixtures("needs_data")
def test_real_coverage_of_membranes_inverted():
    """Where 0 is the object, `0=1,255=0` finds it."""
    values, shares = parse_values("0=1,255=0"), []
    for row in pairs()["isbi2012_membranes"]:
        path = DATA / row["mask"]
        shares.append(read_mask(path.read_bytes(), path.name, values=values).mean())
    assert np.mean(shares) == pytest.approx(0.22, rel=0.05)


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize("dataset", sorted(pairs()))
def test_real_pairs(dataset):
    """The pairs of pairs.csv are found by name alone."""
    expected = {DATA / row["image"]: DATA / row["mask"] for row in pairs()[dataset]}
    [images] = {path.parent for path in expected}
    [masks] = {path.parent for path in expected.values()}
    names, others = ([file.name for file in list_files(folder)] for folder in (images, masks))
    match = "number" if dataset == "vnc_mitochondria/labels" else "name"
    found = match_masks(names, others, match=match).pairs
    assert {images / i: masks / pair.parts[0].mask for i, pair in found.items()} == expected


@pytest.mark.usefixtures("needs_data")
@pytest.mark.parametrize(
    "folder",
    [
        "axon_myelin_sem",
        "copepods_loki",
        "dsb2018_nuclei",
        "epfl_ca1_6class",
        "isbi2012_membranes",
        "plankton_ndsb_derived",
        "sandstone_ct",
        "vnc_mitochondria",
    ],
)
def test_real_images(folder):
    """Every image of the shared sets reads as the grey or colour that stands in it."""
    images = list_files(DATA / folder / "images")
    assert images
    for path in (Path(image.uri) for image in images):
        decoded = decode_image(path.read_bytes(), path.name)
        with Image.open(path) as image:
            assert np.array_equal(decoded, image.convert("RGB")), path.name
