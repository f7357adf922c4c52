"""A real Chromium in Label Studio: log in, open a task, look, paint, submit."""

import contextlib
import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from playwright.sync_api import Locator, Page

_FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
_TIMEOUT_MS = 60_000


def find_chromium(given: str | None = None) -> Path | None:
    """The executable: as given, else Debian's on the PATH."""
    found = given or shutil.which("chromium")
    return Path(found) if found and Path(found).is_file() else None


@contextlib.contextmanager
def open_browser(executable: Path, width: int = 1400, height: int = 900) -> Iterator["Page"]:
    """A page of a headless Chromium with a fresh profile."""
    # Imported here: the sessions without a browser should not wait for Playwright.
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(executable), args=list(_FLAGS))
        try:
            page = browser.new_page(viewport={"width": width, "height": height})
            page.set_default_timeout(_TIMEOUT_MS)
            yield page
        finally:
            browser.close()


class StudioPage:
    """What a person does in Label Studio. Positions on the image are in its own pixels."""

    def __init__(self, page: "Page", url: str) -> None:
        self.page = page
        self.url = url.rstrip("/")

    def log_in(self, email: str, password: str) -> None:
        """Fill in the login form."""
        self.page.goto(f"{self.url}/user/login/")
        self.page.fill("input[name=email]", email)
        self.page.fill("input[name=password]", password)
        self.page.click("button[type=submit]")
        self.page.wait_for_url(lambda address: "/user/login" not in address)

    def open_task(self, project_id: int, task_id: int) -> None:
        """Open a task in the data manager and wait until its image is on the canvas."""
        self.page.goto(f"{self.url}/projects/{project_id}/data?task={task_id}")
        self._wait_image()

    def open_tab(self, address: str) -> list[int]:
        """Open a tab of the data manager by its address → its tasks, top to bottom."""
        self.page.goto(address)
        rows = self.page.locator(".lsf-table__row-wrapper")
        rows.first.wait_for()
        return [int(text.split()[0]) for text in rows.all_inner_texts()]

    def tabs(self) -> list[str]:
        """The titles of the tabs, left to right."""
        return [text.strip() for text in self.page.locator(".lsf-tabs-dm__item").all_inner_texts()]

    def label_all(self, *, as_displayed: bool = False) -> int:
        """Press Label All Tasks, or what its menu has beside it → the task that is served."""
        if as_displayed:
            self.page.locator("button[aria-label='Toggle open']").first.click()
            self.page.get_by_text("Label Tasks As Displayed").click()
        else:
            self.page.get_by_text("Label All Tasks").click()
        self._wait_image()
        task_id: int = self.page.evaluate("Htx.task.id")
        return task_id

    def _wait_image(self) -> None:
        # Of the layers in it some are hidden. The image may reach beyond it on every side.
        self.page.locator(".konvajs-content").first.wait_for()
        self.page.wait_for_function(
            "[...document.querySelectorAll('.lsf-image img')]"
            ".some(image => image.complete && image.naturalWidth > 0)"
        )

    def region_labels(self) -> list[str]:
        """The labels in the Regions panel, top to bottom."""
        return [text.strip() for text in self._regions().all_inner_texts()]

    def wait_regions(self, count: int) -> list[str]:
        """Wait until the Regions panel lists exactly `count` regions → their labels."""
        self.page.wait_for_function(
            "count => document.querySelectorAll('.lsf-outliner-item__title').length === count",
            arg=count,
        )
        return self.region_labels()

    def _regions(self) -> "Locator":
        return self.page.locator(".lsf-outliner-item__title")

    def colour_at(self, x: float, y: float, width: int, height: int) -> tuple[int, int, int]:
        """What the eye sees at a position of the image: RGB, each 0..255."""
        import io

        from PIL import Image

        left, top = self.on_page(x, y, width, height)
        clip: Any = {"x": left - 1, "y": top - 1, "width": 3, "height": 3}
        image = Image.open(io.BytesIO(self.page.screenshot(clip=clip))).convert("RGB")
        red, green, blue = image.getpixel((1, 1))
        return red, green, blue

    def choose_label(self, name: str) -> None:
        """Click a label, so that the next stroke makes a region of it."""
        text = re.compile(f"^{re.escape(name)}$")
        self.page.locator(".lsf-label__text", has_text=text).first.click()

    def paint(self, points: Sequence[tuple[float, float]], width: int, height: int) -> None:
        """Press, move through `points` (x, y) of an image of this size, release."""
        self.page.locator("[aria-label=brush-tool]").click()
        path = [self.on_page(x, y, width, height) for x, y in points]
        mouse = self.page.mouse
        mouse.move(*path[0])
        mouse.down()
        for position in path:
            mouse.move(*position, steps=8)
        mouse.up()

    def deselect(self) -> None:
        """Leave the selected region, so that the next gesture makes a region of its own."""
        self.page.keyboard.press("Escape")
        self._wait_selected(False)

    def select_region(self, label: str) -> None:
        """Click the only region of this label in the Regions panel: its handles appear."""
        text = re.compile(f"^{re.escape(label)}$")
        self._regions().filter(has_text=text).click()
        self._wait_selected(True)

    def _wait_selected(self, wanted: bool) -> None:
        # `Htx` is the editor's state; what the page shows of it depends on the window's width.
        self.page.wait_for_function(
            "wanted => Htx.annotationStore.selected.regionStore.hasSelection === wanted",
            arg=wanted,
        )

    def delete_region(self, label: str) -> None:
        """Select the only region of this label and press Backspace."""
        count = len(self.region_labels())
        self.select_region(label)
        self.page.keyboard.press("Backspace")
        self.wait_regions(count - 1)

    def submit(self) -> dict[str, Any]:
        """Press Submit → the annotation as Label Studio stored it."""
        return self._store("POST", r"/api/tasks/\d+/annotations/?", "submit")

    def update(self) -> dict[str, Any]:
        """Press Update → the annotation as Label Studio stored it."""
        return self._store("PATCH", r"/api/annotations/\d+/?", "update")

    def _store(self, method: str, path: str, button: str) -> dict[str, Any]:
        with self._answer_to(method, path) as caught:
            self.page.click(f"[data-testid=bottombar-{button}-button]")
        annotation: dict[str, Any] = caught.value.json()
        return annotation

    def delete_annotation(self) -> None:
        """Delete the annotation that is shown, from its menu, and confirm."""
        self.page.locator(".lsf-annotation-button__trigger").click()
        self.page.get_by_text("Delete Annotation", exact=True).click()
        with self._answer_to("DELETE", r"/api/annotations/\d+/?"):
            self.page.get_by_role("button", name="Delete", exact=True).click()

    def _answer_to(self, method: str, path: str) -> Any:
        asked = re.compile(path)
        return self.page.expect_response(
            lambda answer: answer.request.method == method and bool(asked.search(answer.url))
        )

    def screenshot(self, path: Path) -> None:
        """Save what is seen as a PNG."""
        self.page.screenshot(path=path)

    def on_page(self, x: float, y: float, width: int, height: int) -> tuple[float, float]:
        """Where a position of the image stands in the window, in its pixels."""
        box = self.page.locator(".lsf-image img").first.bounding_box()
        assert box is not None, "no image to be seen"
        return box["x"] + x * box["width"] / width, box["y"] + y * box["height"] / height


def stroke_mask(
    points: Sequence[tuple[float, float]], diameter: float, width: int, height: int
) -> "NDArray[np.bool_]":
    """Which pixels a round brush covers → (height, width) bool.

    Measured in the default window: the default brush is 6 px wide on a 256² image and
    12 px on a 512² one.
    """
    import numpy as np

    ys, xs = np.mgrid[0:height, 0:width] + 0.5
    covered = np.zeros((height, width), dtype=bool)
    for (x0, y0), (x1, y1) in itertools.pairwise(points):
        length = (x1 - x0) ** 2 + (y1 - y0) ** 2 or 1.0
        along = np.clip(((xs - x0) * (x1 - x0) + (ys - y0) * (y1 - y0)) / length, 0, 1)
        distance = np.hypot(xs - x0 - along * (x1 - x0), ys - y0 - along * (y1 - y0))
        covered |= distance <= diameter / 2
    return covered
