"""A scripted annotator: it sees what a person sees and submits what a person would submit.

It knows the true masks and Label Studio's HTTP API, and nothing else of Brushloop: no
catalog, no files of the home folder.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import DataError
from ml_backend.loop.masks import mean_dice
from ml_backend.masks.labels import parse_label_config
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo, TaskInfo

ACCEPT_DICE = 0.95  # a person leaves a mask alone when it is this good

Truths = Callable[[Mapping[str, Any]], NDArray[np.uint8] | None]


@dataclass(frozen=True)
class Work:
    """What was done with one task. `dice` of the shown prediction to the truth, if one was shown.

    `accepted`: the prediction was submitted unchanged.
    """

    task_id: int
    accepted: bool
    dice: float | None


class Annotator:
    """Answers the open tasks of one project.

    `truths`: a task's data → (H, W) uint8 label map, a set map where the project's labels may
    overlap, or None where the truth is not known.
    `clock`: seconds, for the lead time.
    """

    def __init__(
        self,
        studio: Studio,
        project_id: int,
        truths: Truths,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._studio = studio
        self._project_id = project_id
        self._truths = truths
        self._clock = clock
        self._project: ProjectInfo | None = None

    def open_tasks(self) -> list[TaskInfo]:
        """The tasks that nobody has answered or skipped, in the order they were made."""
        self._project = self._studio.get_project(self._project_id)
        ids = [number for page in self._studio.changes(self._project_id) for number in page.moments]
        tasks = self._studio.read_tasks(self._project_id, ids)
        return [task for task in tasks if not task.annotations]

    def annotate(self, task: TaskInfo) -> Work:
        """Open a task, judge its prediction, submit.

        A prediction of Dice ≥ `ACCEPT_DICE` is submitted unchanged, else the truth as brush
        regions. As in the browser, the annotation names the prediction it began from. Raises
        `DataError` where there is no truth for the task.
        """
        started = self._clock()
        project = self._project or self._studio.get_project(self._project_id)
        opened = self._studio.get_task(task.id)
        truth = self._truths(opened.data)
        if truth is None:
            name = opened.data.get("name", "without a name")
            raise DataError(f"task {task.id} ({name}) has no true mask: give one for every image")
        config = parse_label_config(project.label_config)
        prediction = shown_prediction(opened.predictions, project.model_version)
        dice = None
        result: Sequence[Mapping[str, Any]] = ()
        if prediction is not None:
            result = prediction.get("result") or ()
            shown = decode_results(result, config, *truth.shape).label_map
            dice = mean_dice(shown, truth, overlapping=config.overlapping)
        accepted = dice is not None and dice >= ACCEPT_DICE
        self._studio.create_annotation(
            task.id,
            result if accepted else encode_results(truth, config),
            parent_prediction=None if prediction is None else int(prediction["id"]),
            lead_time=round(self._clock() - started, 3),
        )
        return Work(task.id, accepted, dice)


def shown_prediction(
    predictions: Sequence[Mapping[str, Any]], model_version: str
) -> Mapping[str, Any] | None:
    """The prediction Label Studio shows: the project's version, else the newest there is."""
    current = [one for one in predictions if one.get("model_version") == model_version]
    return max(current or predictions, key=lambda one: int(one["id"]), default=None)
