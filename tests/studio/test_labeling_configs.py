"""Labeling configs in the real Label Studio: what it demands of tasks, and its own templates."""

import itertools

import httpx
import pytest
from support.label_studio import LabelStudio

from ml_backend.errors import StudioRefused
from ml_backend.masks.brush_control import add_brush
from ml_backend.masks.labels import parse_label_config
from ml_backend.studio.client import Studio

pytestmark = pytest.mark.studio

_titles = itertools.count(1)
BRUSH = '<BrushLabels name="tissue" toName="scan"><Label value="cell"/></BrushLabels>'
ADDRESS = "/data/upload/7/scan_0.png"
OTHER_TAGS = {
    "text": '<Text name="t" value="$caption"/>',
    "text beside the variable": '<Text name="t" value="Taken: $caption of $day"/>',
    "header": '<Header name="h" value="$title"/>',
    "second image": '<Image name="second" value="$other"/>',
    "list of images": '<Image name="second" valueList="$others"/>',
    "nested": '<Text name="t" value="$meta.caption"/>',
    "choices of the task": '<Choices name="c" toName="scan" value="$options"/>',
    "labels of the task": '<PolygonLabels name="p" toName="scan" value="$objects"/>',
    "table": '<Table name="t" value="$rows"/>',
    "html": '<HyperText name="t" value="$page"/>',
    "paragraphs": '<Paragraphs name="t" value="$talk"/>',
    "list": '<List name="t" value="$items"/>',
    "its own name": '<Text name="t" value="$name"/>',
}
IMAGES = {
    "plain": 'value="$image"',
    "path": 'value="$image.url"',
    "long path": 'value="$a.b.c"',
    "item": 'value="$images[0]"',
    "second item": 'value="$images[1]"',
    "item of a path": 'value="$set.images[0]"',
    "path of an item": 'value="$images[0].url"',
    "list": 'valueList="$pages"',
    "text before": 'value="/data/$file"',
    "text before a path": 'value="/data/$file.url"',
    "two variables": 'value="/$folder/$file"',
    "variable before text": 'value="$image.png"',
    "a variable first": 'value="$base/upload/$file"',
}


def config_of(image: str, more: str = "") -> str:
    """A labeling config with this image."""
    return f'<View><Image name="scan" {image}/>{more}{BRUSH}</View>'


@pytest.mark.parametrize("image", IMAGES.values(), ids=IMAGES)
def test_tasks_are_taken_whatever_names_the_image(studio: Studio, image: str) -> None:
    """The data that are written for a config are taken by Label Studio and read back as written."""
    labels = parse_label_config(config_of(image))
    project = studio.create_project(f"config {next(_titles)}", config_of(image))
    data = labels.image.write(ADDRESS, {"name": "scan.png", "tile": 3})
    (task_id,) = studio.import_tasks(project.id, [{"data": data}])
    assert labels.image.read(studio.get_task(task_id).data) == ADDRESS


@pytest.mark.parametrize("tag", OTHER_TAGS.values(), ids=OTHER_TAGS)
def test_tasks_are_taken_with_further_keys(studio: Studio, tag: str) -> None:
    """Label Studio refuses a task without the further keys of its config, and takes ours."""
    xml = config_of('value="$image"', tag)
    labels = parse_label_config(xml)
    project = studio.create_project(f"config {next(_titles)}", xml)
    given = {"name": "scan.png", "tile": 3}
    data = labels.image.write(ADDRESS, given)
    (task_id,) = studio.import_tasks(project.id, [{"data": data}])
    assert labels.image.read(studio.get_task(task_id).data) == ADDRESS
    wanted = [key for key in labels.other_keys if key.name not in given and not key.many]
    if wanted:
        bare = {"image": ADDRESS, **given}
        with pytest.raises(StudioRefused, match="key is expected"):
            studio.import_tasks(project.id, [{"data": bare}])


def test_every_template_with_an_image_gets_a_brush(
    label_studio: LabelStudio, studio: Studio
) -> None:
    """Label Studio takes each of its templates with the brush that is added, and tasks for it."""
    headers = {"Authorization": f"Token {label_studio.token}"}
    answer = httpx.get(f"{label_studio.url}/api/templates", headers=headers)
    configs = {row["title"]: row["config"] for row in answer.json()["templates"]}
    configs = {title: xml for title, xml in configs.items() if "<Image" in xml}
    assert len(configs) >= 16
    for title, xml in configs.items():
        changed = add_brush(xml)
        labels = parse_label_config(changed.xml)
        assert labels.names, title
        assert bool(changed.changes) == (changed.xml != xml), title
        project = studio.create_project(f"config {next(_titles)}", changed.xml)
        studio.import_tasks(project.id, [{"data": labels.image.write(ADDRESS)}])
