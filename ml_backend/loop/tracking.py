"""Epochs sent to other people's tools as well: TensorBoard, MLflow.

The catalog stays the truth. A tracker that cannot be had stops a training before it begins; one
that fails later is given up with a warning, for no picture is worth a training.
"""

import importlib.util
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from ml_backend.errors import ConfigError
from ml_backend.recipe import Recipe
from ml_backend.registry import Registry

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tracked:
    """What is tracked: a version of a project, and the recipe that it is trained by."""

    home: Path
    project: str
    version: str
    recipe: Recipe


class Tracker(Protocol):
    """Where the numbers of a training go."""

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        """Take the numbers of an epoch, counted from 1; an epoch may come twice."""

    def close(self, *, whole: bool) -> None:
        """Write down what is still in memory; not `whole`: the training was broken off."""


TRACKERS: Registry[Callable[[Tracked], Tracker]] = Registry("tracker")


@contextmanager
def tracked(names: str | None, training: Tracked) -> Iterator[Callable[[int, object], None]]:
    """Give a function of (epoch, record) that tells every tracker in `names`, comma-separated.

    Of the record, numbers are sent and everything else (nan included) is left out. Raises
    `UnknownName`, and `ConfigError` for a tracker that is not installed or cannot be reached.
    """
    wanted = [name.strip() for name in (names or "").split(",") if name.strip()]
    open_trackers: dict[str, Tracker] = {}

    def tell(epoch: int, record: object) -> None:
        numbers = {
            key: float(value)
            for key, value in vars(record).items()
            if isinstance(value, int | float) and not math.isnan(value)
        }
        for name, tracker in list(open_trackers.items()):
            try:
                tracker.log(epoch, numbers)
            except Exception as error:
                log.warning("%s is told no more of %s: %r", name, training.version, error)
                del open_trackers[name]

    whole = False
    try:
        for name in wanted:
            open_trackers[name] = _opened(name, training)
        yield tell
        whole = True
    finally:
        _close(open_trackers, whole=whole)


def _opened(name: str, training: Tracked) -> Tracker:
    make = TRACKERS[name]
    try:
        return make(training)
    except ConfigError:
        raise
    except Exception as error:
        raise ConfigError(
            f"BRUSHLOOP_TRACK: {name} cannot be used ({type(error).__name__}: {error}); "
            "mend it or leave it out"
        ) from error


def _close(trackers: Mapping[str, Tracker], *, whole: bool) -> None:
    for name, tracker in trackers.items():
        try:
            tracker.close(whole=whole)
        except Exception as error:
            log.warning("%s did not close: %r", name, error)


def _need(module: str, name: str) -> None:
    if importlib.util.find_spec(module) is None:
        raise ConfigError(
            f"BRUSHLOOP_TRACK names {name}, which is not installed: pip install "
            f"'brushloop[{name}]', or leave it out"
        )


@TRACKERS.register("tensorboard")
class _TensorBoard:
    """Event files in `<home>/tensorboard/<version>`."""

    def __init__(self, training: Tracked) -> None:
        _need("tensorboard", "tensorboard")
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = training.home.absolute() / "tensorboard" / training.version
        self._writer = SummaryWriter(str(folder))
        self._writer.add_text("recipe", f"```\n{training.recipe.model_dump_json(indent=2)}\n```")

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            side, _, measure = name.partition("_")
            self._writer.add_scalar(f"{measure}/{side}" if measure else name, value, epoch)

    def close(self, *, whole: bool) -> None:  # noqa: ARG002  event files have no end
        self._writer.close()


@TRACKERS.register("mlflow")
class _MLflow:
    """A run named after the version, in the experiment named after the project.

    Where MLflow's own environment names a server it is that one, else `<home>/mlflow.sqlite3`.
    """

    def __init__(self, training: Tracked) -> None:
        _need("mlflow", "mlflow")
        import mlflow

        here = f"sqlite:///{training.home.absolute() / 'mlflow.sqlite3'}"
        uri = mlflow.get_tracking_uri() if mlflow.is_tracking_uri_set() else here
        self._client = mlflow.MlflowClient(uri)
        found = self._client.get_experiment_by_name(training.project)
        experiment = (
            found.experiment_id if found else self._client.create_experiment(training.project)
        )
        self._run = self._run_of(experiment, training)

    def _run_of(self, experiment: str, training: Tracked) -> str:
        """The run of this version: the one that a killed training began, or a new one."""
        mine = f"tags.`mlflow.runName` = '{training.version}'"
        for run in self._client.search_runs([experiment], mine):
            return str(run.info.run_id)
        run = self._client.create_run(experiment, run_name=training.version)
        for section in ("network", "training"):
            for key, value in getattr(training.recipe, section):
                self._client.log_param(run.info.run_id, f"{section}.{key}", value)
        return str(run.info.run_id)

    def log(self, epoch: int, numbers: Mapping[str, float]) -> None:
        for name, value in numbers.items():
            self._client.log_metric(self._run, name, value, step=epoch)

    def close(self, *, whole: bool) -> None:
        self._client.set_terminated(self._run, "FINISHED" if whole else "FAILED")
