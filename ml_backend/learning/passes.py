"""Where the passes over an image come from that its uncertainty is computed from."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import tee

import numpy as np

from ml_backend.errors import ConfigError
from ml_backend.learning.inference import Asked, Predictor, Seen
from ml_backend.learning.views import VIEWS, draw_views
from ml_backend.recipe import Scoring
from ml_backend.registry import Registry

Source = Callable[[Predictor, Iterable[Asked], Scoring], Iterator[Seen]]
PASSES: Registry[Source] = Registry("kind of passes")


def passes_many(predictor: Predictor, images: Iterable[Asked], scoring: Scoring) -> Iterator[Seen]:
    """The passes over each image in order, as the recipe wants them.

    Images are taken lazily and share forward passes; what is drawn at random for one depends on
    its seed alone. The features are those of the image as it is.
    """
    return PASSES[scoring.passes](predictor, images, scoring)


@PASSES.register("single")
def single(predictor: Predictor, images: Iterable[Asked], scoring: Scoring) -> Iterator[Seen]:  # noqa: ARG001
    """One plain pass."""
    return predictor.see_many(images)


@PASSES.register("mc_dropout")
def mc_dropout(predictor: Predictor, images: Iterable[Asked], scoring: Scoring) -> Iterator[Seen]:
    """`scoring.samples` passes with dropout on and BatchNorm in evaluation mode.

    Gal & Ghahramani 2016. Raises `ConfigError` for a network without dropout.
    """
    return predictor.see_many(images, samples=scoring.samples)


@PASSES.register("ensemble")
def ensemble(predictor: Predictor, images: Iterable[Asked], scoring: Scoring) -> Iterator[Seen]:  # noqa: ARG001
    """The model's own answer, and one of each sibling trained on tiles drawn again (Max 2021).

    All look at the same few images before the next are read. Raises `ConfigError` for a model
    without siblings.
    """
    if not predictor.siblings:
        raise ConfigError(
            "scoring.passes: ensemble asks several models, and this one has no siblings: train "
            "again, or set scoring.passes to single"
        )
    models = (predictor, *predictor.siblings)
    copies = tee(images, len(models))
    answers = (model.see_many(copy) for model, copy in zip(models, copies, strict=True))
    for own, *others in zip(*answers, strict=True):
        passes = [own.probs_TCHW, *(seen.probs_TCHW for seen in others)]
        yield own._replace(probs_TCHW=np.concatenate(passes))


@PASSES.register("tta")
def tta(predictor: Predictor, images: Iterable[Asked], scoring: Scoring) -> Iterator[Seen]:
    """`scoring.views` symmetries of the image, each answer turned back; the plain one is first."""
    drawn: deque[list[str]] = deque()

    def shown() -> Iterator[Asked]:
        for image, seed in images:
            drawn.append(draw_views(scoring.views, np.random.default_rng(seed)))
            for name in drawn[-1]:
                yield VIEWS[name].apply(image), seed

    answers = predictor.see_many(shown())
    for plain in answers:
        others = zip(drawn.popleft()[1:], answers, strict=False)  # as many answers as names
        undone = [VIEWS[name].undo(seen.probs_TCHW[0]) for name, seen in others]
        yield plain._replace(probs_TCHW=np.stack([plain.probs_TCHW[0], *undone]))
