"""Labeling configs in the real Label Studio: what it demands of tasks, and its own templates."""

import itertools
from pathlib import Path

import httpx
import numpy as np
import pytest
from support.browser import StudioPage, open_browser
from support.label_names import NASTY
from support.label_studio import LabelStudio
from support.tasks import png

from ml_backend.errors import StudioRefused
from ml_backend.masks.brush_control import add_brush
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.masks.rle import encode_brush
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


def test_every_nasty_label_name_goes_there_and_back(studio: Studio) -> None:
    """Names of labels come back from Label Studio as they went, in configs and in regions."""
    xml = make_label_config(NASTY)
    project = studio.create_project(f"config {next(_titles)}", xml)
    labels = parse_label_config(studio.get_project(project.id).label_config)
    assert labels.names == NASTY
    label_map = np.arange(1, len(NASTY) + 1, dtype=np.uint8).repeat(4).reshape(-1, 4)
    results = encode_results(label_map, labels)
    prediction = {"result": results, "score": 0.5, "model_version": "v1"}
    body = {"data": labels.image.write(ADDRESS), "predictions": [prediction]}
    (task_id,) = studio.import_tasks(project.id, [body])
    studio.create_annotation(task_id, results)
    task = studio.get_task(task_id)
    for stored in (task.annotations[0], task.predictions[0]):
        decoded = decode_results(stored["result"], labels, *label_map.shape)
        np.testing.assert_array_equal(decoded.label_map, label_map)
        assert decoded.notes == ()


def test_odd_regions_are_stored_as_they_are(studio: Studio) -> None:
    """Label Studio keeps what is imported: one id twice, sizes as text, types in capitals."""
    xml = config_of('value="$image"')
    labels = parse_label_config(xml)
    project = studio.create_project(f"config {next(_titles)}", xml)
    results = []
    for column in (0, 2):
        mask = np.zeros((3, 4), np.uint8)
        mask[:, column] = 100
        (region,) = encode_results((mask > 0).astype(np.uint8), labels)
        value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["cell"]}
        size = {"original_width": "4", "original_height": "3"}
        results.append({**region, **size, "id": "same", "type": "BrushLabels", "value": value})
    (task_id,) = studio.import_tasks(project.id, [{"data": labels.image.write(ADDRESS)}])
    studio.create_annotation(task_id, results)
    stored = studio.get_task(task_id).annotations[0]["result"]
    decoded = decode_results(stored, labels, 3, 4)
    assert decoded.label_map.tolist() == [[1, 0, 1, 0]] * 3
    assert decoded.notes == ()


@pytest.mark.browser
def test_the_page_shows_the_image_whatever_names_it(
    label_studio: LabelStudio, studio: Studio, chromium: Path, tmp_path: Path
) -> None:
    """In a browser each config shows the image that our data name, and our region on it."""
    with open_browser(chromium) as page:
        person = StudioPage(page, label_studio.url)
        person.log_in(label_studio.email, label_studio.password)
        for name, image in IMAGES.items():
            xml = config_of(image, '<Text name="note" value="$caption"/>')
            labels = parse_label_config(xml)
            project = studio.create_project(f"config {next(_titles)}", xml)
            (url,) = studio.upload_images(project.id, [("grey.png", png(64, 90))])
            results = encode_results(np.ones((64, 64), np.uint8), labels)
            prediction = {"result": results, "score": 0.5, "model_version": "v1"}
            body = {"data": labels.image.write(url), "predictions": [prediction]}
            (task_id,) = studio.import_tasks(project.id, [body])
            person.open_task(project.id, task_id)
            assert person.wait_regions(1) == ["cell"], name
        person.screenshot(tmp_path / "last.png")
