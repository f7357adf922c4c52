"""What the web side asks: predictions of the current model for whatever Label Studio shows."""

import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from threading import Lock
from typing import Any

import orjson

from ml_backend.errors import DataError
from ml_backend.loop.context import Context
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.predict import predictions_for
from ml_backend.loop.sync import find_pushed
from ml_backend.loop.task_images import add_studio_image
from ml_backend.loop.trial import is_trial
from ml_backend.settings import Settings
from ml_backend.store.blobs import Blobs
from ml_backend.store.catalog import Catalog
from ml_backend.store.images import ImageSource
from ml_backend.store.rows import Prediction, Project, Task, Tile
from ml_backend.studio.addresses import kept_address

UNTRAINED = "untrained"
log = logging.getLogger(__name__)


class Service:
    """Predictions for any number of projects from one process. Thread-safe."""

    def __init__(self, settings: Settings) -> None:
        blobs = Blobs(settings.blob_url)
        catalog = Catalog(settings.catalog_url)
        self._context = Context(settings, catalog, blobs, ImageSource(blobs))
        self._models = Models(self._context)
        self._computing = Lock()  # torch already uses every core for one request

    def close(self) -> None:
        """Close the catalog."""
        self._context.catalog.close()

    def register(self, project_id: int, title: str | None, label_config: str | None) -> str:
        """Note a project and its labeling config; returns the version that answers for it."""
        project = self._context.catalog.projects.save(
            project_id, title=title, label_config=label_config
        )
        model = self._context.catalog.models.current(project.id)
        return model.version if model else UNTRAINED

    def predict(
        self, project_id: int, label_config: str | None, tasks: Sequence[Mapping[str, Any]]
    ) -> list[bytes]:
        """One JSON object a task, in order; tasks whose image cannot be read get no region."""
        self.register(project_id, None, label_config)
        project = self._context.catalog.projects.get(project_id)
        serving = self._models.current(project)
        if serving is None:
            return [b"[]" for _ in tasks]  # no prediction, so that Label Studio asks again
        places = [self._place(project, task) for task in tasks]
        with self._computing:
            found = self._predictions(project, serving, [tile for tile in places if tile])
        answers = []
        for tile in places:
            row = found.get(tile.id) if tile else None
            answers.append(
                _answer(_body(row), row.score, row.model)
                if row
                else _answer(b"[]", 0.0, serving.version)
            )
        return answers

    def _predictions(
        self, project: Project, serving: Serving, tiles: Sequence[Tile]
    ) -> dict[int, Prediction]:
        unique = list({tile.id: tile for tile in tiles}.values())
        return predictions_for(self._context, project, serving, unique)

    def _place(self, project: Project, task: Mapping[str, Any]) -> Tile | None:
        """Find the tile of a task, or register the image that it brings along."""
        known = self._context.catalog.work.task(int(task["id"])) if task.get("id") else None
        try:
            if known is not None and known.tile_id is not None:
                return self._context.catalog.pool.tile(known.tile_id)
            data = task.get("data") or {}
            if is_trial(data):
                return None
            pushed = find_pushed(self._context, project.id, data)
            if pushed is not None:
                return self._context.catalog.pool.tile(pushed[1])
            uri = self._context.labels(project).image.read(data)
            if not uri:
                return None
            return self._bring_along(project, task, uri)
        except DataError as error:
            log.warning("project %s, task %s: %s", project.id, task.get("id"), error)
            return None

    def _bring_along(self, project: Project, task: Mapping[str, Any], uri: str) -> Tile:
        tile = add_studio_image(self._context, project.id, uri)
        if task.get("id"):  # the task that a round chooses, if it does
            row = Task(int(task["id"]), tile.id, kept_address(uri))
            self._context.catalog.work.save_tasks(project.id, [row])
        return tile

    def knows_any(self, task_ids: Sequence[int]) -> bool:
        """Whether the catalog has any of these tasks."""
        return self._context.catalog.work.any_task(task_ids)

    def versions(self) -> list[str]:
        """Every version that can be served, newest first."""
        models = self._context.catalog.models.all()
        return [model.version for model in reversed(models) if model.card]

    def metrics(self) -> Iterator[tuple[str, dict[str, str], float]]:
        """Gauges: name, labels, value."""
        catalog = self._context.catalog
        for project in catalog.projects.all():
            labels = {"project": str(project.id)}
            open_tasks = catalog.work.tasks(project.id, open_only=True)
            yield "open_tasks", labels, float(len(open_tasks))
            yield "labelled_tiles", labels, float(len(catalog.work.labelled(project.id)))
            yield "unasked_tiles", labels, float(len(catalog.pool.unasked(project.id)))
            model = catalog.models.current(project.id)
            if model is not None:
                iou = (model.card.get("metrics") or {}).get("iou")
                yield "model_number", labels, float(model.number)
                if iou is not None:
                    yield "model_validation_iou", labels, float(iou)


def _body(row: Prediction) -> bytes:
    return zlib.decompress(row.result)


def _answer(regions: bytes, score: float, version: str) -> bytes:
    """Splice stored regions into an answer without reading them."""
    return b'{"result":%b,"score":%b,"model_version":%b}' % (
        regions,
        orjson.dumps(score),
        orjson.dumps(version),
    )
