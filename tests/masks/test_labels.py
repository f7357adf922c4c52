"""Labeling configs: what is read, what is written, what is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.label_names import NASTY, names

from ml_backend.errors import LabelConfigError
from ml_backend.masks.labels import (
    BrushControl,
    Label,
    LabelConfig,
    make_label_config,
    parse_label_config,
)
from ml_backend.masks.task_image import DataKey, TaskImage

BRUSH_LABELS = """
<View>
  <!-- a person's config -->
  <Image name="scan" value="$picture" zoom="true"/>
  <BrushLabels name="tissue" toName="scan">
    <Label value="Nucleus" background="red"/>
    <Label value="Cytoplasm" alias="cyto" background="rgba(0, 128, 255, 0.5)"/>
    <Label value="Other"/>
  </BrushLabels>
</View>
"""

BRUSH_AND_LABELS = """
<View><Labels name="kind" toName="img"><Label value="A"/></Labels>
<Image name="img" value="$image"/><Brush name="paint" toName="img"/></View>
"""


def test_brush_labels_are_read() -> None:
    """Names (the alias where there is one), order, colours and the image's key are read."""
    config = parse_label_config(BRUSH_LABELS)
    assert config == LabelConfig(
        "tissue",
        "scan",
        TaskImage('<Image name="scan">', "$picture", keys=(DataKey(("picture",), "Image"),)),
        (Label("Nucleus", "#ff0000"), Label("cyto", "#0080ff"), Label("Other", "#009e73")),
    )
    assert config.names == ("Nucleus", "cyto", "Other")
    assert [config.index(name) for name in config.names] == [1, 2, 3]


def test_brush_beside_labels_is_read() -> None:
    """A <Brush> and a <Labels> of the same image are one control with two names."""
    config = parse_label_config(BRUSH_AND_LABELS)
    assert (config.control, config.brush, config.names) == ("kind", "paint", ("A",))


def test_case_of_tags_and_attributes_does_not_matter() -> None:
    """Label Studio ignores the case of tags and attributes, so we do."""
    config = parse_label_config(BRUSH_LABELS.replace("BrushLabels", "brushlabels"))
    assert config == parse_label_config(BRUSH_LABELS.replace("toName", "toname"))


def test_the_first_brush_control_of_an_image_is_used() -> None:
    """Among several brush controls the first whose toName is an image wins."""
    xml = """<View><Text name="t" value="$text"/><Image name="i" value="$a"/>
    <BrushLabels name="x" toName="t"><Label value="X"/></BrushLabels>
    <BrushLabels name="y" toName="t,i"><Label value="Y"/></BrushLabels>
    <BrushLabels name="z" toName="i"><Label value="Z"/></BrushLabels></View>"""
    assert parse_label_config(xml).control == "y"


def test_unknown_label_lists_those_there_are() -> None:
    """A label the config does not have raises, with the labels it has."""
    with pytest.raises(LabelConfigError, match="'nope'; it has: 'Nucleus', 'cyto', 'Other'"):
        parse_label_config(BRUSH_LABELS).index("nope")


SEVERAL = """
<View><Image name="scan" value="$image"/><Image name="side" value="$other"/>
  <RectangleLabels name="box" toName="scan"><Label value="Box"/><Label value="Cell"/>
  </RectangleLabels>
  <BrushLabels name="tissue" toName="scan"><Label value="Cell" background="red"/>
    <Label value="Wall"/></BrushLabels>
  <BrushLabels name="more" toName="scan"><Label value="Wall"/><Label value="Gap"/></BrushLabels>
  <Labels name="kind" toName="scan,side"><Label value="Odd"/><Label value="Gap"/></Labels>
  <Polygon name="outline" toName="scan"/>
  <KeyPointLabels name="spot" toName="scan"><Label value="Spot"/></KeyPointLabels>
  <PolygonLabels name="aside" toName="side"><Label value="Aside"/></PolygonLabels>
  <Choices name="quality" toName="scan"><Choice value="good"/></Choices>
</View>
"""


def test_labels_of_several_controls_are_merged() -> None:
    """A name in several controls is one label; the order is that of first appearance."""
    config = parse_label_config(SEVERAL)
    assert config.names == ("Box", "Cell", "Wall", "Gap", "Odd")
    assert config.labels[1].colour == "#ff0000"
    assert config.controls == {"box", "tissue", "more", "kind", "outline"}
    assert (config.control, config.brush) == ("tissue", None)


def test_labels_know_the_brush_control_that_writes_them() -> None:
    """The first brush control writes what it can, others the rest, none a rectangle's label."""
    config = parse_label_config(SEVERAL)
    written = {name: config.written_by(name) for name in config.names}
    tissue, more = BrushControl("tissue", None), BrushControl("more", None)
    assert written == {"Box": None, "Cell": tissue, "Wall": tissue, "Gap": more, "Odd": None}
    pair = parse_label_config(BRUSH_AND_LABELS)
    assert pair.written_by("A") == BrushControl("kind", "paint")


def test_labels_without_a_shape_to_label_do_not_count() -> None:
    """A <Labels> beside nothing that draws cannot label anything of the image."""
    xml = SEVERAL.replace('<Polygon name="outline" toName="scan"/>', "")
    assert parse_label_config(xml).names == ("Box", "Cell", "Wall", "Gap")


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        ("", "not XML"),
        ("<View>", "not XML"),
        ("<View/>", "found: <View>"),
        ('<View><Image name="i" value="$i"/><Choices name="c" toName="i"/></View>', "<Choices>"),
        ('<View><Image name="i" value="$i"/><Brush name="b" toName="i"/></View>', "<Brush>"),
        (BRUSH_AND_LABELS.replace("<Brush", "<Ellipse"), "<Ellipse>"),
        (BRUSH_LABELS.replace('toName="scan"', 'toName="else"'), "no brush control"),
        (BRUSH_LABELS.replace("$picture", "picture"), "must name a key"),
        (BRUSH_LABELS.replace("<Label ", "<Nothing "), "no <Label>"),
        (
            BRUSH_LABELS.replace('<Label value="Other"/>', "<Label/>"),
            '<Label> number 3 of 3 in <BrushLabels name="tissue">.*has no value',
        ),
        (BRUSH_LABELS.replace('"Other"', '"\u200c"'), "printable"),
        (BRUSH_LABELS.replace('"Other"', '"a&#10;b"'), r"a\\nb.*printable"),
        (BRUSH_LABELS.replace('"Other"', '"a\u2028b"'), "printable"),
        (BRUSH_LABELS.replace('"Other"', '"Nucleus"'), "occurs twice"),
        (BRUSH_LABELS.replace('"Other"', '" "'), "printable"),
        ('<!DOCTYPE x [<!ENTITY a "b">]><View/>', "document type"),
    ],
)
def test_unusable_configs_are_refused(xml: str, message: str) -> None:
    """Each unusable config raises LabelConfigError that says what is missing or was found."""
    with pytest.raises(LabelConfigError, match=message):
        parse_label_config(xml)


@pytest.mark.parametrize(
    "inside",
    [
        "<![CDATA[ .a > .b { x: y } <Image/> ]]>",
        "<Style><![CDATA[ a && b ]]></Style>",
        "<!-- <!DOCTYPE x> -->",
        "<?xml-stylesheet href='x'?>",
    ],
)
def test_text_of_any_kind_is_passed_over(inside: str) -> None:
    """CDATA, comments and instructions are no tags."""
    xml = BRUSH_LABELS.replace("</View>", f"{inside}</View>")
    assert parse_label_config(xml) == parse_label_config(BRUSH_LABELS)


def test_a_document_type_is_refused_before_its_entities_are_read() -> None:
    """Entities that multiply are never expanded."""
    entities = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10}">' for n in range(1, 12))
    bomb = f'<!DOCTYPE v [<!ENTITY e0 "x">{entities}]><View>&e11;</View>'
    with pytest.raises(LabelConfigError, match="document type"):
        parse_label_config(bomb)


@pytest.mark.parametrize("depth", [5000])
def test_deep_configs_are_read(depth: int) -> None:
    """Tags inside tags have no limit that would end in an error of Python's own."""
    xml = "<View>" * depth + BRUSH_LABELS + "</View>" * depth
    assert parse_label_config(xml).names == parse_label_config(BRUSH_LABELS).names


def test_the_category_of_a_label_is_read() -> None:
    """`category` is kept as it stands; the first control that has one decides."""
    xml = BRUSH_LABELS.replace('value="Nucleus"', 'value="Nucleus" category="7"')
    assert [label.category for label in parse_label_config(xml).labels] == ["7", None, None]


@given(st.lists(names, min_size=1, max_size=20, unique=True), st.none() | names)
def test_what_is_made_is_read(wanted: list[str], title: str | None) -> None:
    """A config made for any printable names reads back as these names, deterministically."""
    xml = make_label_config(wanted, title)
    config = parse_label_config(xml)
    assert config.names == tuple(wanted)
    assert (config.control, config.to_name, config.image.template) == ("label", "image", "$image")
    assert xml == make_label_config(wanted, title)


def test_every_nasty_name_is_a_label() -> None:
    """Names that other programs stumble over are read as they are written."""
    assert parse_label_config(make_label_config(NASTY)).names == NASTY


@pytest.mark.parametrize("names", [[], [""], ["a", "a"], ["a\n"], [str(k) for k in range(255)]])
def test_unusable_names_are_refused(names: list[str]) -> None:
    """No names, empty, repeated or unprintable ones, and more than a label map holds, raise."""
    with pytest.raises(LabelConfigError):
        make_label_config(names)
