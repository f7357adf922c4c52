"""The image of a task: found in its data, and written so that Label Studio finds it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import LabelConfigError
from ml_backend.masks.labels import parse_label_config
from ml_backend.masks.task_image import TaskImage

ADDRESS = "/data/upload/7/scan_0.png"
GIVEN = {"x": 0, "y": 0, "width": 9, "height": 9, "name": "a/scan.png", "tile": 3, "round": 1}


def image_of(image: str, more: str = "") -> TaskImage:
    """The image of a config with these attributes of its <Image>."""
    return parse_label_config(
        f'<View><Image name="scan" {image}/>{more}'
        '<BrushLabels name="b" toName="scan"><Label value="cell"/></BrushLabels></View>'
    ).image


@pytest.mark.parametrize(
    ("image", "data", "address"),
    [
        ('value="$image"', {"image": "a.png"}, "a.png"),
        ('value="$image"', {"image": " a.png\n"}, "a.png"),
        ('value="$image"', {"image": ["a.png", "b.png"]}, "a.png"),
        ('value="$image"', {"image": []}, ""),
        ('value="$image"', {"image": {"url": "a.png"}}, ""),
        ('value="$image"', {"image": 7}, ""),
        ('value="$image"', {"image": None}, ""),
        ('value="$image"', {"other": "a.png"}, ""),
        ('value="$image"', {"$undefined$": "a.png"}, "a.png"),
        ('value="$image.url"', {"image": {"url": "a.png"}}, "a.png"),
        ('value="$image.url"', {"image.url": "a.png", "image": "b.png"}, "a.png"),
        ('value="$image.url"', {"image": "b.png"}, ""),
        ('value="$images[0]"', {"images": ["a.png", "b.png"]}, "a.png"),
        ('value="$images[1]"', {"images": ["a.png", "b.png"]}, "b.png"),
        ('value="$images[2]"', {"images": ["a.png", "b.png"]}, ""),
        ('value="$images[0].url"', {"images": [{"url": "a.png"}]}, "a.png"),
        ('value="$a.b[1].c"', {"a": {"b": [0, {"c": "a.png"}]}}, "a.png"),
        ('value="/files/?d=$image"', {"image": "x/a.png"}, "/files/?d=x/a.png"),
        ('value="/files/?d=$image"', {"image": ""}, "/files/?d="),
        ('value="/files/?d=$image"', {}, ""),
        ('value="$base/$file"', {"base": "http://h", "file": "a.png"}, "http://h/a.png"),
        ('value="$base/$file?v=$n"', {"base": "h", "file": "a", "n": 3}, "h/a?v=3"),
        ('valueList="$pages"', {"pages": ["a.png", "b.png"]}, "a.png"),
        ('valueList="$pages"', {"pages": "a.png"}, "a.png"),
        ('value="$größe"', {"größe": "a.png"}, "a.png"),
        ('value="$bild-url"', {"bild-url": "a.png"}, "a.png"),
    ],
)  # fmt: skip
def test_the_address_is_what_label_studio_shows(
    image: str, data: dict[str, Any], address: str
) -> None:
    """Paths, lists, text around variables and several variables are resolved; else it is empty."""
    assert image_of(image).read(data) == address


@pytest.mark.parametrize(
    ("image", "data"),
    [
        ('value="$image"', {"image": ADDRESS}),
        ('value="$image.url"', {"image": {"url": ADDRESS}}),
        ('value="$images[0]"', {"images": [ADDRESS]}),
        ('value="$images[1]"', {"images": ["", ADDRESS]}),
        ('value="$a[0].b"', {"a": [{"b": ADDRESS}]}),
        ('valueList="$pages"', {"pages": [ADDRESS]}),
        ('value="/data/upload/$file"', {"file": "7/scan_0.png"}),
        ('value="/$first/$file"', {"first": "data", "file": "upload/7/scan_0.png"}),
        ('value="$image "', {"image": ADDRESS, "image ": ADDRESS}),
    ],
)
def test_data_are_written_for_every_form(image: str, data: dict[str, Any]) -> None:
    """What is written reads back as the address, beside what must stand in the data."""
    read = image_of(image)
    assert read.write(ADDRESS, GIVEN) == GIVEN | data
    assert read.read(read.write(ADDRESS, GIVEN)) == ADDRESS


def test_further_keys_are_filled() -> None:
    """Text is empty, a second image is the same, a choice has no options, or as one says."""
    more = (
        '<Text name="t" value="$caption"/><Image name="o" value="$other"/>'
        '<Choices name="c" toName="scan" value="$options"/><Text name="n" value="$name"/>'
        '<Text name="m" value="$meta.day"/><Image name="l" valueList="$more"/>'
    )
    image = image_of('value="$image"', more)
    filled = {
        "caption": "", "other": ADDRESS, "options": [], "meta": {"day": ""}, "more": [ADDRESS],
    }  # fmt: skip
    assert image.write(ADDRESS, GIVEN) == GIVEN | {"image": ADDRESS} | filled
    said = image.write(ADDRESS, GIVEN, {"caption": "Field 3", "meta.day": "Monday"})
    assert said["caption"] == "Field 3"
    assert said["meta"] == {"day": "Monday"}


def test_a_config_tells_its_other_keys() -> None:
    """Other keys are those that are not the image's own, by name."""
    xml = (
        '<View><Image name="scan" value="$image.url"/><Text name="t" value="$caption"/>'
        '<BrushLabels name="b" toName="scan"><Label value="cell"/></BrushLabels></View>'
    )
    assert [key.name for key in parse_label_config(xml).other_keys] == ["caption"]


@pytest.mark.parametrize(
    ("image", "more", "message"),
    [
        ('value="/data/local-files/?d=$image"', "", r'<Image name="scan">.*pool.reference'),
        ('value="$image.png"', '<Text name="t" value="$image"/>', "'image'.*<Text>"),
        ('value="$name"', "", "'name' is taken"),
        ('value="$größe"', "", r"in place of \$gr there"),
        ('value="$bild-url"', "", r"in place of \$bild there"),
        ('value="$a$b$c$d$e"', "", "few"),
        ('value="$image"', '<HyperText name="t" value="$x"/>', "'x'.*<HyperText>"),
        ('valueList="$a$b"', "", "would not find"),
    ],
)
def test_what_cannot_be_written_is_refused_with_the_tag(
    image: str, more: str, message: str
) -> None:
    """A config whose page would not show the address is refused, and the tag is named."""
    with pytest.raises(LabelConfigError, match=message) as caught:
        image_of(image, more).write(ADDRESS, GIVEN)
    assert '<Image name="scan">' in str(caught.value)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        ('value="scan.png"', "must name a key"),
        ("", "must name a key"),
        ('value="$images[{{idx}}]"', "Repeater"),
    ],
)
def test_a_config_without_a_usable_image_is_refused(image: str, message: str) -> None:
    """No variable, and the index of a repeater, are refused when the config is read."""
    with pytest.raises(LabelConfigError, match=message) as caught:
        image_of(image)
    assert '<Image name="scan">' in str(caught.value)


PATHS = st.lists(st.sampled_from(["a", "b", "c1", "[0]", "[1]"]), min_size=1, max_size=5)


@given(PATHS, st.text(min_size=1, max_size=20).filter(lambda text: text == text.strip()))
def test_every_path_is_written_and_read(steps: list[str], address: str) -> None:
    """Whatever path a config names, the data written for it hold the address there."""
    path = "".join(step if step[0] == "[" else f".{step}" for step in ["image", *steps])[1:]
    image = image_of(f'value="${path}"')
    assert image.read(image.write(address, GIVEN)) == address
