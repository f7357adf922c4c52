"""A brush for configs that have none: the old controls stay, the labels are theirs."""

import difflib

import pytest

from ml_backend.errors import LabelConfigError
from ml_backend.masks.brush_control import add_brush
from ml_backend.masks.labels import parse_label_config

BOXES = """<View>
  <!-- a person's remark -->
  <Image name="image" value="$image"/>
  <RectangleLabels name="label" toName="image">
    <Label value="Airplane" background="green"/>
    <Label value="Car" alias="car" hotkey="c" category="7"/>
  </RectangleLabels>
</View>
<!-- { "data": { "image": "x.png" } } -->"""

ADDED = """\
+  <BrushLabels name="brush" toName="image">
+    <Label value="Airplane" background="green"/>
+    <Label value="Car" alias="car" category="7"/>
+  </BrushLabels>"""


TO = "name='p' toName='i'"
KEY_POINTS = (
    "<KeyPointLabels name='q' toName='i'><Label value='B'/><Label value='A'/></KeyPointLabels>"
)
ENDS = "<Choice value='A'/><Choice value='B'/>"


def lines(before: str, after: str) -> list[str]:
    """The changed lines of a unified diff."""
    diff = list(difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm=""))
    return [line for line in diff[2:] if not line.startswith("@@")]


def test_a_brush_gets_the_labels_of_the_boxes() -> None:
    """Only lines are added, behind the control whose labels they repeat, comments untouched."""
    added = add_brush(BOXES)
    assert lines(BOXES, added.xml) == ADDED.splitlines()
    assert added.changes == ('<BrushLabels name="brush" toName="image">: Airplane, car',)
    labels = parse_label_config(added.xml)
    assert (labels.control, labels.names, labels.others) == (
        "brush",
        ("Airplane", "car"),
        ("label",),
    )


@pytest.mark.parametrize(
    ("inside", "names"),
    [
        (f"<PolygonLabels {TO}><Label value='A'/></PolygonLabels>", "A"),
        (f"<EllipseLabels {TO}><Label value='A'/></EllipseLabels>", "A"),
        (f"<KeyPointLabels {TO}><Label value='A'/></KeyPointLabels>", "A"),
        (f"<VectorLabels {TO}><Label value='A'/></VectorLabels>", "A"),
        (f"<RectangleLabels {TO}><Label value='A'/></RectangleLabels>{KEY_POINTS}", "A, B"),
        (f"<Choices {TO}><Choice value='A'/><Choice value='B'/></Choices>", "A, B"),
        (f"<Taxonomy {TO}><Choice value='T'>{ENDS}</Choice></Taxonomy>", "A, B"),
        (f"<Labels {TO}><Label value='A'/></Labels><Polygon name='r' toName='i'/>", "A"),
        (f"<TextArea {TO}/>", "Object"),
        (f"<RectangleLabels {TO} value='$objects'/>", "Object"),
        ("", "Object"),
        (f"<Text name='brush' value='$t'/><Rating {TO}/>", "Object"),
        (f"<VectorLabels {TO}><Label value='&quot;A&quot; &lt; ü'/></VectorLabels>", '"A" < ü'),
    ],
)
def test_every_control_gives_its_labels(inside: str, names: str) -> None:
    """Labels come from what draws, else from choices, else there is one; all parse."""
    xml = f'<View><Image name="i" value="$image"/>{inside}</View>'
    added = add_brush(xml)
    assert ", ".join(parse_label_config(added.xml).names) == names
    assert len(added.changes) == 1
    assert all(part in added.xml for part in inside.replace("><", ">\n<").split("\n"))


def test_labels_may_be_named() -> None:
    """Labels that are named are those of the brush, whatever else is there."""
    xml = '<View><Image name="i" value="$image"/><TextArea name="p" toName="i"/></View>'
    assert parse_label_config(add_brush(xml, ("cell", "a & b")).xml).names == ("cell", "a & b")


def test_a_config_with_a_brush_stays() -> None:
    """There is nothing to change where a brush is there."""
    xml = add_brush(BOXES).xml
    assert add_brush(xml) == type(add_brush(xml))(xml)


@pytest.mark.parametrize("xml", ["<View/>", '<View><Text name="t" value="$t"/></View>'])
def test_a_config_without_an_image_is_refused(xml: str) -> None:
    """Nothing can be painted on text."""
    with pytest.raises(LabelConfigError, match="no <Image>"):
        add_brush(xml)


def test_of_several_images_the_one_with_labels_is_painted() -> None:
    """The image is the one whose control gives the labels, and the place is behind it."""
    xml = (
        '<View><Image name="a" value="$a"/><Image name="b" value="$b"></Image>'
        '<View><RectangleLabels name="r" toName="b"><Label value="A"/></RectangleLabels></View>'
        "</View>"
    )
    added = add_brush(xml)
    assert parse_label_config(added.xml).to_name == "b"
    assert added.xml.replace("\n", "").endswith("</BrushLabels></View></View>")
