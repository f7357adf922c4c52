"""Results ⇄ label maps: exact both ways, strict about what does not fit."""

from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from label_studio_sdk.converter import brush
from support.elsewhere import printed_here_and_elsewhere

from ml_backend.errors import MalformedRLE, RegionError
from ml_backend.masks.labels import Label, LabelConfig
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.rle import encode_brush
from ml_backend.masks.task_image import TaskImage

LABELS = (Label("cell", "#ff0000"), Label("wall", "#00ff00"), Label("gap", "#0000ff"))
CONFIG = LabelConfig("tissue", "scan", TaskImage(), LABELS)
PAIR = LabelConfig("tissue", "scan", TaskImage(), LABELS, "paint")
LABEL_MAPS = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
    elements=st.sampled_from([0, 1, 2, 3, 255]),
)


def region(mask: np.ndarray, label: str | None = "cell", **changes: Any) -> dict[str, Any]:
    """Return a region as Label Studio stores it."""
    height, width = mask.shape
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": [label] if label else []}
    return {
        "id": "r1",
        "type": "brushlabels",
        "from_name": "tissue",
        "to_name": "scan",
        "original_width": width,
        "original_height": height,
        "image_rotation": 0,
        "value": value,
    } | changes


@settings(deadline=None)
@given(LABEL_MAPS, st.sampled_from([CONFIG, PAIR]))
def test_round_trip(label_map: np.ndarray, config: LabelConfig) -> None:
    """A label map written as results reads back equal; ignored pixels become background."""
    results = encode_results(label_map, config)
    decoded = decode_results(results, config, *label_map.shape)
    np.testing.assert_array_equal(decoded.label_map, np.where(label_map == 255, 0, label_map))
    assert decoded.notes == ()
    ids = {(result["id"], result["type"]) for result in results}
    assert len(ids) == len(results)


def test_a_region_has_label_studios_fields() -> None:
    """One region a label, with the fields and values that Label Studio expects."""
    label_map = np.array([[0, 1, 1], [3, 0, 0]], np.uint8)
    cell, gap = encode_results(label_map, CONFIG, {1: 0.75})
    expected = region(label_map == 1, id=cell["id"], score=0.75)
    assert cell == expected
    assert cell["value"]["rle"] == brush.mask2rle((label_map == 1).astype(np.uint8) * 255)
    assert gap["value"]["brushlabels"] == ["gap"]
    assert "score" not in gap
    assert encode_results(np.zeros((2, 3), np.uint8), CONFIG) == []


def test_a_pair_of_tags_gets_two_results_of_one_id() -> None:
    """Where brush and labels are two tags, each gets its result and both carry the pixels."""
    paint, kind = encode_results(np.eye(3, dtype=np.uint8), PAIR)
    assert (paint["from_name"], paint["type"]) == ("paint", "brush")
    assert (kind["from_name"], kind["type"], kind["value"]["labels"]) == (
        "tissue",
        "labels",
        ["cell"],
    )
    assert paint["id"] == kind["id"]
    assert paint["value"]["rle"] == kind["value"]["rle"]


def test_arrays_serialise_as_the_lists() -> None:
    """With arrays instead of lists, orjson writes the same JSON."""
    label_map = np.eye(9, dtype=np.uint8)
    fast = encode_results(label_map, CONFIG, as_arrays=True)
    text = orjson.dumps(fast, option=orjson.OPT_SERIALIZE_NUMPY)
    assert orjson.loads(text) == encode_results(label_map, CONFIG)


def test_ids_are_the_same_in_another_process_and_differ_by_salt() -> None:
    """Ids depend on what is written and on the salt, on nothing else."""
    code = (
        "import numpy as np; from ml_backend.masks.labels import *;"
        "from ml_backend.masks.regions import encode_results as e;"
        "c = parse_label_config(make_label_config(['a', 'b']));"
        "print([r['id'] for s in ('', 'x') for r in e(np.eye(3, dtype=np.uint8), c, salt=s)])"
    )
    here, elsewhere = printed_here_and_elsewhere(code)
    assert here == elsewhere
    first, second = eval(here)
    assert first != second


def test_later_regions_cover_earlier_ones() -> None:
    """Where regions overlap, the later one's label stays."""
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :3], right[:, 2:] = True, True
    decoded = decode_results([region(left), region(right, "wall", id="r2")], CONFIG, 2, 4)
    assert decoded.label_map.tolist() == [[1, 1, 2, 2]] * 2


def test_soft_edges_are_cut_in_the_middle() -> None:
    """Alpha of 128 and more is the label, less is not."""
    alpha = np.array([[0, 1, 127, 128, 200, 255]], np.uint8)
    assert decode_results([region(alpha)], CONFIG, 1, 6).label_map.tolist() == [[0, 0, 0, 1, 1, 1]]


def test_what_nobody_knows_is_unknown_and_noted() -> None:
    """Regions of other types and controls, and without a label, are said, not background."""
    mask = np.zeros((4, 4), bool)
    mask[0] = True
    results = [
        {"type": "relation", "from_id": "a", "to_id": "b"},
        {"id": "p", "type": "polygonlabels", "from_name": "poly", "to_name": "scan", "value": {}},
        region(mask, from_name="other"),
        region(np.roll(mask, 1, 0), id="r2", to_name="other"),
        region(np.roll(mask, 2, 0), None, id="bare"),
        {"id": "b", "type": "labels", "from_name": "tissue", "to_name": "scan", "value": {"y": 1}},
        region(np.zeros((4, 4), bool), id="empty"),
    ]
    decoded = decode_results(results, CONFIG, 4, 4)
    assert decoded.label_map.tolist() == [[255] * 4] * 3 + [[0] * 4]
    assert decoded.asides == ("relation",)
    has_not = "which the labeling config does not have"
    for note in (
        "2 regions (p, b) without pixels, shape or label: left out",
        f"region r1 of the control 'other', {has_not} for this image: unknown pixels",
        "region r2 of 'other', which the labeling config has not: unknown pixels",
        "region bare without a label: unknown pixels",
        "region empty (cell) that covers no pixel",
    ):
        assert note in decoded.notes
    assert len(decoded.notes) == 5


def test_regions_of_other_tags_are_left_out() -> None:
    """What is drawn on a second image is none of this one's pixels."""
    other = replace(CONFIG, elsewhere=("second",))
    decoded = decode_results([region(np.ones((2, 2), bool), to_name="second")], other, 2, 2)
    assert not decoded.label_map.any()
    assert decoded.notes == ("regions of 'second' were left out: only 'scan' is learned from",)


def test_two_regions_of_one_id_are_both_kept() -> None:
    """Imported results may repeat an id; other pixels under it are another region."""
    left, right = np.zeros((2, 4), bool), np.zeros((2, 4), bool)
    left[:, :2], right[:, 3:] = True, True
    decoded = decode_results([region(left), region(right, "wall")], CONFIG, 2, 4)
    assert decoded.label_map.tolist() == [[1, 1, 0, 2]] * 2
    pairs = [region(mask, None, type="brush", from_name="paint") for mask in (left, right)] + [
        region(mask, type="labels", value=region(mask)["value"] | {"labels": [name]})
        for mask, name in ((right, "wall"), (left, "gap"))
    ]
    for each in pairs[2:]:
        del each["value"]["brushlabels"]
    decoded = decode_results(pairs, PAIR, 2, 4)
    assert decoded.label_map.tolist() == [[3, 3, 0, 2]] * 2
    assert decoded.notes == ()


IDS = st.none() | st.integers() | st.text(max_size=6) | st.just("same")


@settings(deadline=None)
@given(
    LABEL_MAPS,
    st.lists(IDS, min_size=3, max_size=3),
    st.booleans(),
    st.sampled_from([CONFIG, PAIR]),
)
def test_round_trip_whatever_the_ids_and_sizes(
    label_map: np.ndarray, ids: list[Any], as_text: bool, config: LabelConfig
) -> None:
    """Results read back equal with any ids, also one for all, and with sizes written as text."""
    results = encode_results(label_map, config)
    known = list(dict.fromkeys(result["id"] for result in results))
    for result in results:
        given_id = ids[known.index(result["id"])]
        if config is CONFIG or given_id is not None:  # a pair is one region by its id alone
            result["id"] = given_id
        if as_text:
            result["original_width"] = str(result["original_width"])
            result["original_height"] = f" {result['original_height']}"
        if config is CONFIG:
            result["type"] = result["type"].title()
    decoded = decode_results(results, config, *label_map.shape)
    np.testing.assert_array_equal(decoded.label_map, np.where(label_map == 255, 0, label_map))
    assert decoded.notes == ()


@pytest.mark.parametrize("number", [None, 7, "", "ü☃", "x" * 5000, {"a": 1}])
def test_odd_ids_are_ids(number: Any) -> None:
    """Whatever an id is, its region is read; without ids each result is a region."""
    left, right = np.eye(3, dtype=bool), np.eye(3, dtype=bool)[::-1]
    results = [region(left, id=number), region(right, "wall", id=number)]
    decoded = decode_results(results, CONFIG, 3, 3)
    assert decoded.label_map.tolist() == [[1, 0, 2], [0, 2, 0], [2, 0, 1]]
    broken = region(left, "nope", id=number)
    with pytest.raises(RegionError) as caught:
        decode_results([broken], CONFIG, 3, 3)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    "changes",
    [
        {"type": "BrushLabels"},
        {"type": "labels"},
        {"type": "brush"},
        {"original_width": "4", "original_height": " 4 "},
        {"original_width": 4.0, "original_height": 4.0},
        {"to_name": None},
    ],
)
def test_other_spellings_are_read(changes: dict[str, Any]) -> None:
    """Types in any case, labels under another key than the type's, and sizes as text."""
    mask = np.eye(4, dtype=bool)
    result = region(mask) | changes
    if result["to_name"] is None:
        del result["to_name"]
    decoded = decode_results([result], CONFIG, 4, 4)
    np.testing.assert_array_equal(decoded.label_map, mask)
    assert decoded.notes == ()


@pytest.mark.parametrize("key", ["touches", "maskDataURL"])
def test_a_draft_of_a_brush_is_refused(key: str) -> None:
    """A label whose pixels cannot be read makes the annotation unusable, and says why."""
    value = {"format": "rle", key: [{"points": [1, 2]}], "brushlabels": ["cell"]}
    with pytest.raises(RegionError, match=f"r1 has the label 'cell'.*{key}.*submit it again"):
        decode_results([region(np.eye(3, dtype=bool), value=value)], CONFIG, 3, 3)


def test_a_type_that_is_not_known_is_unknown() -> None:
    """A labelled region of a type to come covers pixels of which nothing is known."""
    mask = np.eye(3, dtype=bool)
    decoded = decode_results([region(mask, type="spraylabels")], CONFIG, 3, 3)
    np.testing.assert_array_equal(decoded.label_map, mask * 255)
    assert "'spraylabels', which is not read" in decoded.notes[0]


@pytest.mark.parametrize("most", [255, 254, 200, 100, 3, 2, 1])
def test_the_threshold_is_half_of_the_regions_own_maximum(most: int) -> None:
    """A brush of low opacity covers what Label Studio shows of it."""
    alpha = np.array([[0, most, max(most - 1, 1), most // 2 - 1 if most > 3 else 0]], np.uint8)
    decoded = decode_results([region(alpha)], CONFIG, 1, 4)
    assert decoded.label_map.tolist() == [[0, 1, 1, 0]]


def test_a_rotated_view_changes_nothing() -> None:
    """Browsers store the mask of the unrotated image, whatever the view was."""
    mask = np.eye(4, dtype=bool)
    assert decode_results([region(mask, image_rotation=90)], CONFIG, 4, 4).label_map.sum() == 4


@pytest.mark.parametrize(
    ("result", "error", "message"),
    [
        (region(np.eye(3, dtype=bool)), RegionError, "r1 was drawn on an image of 3 x 3"),
        (region(np.eye(4, dtype=bool), "x"), RegionError, "r1: .*no label 'x'; it has: 'cell'"),
        (region(np.eye(4, dtype=bool), original_width=[4]), RegionError, "drawn on an image"),
        (region(np.eye(4, dtype=bool), value=None), RegionError, "r1 has no value"),
        (region(np.eye(4, dtype=bool), value={"brushlabels": "cell"}), RegionError, "no list"),
        (
            region(np.eye(4, dtype=bool), value={"rle": [], "brushlabels": ["cell", "wall"]}),
            RegionError,
            "several labels",
        ),
        (
            region(np.eye(4, dtype=bool), value={"rle": [1, 2], "brushlabels": ["cell"]}),
            MalformedRLE,
            "region r1: .*too short",
        ),
        ("junk", RegionError, "result 0 is not a region"),
    ],
)
def test_what_does_not_fit_is_refused(result: Any, error: type[Exception], message: str) -> None:
    """Wrong sizes, unknown labels and broken pixels raise and name the region."""
    with pytest.raises(error, match=message):
        decode_results([result], CONFIG, 4, 4)


@pytest.mark.parametrize(
    "label_map", [np.full((2, 2), 4, np.uint8), np.ones((2, 2), np.int64), np.ones(3, np.uint8)]
)
def test_what_is_no_label_map_is_refused(label_map: np.ndarray) -> None:
    """Values without a label, and arrays of another kind, raise RegionError."""
    with pytest.raises(RegionError, match="label map"):
        encode_results(label_map, CONFIG)
