"""One answer for each task, whatever is wrong with some of them."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import orjson

from ml_backend.errors import DataError, LabelConfigError, LearningError, NotFound
from ml_backend.text import shorten

logger = logging.getLogger(__name__)

Task = dict[str, Any]


class Predicting(Protocol):
    """What the web needs of `ml_backend.loop.serve.Service`."""

    def register(self, project_id: int, title: str | None, label_config: str | None) -> str:
        """Make a project known; the model version that answers for it."""

    def predict(
        self, project_id: int, label_config: str | None, tasks: list[Task]
    ) -> Sequence[bytes]:
        """One JSON object for each task, in order."""

    def knows_any(self, task_ids: list[int]) -> bool:
        """Whether any of these tasks has been pulled or pushed."""

    def versions(self) -> Sequence[str]:
        """All model versions."""

    def metrics(self) -> Iterable[tuple[str, Mapping[str, str], float]]:
        """Gauges: name, labels, value."""

    def close(self) -> None:
        """Let go of the catalog."""


def predict_each(
    service: Predicting, project_id: int, label_config: str | None, tasks: list[Task]
) -> tuple[list[bytes], int]:
    """Answer every task, in order; also how many could not be predicted.

    Label Studio drops all predictions of a batch whose count is wrong, so a task whose image is
    broken gets an empty prediction and a warning. What concerns the whole project (its labels,
    its model, the catalog, Label Studio itself) is raised.
    """
    try:
        answers = service.predict(project_id, label_config, tasks)
    except LabelConfigError:
        raise
    except (DataError, NotFound) as error:
        if len(tasks) > 1:
            parts = [predict_each(service, project_id, label_config, [task]) for task in tasks]
            return [one for part, _ in parts for one in part], sum(bad for _, bad in parts)
        reason = shorten(" ".join(str(error).split()), 500)
        logger.warning("project %s task %s left empty: %s", project_id, tasks[0].get("id"), reason)
        version = service.register(project_id, None, label_config)
        return [orjson.dumps({"result": [], "score": 0.0, "model_version": version})], 1
    if len(answers) != len(tasks):
        raise LearningError(
            f"project {project_id}: {len(answers)} predictions for {len(tasks)} tasks; "
            "please report this with the log"
        )
    return list(answers), 0
