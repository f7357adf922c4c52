"""What a person sees and paints in the real Label Studio, in a real Chromium."""

from pathlib import Path

import numpy as np
import pytest
from support.browser import StudioPage, open_browser, stroke_mask
from support.label_studio import LabelStudio
from support.tasks import png

from ml_backend.masks.rle import decode_brush, encode_brush
from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo

SIDE = 256


@pytest.mark.studio
@pytest.mark.browser
def test_a_prediction_is_seen_corrected_and_submitted(
    label_studio: LabelStudio,
    studio: Studio,
    project: ProjectInfo,
    chromium: Path,
    tmp_path: Path,
) -> None:
    """Our pixels are on the canvas in the label's colour; the painted ones come back to us."""
    mask = np.zeros((SIDE, SIDE), dtype=bool)
    mask[40:100, 60:140] = True
    size = {"original_width": SIDE, "original_height": SIDE, "image_rotation": 0}
    value = {"format": "rle", "rle": encode_brush(mask), "brushlabels": ["cell"]}
    where = {"id": "seen", "type": "brushlabels", "from_name": "brush", "to_name": "image"}
    (url,) = studio.upload_images(project.id, [("grey.png", png(SIDE, 90))])
    prediction = {"result": [where | size | {"value": value}], "score": 0.9, "model_version": "v1"}
    task = {"data": {"image": url}, "predictions": [prediction]}
    (task_id,) = studio.import_tasks(project.id, [task])
    stroke = [(60.0, 180.0), (200.0, 180.0), (200.0, 220.0)]

    with open_browser(chromium) as page:
        person = StudioPage(page, label_studio.url)
        person.log_in(label_studio.email, label_studio.password)
        person.open_task(project.id, task_id)
        assert person.wait_regions(1) == ["cell"]
        red, green, _ = person.colour_at(100, 70, SIDE, SIDE)
        assert red > green + 80
        red, green, _ = person.colour_at(20, 20, SIDE, SIDE)
        assert abs(red - green) < 10
        person.choose_label("other")
        person.paint(stroke, SIDE, SIDE)
        assert person.wait_regions(2) == ["cell", "other"]
        person.screenshot(tmp_path / "painted.png")
        person.submit()

    (annotation,) = studio.get_task(task_id).annotations
    found = {
        region["value"]["brushlabels"][0]: decode_brush(region["value"]["rle"], SIDE, SIDE) > 127
        for region in annotation["result"]
    }
    assert np.array_equal(found["cell"], mask)
    painted = stroke_mask(stroke, 6, SIDE, SIDE)
    assert (found["other"] & painted).sum() / (found["other"] | painted).sum() >= 0.9
    assert annotation["parent_prediction"] == studio.get_task(task_id).predictions[0]["id"]
