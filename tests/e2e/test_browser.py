"""A person in Chromium: sees the model's labels, paints, submits, and finds it in the catalog."""

import time
from pathlib import Path

import numpy as np
import pytest
from support.browser import StudioPage, open_browser, stroke_mask

from ml_backend.host.up import Running
from ml_backend.loop.context import Context
from ml_backend.loop.masks import load_mask
from ml_backend.masks.regions import decode_results
from ml_backend.store.rows import Annotation

from .conftest import LABEL
from .test_loop import open_task, wait

pytestmark = [pytest.mark.studio, pytest.mark.browser, pytest.mark.timeout(900)]


def test_painted_pixels_arrive_in_the_catalog(
    context: Context,
    house: Running,
    chromium: Path,
    tmp_path: Path,
    request: pytest.FixtureRequest,
) -> None:
    """See the pre-annotation's region and pixels, paint a stroke, Submit, find it in the mask."""
    task = open_task(context, house)
    tile = context.catalog.pool.tile(task.tile_id)
    prediction = shown(context, house, task.id, tile.height, tile.width)
    with open_browser(chromium) as page:
        studio = StudioPage(page, house.studio_url)
        studio.log_in(house.secrets.studio_email, house.secrets.studio_password)
        studio.open_task(house.project.id, task.id)
        regions = 1 if prediction.any() else 0
        labels = studio.wait_regions(regions)
        assert all(LABEL in label for label in labels)
        if prediction.any():
            inside = colours(studio, prediction, tile.width, tile.height)
            outside = colours(studio, ~prediction, tile.width, tile.height)
            assert inside > outside + 5, "the prediction's pixels are not on the canvas"
        stroke = [(20.0, 40.0), (tile.width - 20.0, 40.0), (tile.width - 20.0, 90.0)]
        studio.choose_label(LABEL)
        studio.paint(stroke, tile.width, tile.height)
        studio.wait_regions(regions + 1)
        studio.screenshot(request.config.getoption("--screenshot") or tmp_path / "painted.png")
        stored = studio.submit()

    def arrived() -> list[Annotation]:
        # the task may have had another one, which an earlier test deleted
        rows = context.catalog.work.annotations(house.project.id, task_id=task.id)
        return [row for row in rows if row.id == stored["id"]]

    wait(arrived, "the webhook's sync")
    [row] = arrived()
    mask = load_mask(context.blobs, row.mask) > 0
    geometry = stroke_mask(stroke, 6.0 * tile.width / 256, tile.width, tile.height)
    added = mask & ~prediction
    wanted = geometry & ~prediction
    iou = (added & wanted).sum() / (added | wanted).sum()
    assert iou >= 0.9, f"IoU of the stroke is {iou:.3f}"
    assert (mask & prediction).sum() >= 0.98 * prediction.sum()


def shown(context: Context, house: Running, task_id: int, height: int, width: int) -> np.ndarray:
    """The foreground of the prediction that Label Studio shows."""
    deadline = time.monotonic() + 120
    while not (predictions := context.studio.get_task(task_id).predictions):
        assert time.monotonic() < deadline, "the task has no prediction"
        time.sleep(0.5)
    newest = max(predictions, key=lambda row: row["id"])
    config = context.labels(house.project)
    return decode_results(newest["result"], config, height, width).label_map > 0


def colours(studio: StudioPage, mask: np.ndarray, width: int, height: int) -> float:
    """How colourful (largest difference between channels) some pixels of a mask look."""
    rows, columns = np.nonzero(mask)
    step = max(1, len(rows) // 9)
    seen = [
        studio.colour_at(x + 0.5, y + 0.5, width, height)
        for x, y in zip(columns[::step], rows[::step], strict=True)
    ]
    return float(np.mean([max(colour) - min(colour) for colour in seen]))
