"""What a training is followed by: its temperature, and how its objects are cut apart."""

from typing import TYPE_CHECKING, Any

from ml_backend.loop.context import Context
from ml_backend.loop.dataset import Dataset, samples_of
from ml_backend.loop.instances import as_numbers, choose
from ml_backend.loop.masks import load_objects
from ml_backend.loop.precision import precisions_of
from ml_backend.store.rows import Project

if TYPE_CHECKING:
    from ml_backend.learning.data import Sample
    from ml_backend.learning.inference import Predictor
    from ml_backend.learning.training import Trained


def finish(
    context: Context, project: Project, dataset: Dataset, trained: "Trained"
) -> dict[str, Any]:
    """Measure on the validation tiles what the card says of `calibration` and `instances`.

    And say in which `mode` it was `trained` and `calibrated`.
    `calibration` is None where no validation tile is labelled, `instances` where the recipe does
    not want objects one by one.
    """
    from ml_backend.learning.calibration import calibrate
    from ml_backend.learning.device import describe_mode
    from ml_backend.learning.inference import predictor_from_state

    labels, recipe = context.labels(project), project.recipe
    predictor = predictor_from_state(
        trained.state,
        recipe.network,
        len(labels.names),
        recipe.prediction,
        context.settings.device,
        precision=precisions_of(context.settings, recipe.network).prediction,
        overlapping=labels.overlapping,
    )
    samples = samples_of(context, dataset.val, labels)
    calibration = calibrate(predictor, samples, seed=recipe.training.seed)
    return {
        "calibration": None if calibration is None else dict(vars(calibration)),
        "instances": _instances(context, project, dataset, predictor, samples),
        "mode": {
            "trained": describe_mode(predictor.device, trained.precision),
            "calibrated": predictor.mode,
        },
    }


def _instances(
    context: Context,
    project: Project,
    dataset: Dataset,
    predictor: "Predictor",
    samples: "list[Sample]",
) -> dict[str, Any] | None:
    settings, names = project.recipe.instances, context.labels(project).names
    if not settings.enabled:
        return None
    if not settings.tune or not samples:
        return {"settings": settings.model_dump(mode="json"), "found": None, "uncut": None}
    cut = choose(
        predictor,
        samples,
        lambda index: load_objects(context.blobs, dataset.val[index].mask, names)[1],
        settings,
    )
    return {
        "settings": cut.settings.model_dump(mode="json"),
        "found": as_numbers(cut.found),
        "uncut": as_numbers(cut.uncut),
    }
