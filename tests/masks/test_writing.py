"""Label maps → brush regions: objects, specks, scores, other brush controls, the limit."""

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage

from ml_backend.errors import RegionError
from ml_backend.masks.labels import BrushControl, Label, LabelConfig
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.rle import decode_brush, encode_array
from ml_backend.masks.task_image import TaskImage
from ml_backend.masks.writing import json_size

LABELS = (Label("cell", "#ff0000"), Label("wall", "#00ff00"), Label("gap", "#0000ff"))
CONFIG = LabelConfig("tissue", "scan", TaskImage(), LABELS)
SPLIT = LabelConfig(
    "tissue",
    "scan",
    TaskImage(),
    LABELS,
    others=("kind", "paint", "poly"),
    brushes=(BrushControl("tissue", None), BrushControl("kind", "paint"), None),
)
LABEL_MAPS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 0, 1, 2, 3, 255]),
)
EVERY = np.ones((3, 3), bool)


@settings(deadline=None)
@given(LABEL_MAPS, st.booleans(), st.integers(0, 4))
def test_specks_are_dropped_and_the_rest_reads_back(
    label_map: np.ndarray, instances: bool, minimum_area: int
) -> None:
    """Read back, components of `minimum_area` pixels and more are there, smaller ones not."""
    results = encode_results(label_map, CONFIG, instances=instances, minimum_area=minimum_area)
    decoded = decode_results(results, CONFIG, *label_map.shape)
    expected = np.zeros_like(label_map)
    count = 0
    for value in (1, 2, 3):
        numbers, found = ndimage.label(label_map == value, EVERY)
        for number in range(1, found + 1):
            part = numbers == number
            if part.sum() >= minimum_area:
                expected[part] = value
                count += 1
    np.testing.assert_array_equal(decoded.label_map, expected)
    assert len({result["id"] for result in results}) == len(results)
    assert len(results) == (count if instances else len(np.unique(expected[expected > 0])))


def test_each_object_has_its_own_score() -> None:
    """Of a score a pixel, each region gets the mean over its own pixels."""
    label_map = np.array([[1, 1, 0, 1], [0, 0, 0, 1]], np.uint8)
    scores = np.array([[0.2, 0.4, 0, 0.9], [0, 0, 0, 0.7]], np.float32)
    results = encode_results(label_map, CONFIG, scores, instances=True)
    assert [round(result["score"], 6) for result in results] == [0.3, 0.8]
    masks = [decode_brush(result["value"]["rle"], 2, 4) > 0 for result in results]
    np.testing.assert_array_equal(masks, [label_map * [1, 1, 0, 0], label_map * [0, 0, 0, 1]])
    one, other = encode_results(label_map, CONFIG, {1: 0.5}, instances=True)
    assert one["score"] == other["score"] == 0.5
    with pytest.raises(RegionError, match="one a pixel"):
        encode_results(label_map, CONFIG, scores[:1])


def test_a_stroke_of_one_pixel_is_one_object() -> None:
    """Pixels that touch at corners belong together."""
    assert len(encode_results(np.eye(9, dtype=np.uint8), CONFIG, instances=True)) == 1


def test_labels_are_written_to_the_brush_control_that_has_them() -> None:
    """A label of another brush control goes there; one that no brush has is left out."""
    cell, paint, wall = encode_results(np.array([[1, 2, 3]], np.uint8), SPLIT)
    assert (cell["from_name"], cell["type"]) == ("tissue", "brushlabels")
    assert (paint["from_name"], paint["type"]) == ("paint", "brush")
    assert (wall["from_name"], wall["value"]["labels"]) == ("kind", ["wall"])
    assert decode_results([cell, paint, wall], SPLIT, 1, 3).label_map.tolist() == [[1, 2, 0]]


@given(LABEL_MAPS)
def test_the_size_is_that_of_the_json(label_map: np.ndarray) -> None:
    """The bytes that are counted are those that orjson writes."""
    stream = encode_array(label_map)
    assert json_size(stream) == len(orjson.dumps(list(stream.tobytes())))


def test_too_much_for_a_browser_is_refused() -> None:
    """Beyond the limit the message names bytes and the way out; the limit can be lifted."""
    noise = np.indices((64, 64)).sum(axis=0, dtype=np.uint8) % 2
    size = len(orjson.dumps(encode_results(noise, CONFIG)[0]["value"]["rle"]))
    with pytest.raises(RegionError, match=f"more than 1000 bytes.*{size}.*minimum_area"):
        encode_results(noise, CONFIG, limit=1000)
    assert encode_results(noise, CONFIG, limit=size) == encode_results(noise, CONFIG, limit=None)
