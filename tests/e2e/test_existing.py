"""A project that had its tasks before Brushloop, in a real Label Studio and a browser."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr
from support.backend import TinyBackend
from support.browser import StudioPage, open_browser
from support.house import House, open_house, picture, save_picture
from support.label_studio import LabelStudio
from support.person import PersonsStudio

from ml_backend.loop.connect import connect
from ml_backend.loop.context import silent
from ml_backend.loop.existing import way_of
from ml_backend.loop.round import run_round
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import encode_results
from ml_backend.recipe import parse_recipe

pytestmark = [pytest.mark.studio, pytest.mark.browser, pytest.mark.timeout(900)]
TASKS, BEFORE, SIDE = 60, 12, 64
CONFIG = make_label_config(["cell"])

# Small, and long enough that the model sees the squares.
QUICK = {
    "network": {"encoder": "resnet18", "depth": 3, "decoder_width": 8},
    "training": {"steps": 40, "epochs": 2, "batch_size": 4, "patch": 64},
    "prediction": {"window": 64, "overlap": 8},
    "selection": {"batch": 6},
}
_numbers = itertools.count(1)


class Owner:
    """Somebody with a project of their own; `numbers`: task → its picture."""

    def __init__(self, house: House, studio: PersonsStudio) -> None:
        self.house, self.studio = house, studio
        files = []
        for number in range(TASKS):
            path = house.folder / "own" / f"{number}.png"
            save_picture(path, number, SIDE)
            files.append((path.name, path.read_bytes()))
        urls = studio.upload_images(house.project_id, files)
        ids = studio.import_tasks(house.project_id, [{"data": {"image": url}} for url in urls])
        self.numbers = dict(zip(ids, range(TASKS), strict=True))

    def answer(self, tasks: list[int]) -> None:
        """Paint the truth."""
        for task in tasks:
            mask = picture(self.numbers[task], SIDE)[1]
            self.studio.create_annotation(task, encode_results(mask, parse_label_config(CONFIG)))

    def scores(self, version: str) -> dict[int, float]:
        """Task → the confidence of this version's prediction."""
        tasks = self.studio.read_tasks(self.house.project_id, list(self.numbers), predictions=True)
        return {
            task.id: row["score"]
            for task in tasks
            for row in task.predictions
            if row["model_version"] == version
        }

    @property
    def version(self) -> str:
        """The version that serves."""
        model = self.house.catalog.models.current(self.house.project_id)
        assert model is not None
        return model.version


@pytest.fixture
def owner(tmp_path: Path, label_studio: LabelStudio) -> Iterator[Owner]:
    """Give the owner of 60 tasks, twelve of them annotated, before Brushloop is connected."""
    house = open_house(tmp_path)
    secrets = {"password": SecretStr("password"), "webhook_secret": SecretStr("secret")}
    with (
        TinyBackend() as backend,
        PersonsStudio(label_studio.url, label_studio.personal_token) as studio,
    ):
        places = {"label_studio_url": label_studio.url, "public_url": backend.url}
        settings = house.context.settings.model_copy(update=secrets | places)
        house.context = replace(house.context, settings=settings)
        house.context.__dict__["studio"] = studio
        title, config = f"existing {next(_numbers)}", CONFIG
        house.project_id = studio.create_project(title, config).id
        owner = Owner(house, studio)
        owner.answer(list(owner.numbers)[:BEFORE])
        yield owner
    house.catalog.close()


def test_tasks_that_were_there_come_in_tabs(
    owner: Owner, label_studio: LabelStudio, chromium: Path, tmp_path: Path
) -> None:
    """Connect, select makes the tab, the least sure first; submits train, and the next tab comes.

    *Label All Tasks*, pressed in the tab or anywhere, begins with the first task of the tab.
    """
    house, context = owner.house, owner.house.context
    recipe = parse_recipe(QUICK)
    connect(context, house.project_id, recipe)
    assert way_of(context, house.project).summary.startswith("60 tasks are in Label Studio already")
    for step in ("sync", "train"):
        house.step(step)
    first = house.step("select")
    scores = owner.scores(owner.version)
    assert first.numbers["existing"] == len(scores) == 6
    ranked = sorted(scores, key=lambda task: scores[task])
    with open_browser(chromium) as page:
        errors: list[str] = []
        page.on("pageerror", lambda error: errors.append(str(error)))
        studio = StudioPage(page, label_studio.url)
        studio.log_in(label_studio.email, label_studio.password)
        assert studio.open_tab(first.numbers["tab"]) == ranked
        assert "Round 1" in studio.tabs()
        studio.screenshot(tmp_path / "tab.png")
        assert studio.label_all() == ranked[0]
        studio.open_tab(first.numbers["tab"])
        assert studio.label_all(as_displayed=True) == ranked[0]
        (shown,) = owner.studio.get_task(ranked[0]).predictions
        studio.wait_regions(len(shown["result"]))
        studio.screenshot(tmp_path / "task.png")
        studio.submit()
        owner.answer(ranked[1:])
        reports = run_round(context, house.project_id, silent)
        assert len(house.catalog.models.all(house.project_id)) == 2
        second = reports[-1]
        assert second.numbers["round"] == 2
        listed = studio.open_tab(second.numbers["tab"])
        studio.screenshot(tmp_path / "next.png")
        scores = owner.scores(owner.version)
        assert listed == sorted(listed, key=lambda task: scores[task])
        assert not {*listed} & {*ranked}
        assert [title for title in studio.tabs() if title.startswith("Round")] == ["Round 2"]
        assert errors == []
    assert len(owner.studio.views(house.project_id)) == 2
