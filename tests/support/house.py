"""A small house to run the loop in: a fake Label Studio, a real catalog, tiny pictures."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from ml_backend.loop.context import Context, silent
from ml_backend.loop.pool import add_folder
from ml_backend.loop.steps import STEPS
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.masks.regions import encode_results
from ml_backend.recipe import parse_recipe
from ml_backend.settings import Settings
from ml_backend.store.blobs import Blobs
from ml_backend.store.catalog import Catalog
from ml_backend.store.images import ImageSource

from .fake_studio import FakeStudio

TINY = {
    "network": {"encoder": "resnet18", "depth": 3, "decoder_width": 4},
    "training": {"steps": 4, "epochs": 2, "batch_size": 2, "patch": 32},
    "validation": {"share": 0.5},
    "prediction": {"window": 32, "overlap": 8},
    "scoring": {"passes": "tta", "views": 2},
    "selection": {"batch": 4, "audit_share": 0.5},
}
SIDE = 32


def picture(number, side=SIDE):
    """A dark (side, side, 3) uint8 image with a bright square, and its (side, side) uint8 mask."""
    rng = np.random.default_rng(number)
    y, x = rng.integers(2, side // 2, 2)
    mask = np.zeros((side, side), np.uint8)
    mask[y : y + side // 3, x : x + side // 3] = 1
    image = rng.integers(10, 40, (side, side, 3)) + 180 * mask[..., None]
    return image.astype(np.uint8), mask


def save_picture(path, number, side=SIDE):
    """Write a picture as PNG; its mask."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image, mask = picture(number, side)
    Picture.fromarray(image).save(path)
    return mask


@dataclass
class House:
    """One project over a fake Label Studio."""

    context: Context
    studio: FakeStudio
    project_id: int
    folder: Path
    images: Path

    @property
    def catalog(self):
        """The truth."""
        return self.context.catalog

    @property
    def project(self):
        """The project as the catalog has it now."""
        return self.catalog.projects.get(self.project_id)

    @property
    def labels(self):
        """Its labels."""
        return self.context.labels(self.project)

    def recipe(self, changes):
        """Change keys of the recipe by their paths."""
        self.catalog.projects.save(self.project_id, recipe=self.project.recipe.changed(changes))

    def fill(self, count, side=SIDE, **options):
        """Put `count` pictures into the pool."""
        for number in range(count):
            save_picture(self.images / f"{number}.png", number, side)
        return add_folder(self.context, self.project_id, self.images, **options)

    def step(self, name):
        """Run a step."""
        return STEPS[name](self.context, self.project_id, silent)

    def truth(self, tile):
        """What a perfect person would paint on a tile."""
        _, mask = picture(int(Path(tile.image.name).stem), tile.image.width)
        return mask[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]

    def regions(self, label_map):
        """A label map as Label Studio's results."""
        return encode_results(label_map, self.labels)

    def answer(self, task_id, label_map=None, **options):
        """Submit the truth, or `label_map`, to a task; the annotation's id."""
        if label_map is None:
            tile = self.catalog.pool.tile(self.studio.tasks[task_id]["data"]["tile"])
            label_map = self.truth(tile)
        return self.studio.create_annotation(task_id, self.regions(label_map), **options)

    def answer_open(self):
        """Submit the truth to every pushed task that nobody has answered."""
        waiting = [n for n, row in self.studio.tasks.items() if not row["annotations"]]
        for task_id in waiting:
            self.answer(task_id)
        return waiting

    def labelled_round(self):
        """Push a batch, answer all of it and pull the answers."""
        self.step("select")
        self.answer_open()
        return self.step("sync")

    def promote_copy(self):
        """A second version, with the weights of the first; its name."""
        first = self.catalog.models.current(self.project_id)
        model = self.catalog.models.add(self.project_id, parent=first.version, fingerprint="x")
        root = self.context.settings.home / "models" / str(self.project_id)
        (root / model.version).mkdir()
        for path in (root / first.version).iterdir():
            (root / model.version / path.name).write_bytes(path.read_bytes())
        self.catalog.models.settle(
            self.project_id, model.version, decision="promoted", numbers={}, card=first.card
        )
        return model.version


def open_house(folder, labels=("cell",), *, kind=House, multiple=False):
    """A house whose files live in `folder`; close `house.catalog` afterwards.

    `multiple`: its labels may overlap.
    """
    settings = Settings(home=folder / "home", threads=1, device="cpu", precision="float32")
    blobs = Blobs(settings.blob_url)
    studio = FakeStudio()
    context = Context(
        settings, Catalog(settings.catalog_url), blobs, ImageSource(blobs), studio.sleep
    )
    context.__dict__["studio"] = studio  # where the cached property keeps the real one
    config = make_label_config(list(labels), multiple=multiple)
    assert parse_label_config(config).names == tuple(labels)
    project = studio.create_project("Cells", config)
    context.catalog.projects.save(
        project.id, title="Cells", label_config=config, recipe=parse_recipe(TINY)
    )
    return kind(context, studio, project.id, folder, folder / "images")
