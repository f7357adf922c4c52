"""Every kind of region, drawn in Chromium, arrives as the right pixels of a mask."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from support.browser import StudioPage, open_browser, stroke_mask
from support.drawing import Drawing, Point, ellipse_mask, polygon_mask, turned
from support.label_studio import LabelStudio
from support.tasks import png

from ml_backend.loop.context import Context, open_context, silent
from ml_backend.loop.masks import load_mask
from ml_backend.loop.sync import sync
from ml_backend.settings import Settings
from ml_backend.studio.models import ProjectInfo

pytestmark = [pytest.mark.studio, pytest.mark.browser, pytest.mark.timeout(900)]

SIDE = 800
CONFIG = """<View>
  <Image name="image" value="$image" zoom="true"/>
  <BrushLabels name="brush" toName="image"><Label value="stroke"/></BrushLabels>
  <PolygonLabels name="outline" toName="image">
    <Label value="polygon"/><Label value="ring"/><Label value="patch"/>
  </PolygonLabels>
  <RectangleLabels name="box" toName="image" canRotate="true">
    <Label value="upright"/><Label value="turned"/>
  </RectangleLabels>
  <EllipseLabels name="oval" toName="image">
    <Label value="level"/><Label value="tilted"/><Label value="flipped"/>
  </EllipseLabels>
</View>"""

STROKE = [(50.0, 60.0), (400.0, 60.0), (400.0, 130.0)]
ERASED = [(100.0, 20.0), (160.0, 100.0), (220.0, 20.0), (280.0, 100.0), (340.0, 20.0)]
POLYGON = [(50.0, 180.0), (330.0, 210.0), (290.0, 390.0), (170.0, 300.0), (70.0, 380.0)]
PATCH = [(200.0, 230.0), (300.0, 240.0), (270.0, 300.0)]
# Polygons of Label Studio have no holes: people lead the outline in and out through a slit.
RING = [
    *[(60.0, 440.0), (340.0, 440.0), (340.0, 740.0), (204.0, 740.0), (204.0, 650.0)],
    *[(270.0, 650.0), (270.0, 530.0), (140.0, 530.0), (140.0, 650.0), (196.0, 650.0)],
    *[(196.0, 740.0), (60.0, 740.0)],
]
HOLE = (slice(535, 645), slice(145, 265))


@pytest.fixture(scope="module")
def person(label_studio: LabelStudio, chromium: Path) -> Iterator[StudioPage]:
    """Somebody who has logged in, in a window that shows the whole image."""
    with open_browser(chromium, 1600, 1400) as page:
        person = StudioPage(page, label_studio.url)
        person.log_in(label_studio.email, label_studio.password)
        yield person


@pytest.fixture
def context(label_studio: LabelStudio, tmp_path: Path) -> Iterator[Context]:
    """A new catalog over the real Label Studio."""
    settings = Settings(
        home=tmp_path / "home",
        label_studio_url=label_studio.url,
        label_studio_api_key=label_studio.personal_token,
    )
    with open_context(settings) as context, context.studio:
        yield context


@pytest.fixture
def project(context: Context) -> ProjectInfo:
    """A project with every control that encloses an area and one grey image in one task."""
    project = context.studio.create_project("Drawing", CONFIG)
    (url,) = context.studio.upload_images(project.id, [("grey.png", png(SIDE, 90))])
    context.studio.import_tasks(project.id, [{"data": {"image": url}}])
    context.catalog.projects.save(project.id, title=project.title, label_config=CONFIG)
    return project


def pulled(context: Context, project: ProjectInfo) -> dict[str, np.ndarray]:
    """Sync, and give each label's pixels; nothing where the image has no mask."""
    report = sync(context, project.id, silent)
    assert report.numbers["unusable"] == 0
    names = context.labels(context.catalog.projects.get(project.id)).names
    for item in context.catalog.work.labelled(project.id):
        label_map = load_mask(context.blobs, item.mask, names)
        return {name: label_map == value for value, name in enumerate(names, 1)}
    return {}


def assert_alike(found: np.ndarray, wanted: np.ndarray, least: float, what: str) -> None:
    """Compare two masks by their intersection over union."""
    iou = (found & wanted).sum() / (found | wanted).sum()
    assert iou >= least, f"{what}: IoU {iou:.3f}, {found.sum()} pixels for {wanted.sum()}"


def corners(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The corners of an upright rectangle, clockwise."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def filled(points: list[Point]) -> np.ndarray:
    """The pixels of a polygon."""
    return polygon_mask(points, SIDE, SIDE)


def oval(x: float, y: float, radius_x: float, radius_y: float, degrees: float = 0) -> np.ndarray:
    """The pixels of an ellipse."""
    return ellipse_mask((x, y), (radius_x, radius_y), degrees, SIDE, SIDE)


def draw_everything(draw: Drawing) -> dict[str, np.ndarray]:
    """Draw a region of each label → the pixels that the mouse enclosed, by label."""
    brush = stroke_mask(STROKE, draw.brush("stroke", STROKE, size=30), SIDE, SIDE)
    erased = stroke_mask(ERASED, draw.erase(ERASED, size=25), SIDE, SIDE)
    draw.studio.deselect()
    draw.polygon("polygon", POLYGON)
    draw.polygon("patch", PATCH, over=True)
    draw.polygon("ring", RING)
    draw.shape("upright", (440, 60), (600, 180))
    draw.shape("turned", (440, 300), (640, 420))
    draw.turn("turned", (540, 360), 120, 30)
    draw.shape("level", (680, 240), (770, 310))
    draw.shape("tilted", (500, 560), (620, 610))
    draw.set_rotation("tilted", 30)
    draw.shape("flipped", (660, 600), (770, 630))
    draw.pull("flipped", [(660, 570), (660, 700), (660, 770)])
    return {
        "stroke": brush & ~erased,
        "polygon": filled(POLYGON) & ~filled(PATCH),
        "patch": filled(PATCH),
        "ring": filled(RING),
        "upright": filled(corners(440, 60, 600, 180)),
        "turned": filled(turned(corners(440, 300, 640, 420), (540, 360), 30)),
        "level": oval(680, 240, 90, 70),
        "tilted": oval(500, 560, 120, 50, 30),
        "flipped": oval(660, 700, 110, 70),
    }


def test_every_region_drawn_arrives_as_its_pixels(
    person: StudioPage, context: Context, project: ProjectInfo, tmp_path: Path
) -> None:
    """Brush and eraser, polygons, turned boxes and ovals: the mask is what was enclosed."""
    (task_id,) = next(context.studio.changes(project.id)).moments
    person.open_task(project.id, task_id)
    wanted = draw_everything(Drawing(person, SIDE, SIDE))
    person.screenshot(tmp_path / "drawn.png")
    person.submit()
    found = pulled(context, project)
    assert set(found) == set(wanted)
    for label, mask in wanted.items():
        assert_alike(found[label], mask, 0.9 if label == "stroke" else 0.98, label)
    assert not found["ring"][HOLE].any()


def test_an_edit_and_a_deletion_in_the_browser_arrive(
    person: StudioPage, context: Context, project: ProjectInfo
) -> None:
    """A region moved, another deleted, then the whole annotation: the mask follows each time."""
    size = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    box = {"x": 10, "y": 10, "width": 40, "height": 30, "rotation": 0}
    disc = {"x": 70, "y": 70, "radiusX": 20, "radiusY": 15, "rotation": 0}
    regions = [
        {"id": kind, "type": f"{kind}labels", "from_name": control, "to_name": "image"}
        | size
        | {"value": value | {f"{kind}labels": [label]}}
        for kind, control, value, label in (
            ("rectangle", "box", box, "upright"),
            ("ellipse", "oval", disc, "level"),
        )
    ]
    (task_id,) = next(context.studio.changes(project.id)).moments
    context.studio.create_annotation(task_id, regions)
    assert pulled(context, project)["level"].any()

    person.open_task(project.id, task_id)
    assert person.wait_regions(2) == ["upright", "level"]
    draw = Drawing(person, SIDE, SIDE)
    draw.pull("upright", [(200, 200), (400, 500)])
    person.delete_region("level")
    person.update()
    found = pulled(context, project)
    assert_alike(found["upright"], filled(corners(280, 380, 600, 620)), 0.98, "moved")
    assert not found["level"].any()

    person.delete_annotation()
    assert pulled(context, project) == {}
