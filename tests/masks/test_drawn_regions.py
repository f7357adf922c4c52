"""Regions as Label Studio's front end writes them → label maps, stacks and ignore areas."""

import base64
from dataclasses import replace
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ml_backend.errors import LabelConfigError, RegionError
from ml_backend.masks.labels import LabelConfig, parse_label_config
from ml_backend.masks.regions import decode_results
from ml_backend.masks.rle import encode_brush
from ml_backend.masks.sets import planes_of

HEIGHT, WIDTH = 10, 20
CONFIG = parse_label_config("""
<View><Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img"><Label value="cell"/><Label value="wall"/></BrushLabels>
  <PolygonLabels name="poly" toName="img"><Label value="wall"/><Label value="gap"/></PolygonLabels>
  <RectangleLabels name="rect" toName="img"><Label value="cell"/></RectangleLabels>
  <EllipseLabels name="oval" toName="img"><Label value="cell"/></EllipseLabels>
  <BitmaskLabels name="bits" toName="img"><Label value="cell"/></BitmaskLabels>
  <Labels name="kind" toName="img"><Label value="gap"/></Labels>
  <Brush name="bare-brush" toName="img"/><Polygon name="bare-poly" toName="img"/>
  <Rectangle name="bare-rect" toName="img"/><Ellipse name="bare-oval" toName="img"/>
  <Choices name="quality" toName="img" perRegion="true"><Choice value="good"/></Choices>
</View>
""")
BOX = {"x": 10.0, "y": 20.0, "width": 25.0, "height": 30.0, "rotation": 0}  # x 2-6, y 2-4
OUTLINE = {"points": [[10, 20], [35, 20], [35, 50], [10, 50]], "closed": True}
OVAL = {"x": 50, "y": 50, "radiusX": 10, "radiusY": 20, "rotation": 0}  # a disc of 2 pixels
BOX_MASK = np.zeros((HEIGHT, WIDTH), bool)
BOX_MASK[2:5, 2:7] = True


def data_url(mask: np.ndarray) -> str:
    """Return a bitmask as browsers write it: black, its alpha the mask."""
    pixels = np.zeros((*mask.shape, 4), np.uint8)
    pixels[..., 3] = mask * np.uint8(255)
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def region(
    kind: str, origin: str, value: dict[str, Any], label: str | None = None, **changes: Any
) -> dict[str, Any]:
    """Return a result with the fields that Label Studio 1.23 writes."""
    return {
        "id": "r1",
        "type": kind,
        "from_name": origin,
        "to_name": "img",
        "original_width": WIDTH,
        "original_height": HEIGHT,
        "image_rotation": 0,
        "origin": "manual",
        "value": value | ({kind: [label]} if label else {}),
    } | changes


def painted(*results: dict[str, Any], **options: Any) -> np.ndarray:
    """Return the label map of results that leave no note."""
    decoded = decode_results(results, CONFIG, HEIGHT, WIDTH, **options)
    assert decoded.notes == ()
    return decoded.label_map


BRUSH = {"format": "rle", "rle": encode_brush(BOX_MASK)}


@pytest.mark.parametrize(
    ("kind", "origin", "value"),
    [
        ("brushlabels", "brush", BRUSH),
        ("polygonlabels", "poly", OUTLINE),
        ("rectanglelabels", "rect", BOX),
        ("bitmasklabels", "bits", {"imageDataURL": data_url(BOX_MASK)}),
    ],
)
def test_each_control_with_labels_is_read(kind: str, origin: str, value: dict[str, Any]) -> None:
    """Each control's region has its pixels and its label, whatever control the label is of."""
    label = "wall" if origin == "poly" else "cell"
    mask = painted(region(kind, origin, value, label))
    np.testing.assert_array_equal(mask, BOX_MASK * CONFIG.index(label))


@pytest.mark.parametrize(
    ("shape", "value"), [("brush", BRUSH), ("polygon", OUTLINE), ("rectangle", BOX)]
)
def test_a_shape_beside_labels_is_read(shape: str, value: dict[str, Any]) -> None:
    """Two results of one id, of the shape's tag and of <Labels>, are one region."""
    origin = {"brush": "bare-brush", "polygon": "bare-poly", "rectangle": "bare-rect"}[shape]
    parts = [region(shape, origin, value), region("labels", "kind", value, "gap")]
    for order in (parts, parts[::-1]):
        np.testing.assert_array_equal(painted(*order), BOX_MASK * CONFIG.index("gap"))


def test_radii_of_an_ellipse_are_percent_of_width_and_of_height() -> None:
    """10 % of 20 pixels and 20 % of 10 pixels is a disc of radius 2."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    disc = np.hypot(rows - 5, columns - 10) <= 2
    mask = painted(region("ellipselabels", "oval", OVAL, "cell"))
    np.testing.assert_array_equal(mask, disc)
    turned = painted(region("ellipselabels", "oval", OVAL | {"rotation": 33}, "cell"))
    np.testing.assert_array_equal(turned, disc)


def test_a_rectangle_turns_clockwise_about_its_top_left_corner() -> None:
    """After a quarter turn about (8, 2), 5 x 3 pixels lie below it and to its left."""
    box = BOX | {"x": 40.0, "rotation": 90}
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:7, 5:8] = 1
    result = region("rectanglelabels", "rect", box, "cell")
    np.testing.assert_array_equal(painted(result), expected)


@given(st.integers(0, 6), st.integers(0, 6), st.integers(1, 7), st.integers(1, 7))
def test_percent_of_whole_pixels_are_whole_pixels(x: int, y: int, across: int, down: int) -> None:
    """Rectangles on pixel edges have exactly these pixels, though percents are rounded."""
    height, width = 13, 17
    value = {"x": x / 0.17, "y": y / 0.13, "width": across / 0.17, "height": down / 0.13}
    result = region("rectanglelabels", "rect", value, "cell", original_width=17, original_height=13)
    expected = np.zeros((height, width), np.uint8)
    expected[y : y + down, x : x + across] = 1
    decoded = decode_results([result], CONFIG, height, width)
    np.testing.assert_array_equal(decoded.label_map, expected)


def stacked(results: list[dict[str, Any]], config: LabelConfig) -> np.ndarray:
    """Return the planes of the labels, (K, H, W), where they may overlap."""
    decoded = decode_results(results, replace(config, multiple=True), HEIGHT, WIDTH)
    return planes_of(decoded.label_map, len(config.labels))


def test_later_regions_win_in_the_map_and_the_stack_keeps_all() -> None:
    """Overlaps have one label in the label map, both in the stack; a label may recur."""
    results = [
        region("rectanglelabels", "rect", BOX, "cell"),
        region("polygonlabels", "poly", OUTLINE, "wall", id="r2"),
        region("ellipselabels", "oval", OVAL, "cell", id="r3"),
    ]
    mask = painted(*results)
    assert (mask[BOX_MASK] == 2).all()
    assert mask[5, 10] == 1
    stack = stacked(results, CONFIG)
    assert stack.shape == (3, HEIGHT, WIDTH)
    np.testing.assert_array_equal(stack[0], BOX_MASK | ((mask == 1) & ~BOX_MASK))
    np.testing.assert_array_equal(stack[1], BOX_MASK)
    assert not stack[2].any()


def test_a_region_of_several_labels_is_in_all_their_layers() -> None:
    """A stack has room for a region with two labels; a label map has not and refuses it."""
    two = region("polygonlabels", "poly", OUTLINE | {"polygonlabels": ["wall", "gap"]})
    stack = stacked([two], CONFIG)
    np.testing.assert_array_equal(stack[1:], [BOX_MASK, BOX_MASK])
    with pytest.raises(RegionError, match=r"several labels \(wall, gap\)"):
        painted(two)


@pytest.mark.parametrize(("role", "value"), [("unknown", 255), ("background", 0)])
def test_labels_that_are_set_aside_cover_but_are_not_learned(role: str, value: int) -> None:
    """They become 255 or 0 over earlier regions, under later ones; the others move up."""
    results = [
        region("polygonlabels", "poly", OUTLINE, "gap"),
        region("polygonlabels", "poly", OUTLINE, "wall", id="r2"),
        region("rectanglelabels", "rect", BOX | {"width": 5.0}, "cell", id="r3"),
    ]
    config = CONFIG.setting_aside(**{role: ["wall"]})
    assert config.names == ("cell", "gap")
    assert config.controls == CONFIG.controls
    decoded = decode_results(results, config, HEIGHT, WIDTH)
    assert decoded.notes == ()
    np.testing.assert_array_equal(decoded.label_map[2:5, 2], [1] * 3)
    np.testing.assert_array_equal(decoded.label_map[2:5, 3:7], np.full((3, 4), value))
    assert not decoded.label_map[~BOX_MASK].any()
    stack = stacked(results, config)
    assert stack.shape[0] == 2
    np.testing.assert_array_equal(stack[1], decoded.label_map == 2)


def test_a_label_that_is_gone_is_unknown_and_said() -> None:
    """Regions of a label that the config had once become 255; others are refused as before."""
    results = [
        region("polygonlabels", "poly", OUTLINE, "old", id="r1"),
        region("polygonlabels", "poly", OUTLINE, "old", id="r2"),
    ]
    decoded = decode_results(results, CONFIG.setting_aside(former=["old"]), HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded.label_map, np.where(BOX_MASK, 255, 0))
    (note,) = decoded.notes
    assert "no longer has the label 'old'" in note
    assert "(2)" in note
    with pytest.raises(RegionError, match="no label 'old'"):
        decode_results(results, CONFIG, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    ("aside", "message"),
    [
        ({"unknown": ["nope"]}, "no label 'nope'; it has: 'cell', 'wall', 'gap'"),
        ({"background": ["nope"]}, "no label 'nope'"),
        ({"unknown": ["wall"], "background": ["wall"]}, "'wall' cannot be unknown and background"),
        ({"unknown": ["cell", "wall"], "background": ["gap"]}, "no label is left"),
    ],
)
def test_what_cannot_be_set_aside_is_named(aside: dict[str, list[str]], message: str) -> None:
    """Names that are no labels, one in two roles, and all of them."""
    with pytest.raises(LabelConfigError, match=message):
        CONFIG.setting_aside(**aside)


def test_unpainted_may_mean_unknown() -> None:
    """With `unpainted_unknown` only painted pixels are known; without any, none is."""
    mask = painted(region("rectanglelabels", "rect", BOX, "cell"), unpainted_unknown=True)
    np.testing.assert_array_equal(mask, np.where(BOX_MASK, 1, 255))
    assert (painted(unpainted_unknown=True) == 255).all()


@pytest.mark.parametrize("rotation", [0, 90, 180, 270, None])
def test_a_turned_view_and_other_fields_change_nothing(rotation: int | None) -> None:
    """Label Studio turns, hides and locks in the view only; regions are the unturned image's."""
    result = region(
        "polygonlabels", "poly", OUTLINE, "wall", image_rotation=rotation, hidden=True, locked=True
    )
    np.testing.assert_array_equal(painted(result), BOX_MASK * 2)


def test_what_covers_no_area_is_noted_once_a_kind() -> None:
    """Key points are said and left out, open polygons unknown; choices and relations are asides."""
    spot = {"x": 1, "y": 1, "width": 1}
    results = [
        region("choices", "quality", BOX | {"choices": ["good"]}, id="a"),
        region("choices", "quality", BOX | {"choices": ["good"], "labels": ["cell"]}, id="b"),
        {"type": "relation", "from_id": "a", "to_id": "b", "direction": "right"},
        region("keypointlabels", "spot", spot, "Spot", id="c"),
        region("labels", "kind", spot, "gap", id="d"),
        region("polygonlabels", "poly", OUTLINE | {"closed": False}, "gap", id="e"),
        region("polygonlabels", "poly", OUTLINE, "gap", id="f", item_index=1),
    ]
    decoded = decode_results(results, CONFIG, HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded.label_map, BOX_MASK * 255)
    assert decoded.asides == ("choices", "relation")
    said = (
        "type keypointlabels",
        "further images",
        "type labels",
        "region e of a polygon that was not",
    )
    assert len(decoded.notes) == len(said)
    for word in said:
        assert any(word in note for note in decoded.notes)


ASSISTED = """
<View><Image name="img" value="$image"/>
  <BrushLabels name="brush" toName="img"><Label value="cell"/></BrushLabels>
  <RectangleLabels name="rect" toName="img" smart="true"><Label value="cell"/><Label value="gap"/>
  </RectangleLabels>
  <KeyPointLabels name="spot" toName="img" smartOnly="true"><Label value="cell"/></KeyPointLabels>
  <BrushLabels name="auto" toName="img" smart="True"><Label value="cell"/></BrushLabels>
</View>"""


def test_prompts_of_an_assistant_are_no_masks() -> None:
    """What smart controls draw of others' labels is a question, of their own it is a mask."""
    config = parse_label_config(ASSISTED)
    assert config.control == "brush"
    results = [
        region("rectanglelabels", "rect", BOX, "cell", id="a"),
        region("brushlabels", "auto", BRUSH, "cell", id="b"),
        region("keypointlabels", "spot", {"x": 1, "y": 1, "width": 1}, "cell", id="c"),
    ]
    decoded = decode_results(results, config, HEIGHT, WIDTH)
    assert not decoded.label_map.any()
    assert decoded.asides == ("prompts (rectanglelabels)", "prompts (brushlabels)")
    own = decode_results([region("rectanglelabels", "rect", BOX, "gap")], config, HEIGHT, WIDTH)
    np.testing.assert_array_equal(own.label_map, BOX_MASK * config.index("gap"))
    masks = decode_results(results, replace(config, prompts=()), HEIGHT, WIDTH)
    np.testing.assert_array_equal(masks.label_map, BOX_MASK)


def test_a_smart_shape_beside_labels_prompts() -> None:
    """A smart <Rectangle> prompts with the labels that a <Brush> paints; alone it draws."""
    xml = (
        '<View><Image name="img" value="$image"/><Labels name="kind" toName="img">'
        '<Label value="a"/></Labels><Rectangle name="rect" toName="img" smart="true"/>'
        '<Brush name="b" toName="img"/>'
        "</View>"
    )
    config = parse_label_config(xml)
    pair = [region("rectangle", "rect", BOX), region("labels", "kind", BOX, "a")]
    assert not decode_results(pair, config, HEIGHT, WIDTH).label_map.any()
    painted_pair = [region("brush", "b", BRUSH), region("labels", "kind", BRUSH, "a")]
    assert decode_results(painted_pair, config, HEIGHT, WIDTH).label_map.any()


def test_a_brush_that_is_smart_alone_paints() -> None:
    """Where no other control has the label, a smart brush is a brush, and predictions go there."""
    xml = (
        '<View><Image name="img" value="$image"/>'
        '<BrushLabels name="auto" toName="img" smart="true"><Label value="cell"/></BrushLabels>'
        '<RectangleLabels name="rect" toName="img"><Label value="cell"/></RectangleLabels></View>'
    )
    config = parse_label_config(xml)
    assert (config.control, config.prompts) == ("auto", ())
    decoded = decode_results([region("brushlabels", "auto", BRUSH, "cell")], config, HEIGHT, WIDTH)
    np.testing.assert_array_equal(decoded.label_map, BOX_MASK)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (region("rectanglelabels", "rect", BOX | {"x": "1"}, "cell"), "r1: x must be a number"),
        (region("rectanglelabels", "rect", {"x": 1, "y": 1, "width": 5}, "cell"), "can be read"),
        (region("ellipselabels", "oval", {"x": 1, "y": 1}, "cell"), "'cell', but no brush pixels"),
        (region("bitmasklabels", "bits", {}, "cell"), "'cell', but no brush pixels"),
        (region("rectanglelabels", "rect", BOX | {"y": float("nan")}, "cell"), "y must be"),
        (region("ellipselabels", "oval", OVAL | {"rotation": True}, "cell"), "rotation must"),
        (region("polygonlabels", "poly", {"points": [[1, 2], [3]]}, "wall"), "r1: a polygon's"),
        (region("polygonlabels", "poly", {"points": "x"}, "wall"), "a polygon's points"),
        (region("polygonlabels", "poly", {"points": [[1, float("inf")]]}, "wall"), "points"),
        (region("polygonlabels", "poly", OUTLINE, "new"), "'new'; it has: 'cell', 'wall', 'gap'"),
        (
            region("polygonlabels", "poly", OUTLINE, "wall", original_width=40),
            "r1 was drawn on an image of 40 x 10 pixels, but the image has 20 x 10",
        ),
        (region("polygonlabels", "poly", OUTLINE, "wall", image_rotation=45), "by quarters"),
        (region("bitmasklabels", "bits", {"imageDataURL": "http://x/y.png"}, "cell"), "data URL"),
        (
            region("bitmasklabels", "bits", {"imageDataURL": "data:image/png;base64,AAAA"}, "cell"),
            "r1: a bitmask that cannot be read",
        ),
        (
            region("bitmasklabels", "bits", {"imageDataURL": data_url(np.eye(3))}, "cell"),
            "a bitmask of 3 x 3 pixels, but the image has 20 x 10",
        ),
    ],
)
def test_what_cannot_be_drawn_is_refused(result: dict[str, Any], message: str) -> None:
    """Broken numbers, unknown labels, other sizes and other angles raise and name the region."""
    with pytest.raises(RegionError, match=message.replace("(", r"\(")):
        decode_results([result], CONFIG, HEIGHT, WIDTH)
