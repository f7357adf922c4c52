"""Set maps: what is put in comes out, and unknown pixels stay unknown whatever is done to them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from ml_backend.errors import LabelConfigError, RegionError
from ml_backend.masks import sets
from ml_backend.masks.consensus import vote
from ml_backend.masks.labels import Label, LabelConfig, make_label_config, parse_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.task_image import TaskImage

NAMES = ("cell", "nucleus", "wall")
CONFIG = LabelConfig(
    "brush", "img", TaskImage(), tuple(Label(name, "#ff0000") for name in NAMES), multiple=True
)
SETS = [code << 1 for code in range(8)]  # of three labels
set_maps = hnp.arrays(
    np.uint8,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=9),
    elements=st.sampled_from([*SETS, 255]),
)


def known(set_map: np.ndarray) -> np.ndarray:
    """A set map with its unknown pixels as background."""
    return np.where(set_map == 255, 0, set_map)


@given(
    hnp.arrays(np.bool_, st.tuples(st.integers(1, 7), st.just(4), st.just(5))),
    hnp.arrays(np.bool_, (4, 5)),
)
def test_planes_come_back(planes: np.ndarray, unknown: np.ndarray) -> None:
    """Any planes of up to seven labels are a map and come back, but for what is unknown."""
    set_map = sets.from_planes(planes)
    assert not (set_map & 1).any()
    np.testing.assert_array_equal(sets.planes_of(set_map, len(planes)), planes)
    assert sets.strangers(set_map, len(planes)) == []
    set_map[unknown] = 255
    np.testing.assert_array_equal(sets.planes_of(set_map, len(planes)), planes & ~unknown)


@settings(deadline=None)
@given(set_maps)
def test_regions_come_back(set_map: np.ndarray) -> None:
    """A set map written as regions reads back equal: regions of several labels overlap."""
    results = encode_results(set_map, CONFIG)
    present = sets.planes_of(set_map, 3).any(axis=(1, 2))
    assert [row["value"]["brushlabels"] for row in results] == [
        [name] for name, there in zip(NAMES, present, strict=True) if there
    ]
    decoded = decode_results(results, CONFIG, *set_map.shape)
    np.testing.assert_array_equal(decoded.label_map, known(set_map))


@given(set_maps)
def test_a_map_of_one_label_a_pixel_is_the_label_map(set_map: np.ndarray) -> None:
    """A label map survives as sets; of a set the last label in the config's order is seen."""
    top = sets.on_top(set_map)
    np.testing.assert_array_equal(sets.on_top(sets.from_labels(top)), top)
    highest = [int(code).bit_length() - 1 if code else 0 for code in known(set_map).flat]
    np.testing.assert_array_equal(known(top).ravel(), highest)
    np.testing.assert_array_equal(top == 255, set_map == 255)


@given(set_maps, st.permutations(NAMES), st.sampled_from([(), ("cell",), ("wall", "cell")]))
def test_labels_are_renumbered_by_name(
    set_map: np.ndarray, order: list[str], gone: tuple[str, ...]
) -> None:
    """Sets follow their labels' names; where one of them is gone the pixel is unknown."""
    kept = ["new", *(name for name in order if name not in gone)]
    moved = np.take(sets.renamed(NAMES, kept), set_map)
    unknown = set_map == 255
    for label, name in enumerate(NAMES, 1):
        if name in gone:
            unknown |= sets.plane(set_map, label)
    np.testing.assert_array_equal(moved == 255, unknown)
    for label, name in enumerate(NAMES, 1):
        if name not in gone:
            np.testing.assert_array_equal(
                sets.plane(moved, kept.index(name) + 1), sets.plane(set_map, label) & ~unknown
            )
    assert not sets.plane(moved, 1).any()


@given(set_maps, st.data())
def test_dice_is_that_of_all_planes_together(shown: np.ndarray, data: st.DataObject) -> None:
    """Twice the pairs of pixel and label that both have, over those that either has."""
    submitted = data.draw(hnp.arrays(np.uint8, shown.shape, elements=st.sampled_from([*SETS, 255])))
    here = submitted != 255
    a, b = (sets.planes_of(one, 3)[:, here] for one in (shown, submitted))
    total = a.sum() + b.sum()
    expected = 2 * (a & b).sum() / total if total else 1.0
    assert sets.dice(shown, submitted) == pytest.approx(expected)
    assert sets.dice(submitted, submitted) == 1.0


@given(hnp.arrays(np.uint8, (3, 2, 3), elements=st.sampled_from([*SETS, 255])), st.integers(1, 3))
def test_each_label_is_voted_on_for_itself(maps: np.ndarray, minimum: int) -> None:
    """As the vote of label maps of that label alone; one open question leaves the pixel unknown."""
    merged = vote(list(maps), minimum, overlapping=True)
    each = [
        vote([np.where(m == 255, 255, m >> label & 1).astype(np.uint8) for m in maps], minimum)
        for label in (1, 2, 3)
    ]
    unknown = np.any([one == 255 for one in each], axis=0)
    np.testing.assert_array_equal(merged == 255, unknown)
    for label, one in enumerate(each, 1):
        np.testing.assert_array_equal(sets.plane(merged, label), (one == 1) & ~unknown)


def test_what_is_set_aside_covers_and_is_covered() -> None:
    """Painted over labels it takes their place; labels painted over it take its own."""
    cell, nucleus, both = (np.zeros((1, 4), bool) for _ in range(3))
    cell[0, :3] = nucleus[0, 1:] = both[0, 2] = True
    config = CONFIG.setting_aside(unknown=["nucleus"])

    def painted(*regions: tuple[str, np.ndarray]) -> list[int]:
        maps = {name: encode_results(mask.astype(np.uint8) << 1, CONFIG) for name, mask in regions}
        rows = [
            row | {"id": name, "value": row["value"] | {"brushlabels": name.split("+")}}
            for name, (row,) in maps.items()
        ]
        return decode_results(rows, config, 1, 4).label_map[0].tolist()

    assert config.names == ("cell", "wall")
    assert painted(("cell", cell), ("nucleus", nucleus)) == [2, 255, 255, 255]
    assert painted(("nucleus", nucleus), ("cell", cell)) == [2, 2, 2, 255]
    assert painted(("cell", cell), ("wall", both), ("cell+wall", nucleus)) == [2, 6, 6, 6]
    assert painted(("cell", cell), ("nucleus+wall", both)) == [2, 2, 255, 0]


def test_regions_have_the_mean_of_their_own_labels_scores() -> None:
    """Each label has probabilities of its own, and one pixel counts for several regions."""
    set_map = np.array([[2, 6, 4, 0]], np.uint8)
    scores = np.array([[[0.9, 0.7, 0.1, 0]], [[0, 0.6, 0.8, 0]], [[0, 0, 0, 0]]], np.float32)
    cell, nucleus = encode_results(set_map, CONFIG, scores)
    assert cell["score"] == pytest.approx(0.8)
    assert nucleus["score"] == pytest.approx(0.7)
    with pytest.raises(RegionError, match="one a pixel"):
        encode_results(set_map, CONFIG, scores[0])
    with pytest.raises(RegionError, match="the value 16, but the labeling config has only 3"):
        encode_results(np.full((1, 1), 16, np.uint8), CONFIG)


def test_the_config_says_whether_labels_overlap() -> None:
    """Label Studio's own attribute, in any case; a single label has none to overlap with."""
    multiple = parse_label_config(make_label_config(["a", "b"], multiple=True))
    assert multiple.overlapping
    shouted = make_label_config(["a", "b"], multiple=True).replace("choice=", "CHOICE=")
    assert parse_label_config(shouted).overlapping
    assert not parse_label_config(make_label_config(["a", "b"])).overlapping
    assert not parse_label_config(make_label_config(["a"], multiple=True)).overlapping
    assert not multiple.setting_aside(background=["b"]).overlapping
    choices = '<Choices name="c" toName="image" choice="multiple"><Choice value="x"/></Choices>'
    other = make_label_config(["a", "b"]).replace("</View>", f"{choices}</View>")
    assert not parse_label_config(other).overlapping


def test_a_byte_holds_seven_labels() -> None:
    """More cannot overlap, and the error says what to do."""
    sets.check_count(["x"] * 7)
    with pytest.raises(LabelConfigError, match=r"8 labels.*there may be 7.*labels\.overlap"):
        sets.check_count([f"label {number}" for number in range(8)])
