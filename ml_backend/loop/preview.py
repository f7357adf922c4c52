"""The batch that would be pushed, as a list and as a picture: nothing of it is written down.

What costs time and holds for the real selection as well is kept: scores, what tiles look like,
and which images cannot be read.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import NotFound
from ml_backend.loop.choose import column_of
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.due import batch_wanted
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.predict import readable_tiles
from ml_backend.loop.refresh import pull_if_possible
from ml_backend.loop.score import look_at, weights_of
from ml_backend.loop.select import drafted
from ml_backend.masks.sets import decided, on_top
from ml_backend.masks.sheet import CELL, Row, contact_sheet, heated, outlined, shrunk
from ml_backend.store.blobs import Blobs
from ml_backend.store.rows import Numbers, Project, Round, Tile


@dataclass(frozen=True)
class Pick:
    """A tile of a batch and why it is in it.

    `score` under the name `column`, and `rank` by it among `of` scored tiles of the pool, 1 for
    the most uncertain, `above` of which (a share, 0..1) have lower scores. `objects`: how many
    the model expects in it, where the strategy weighs the work. All None for audit tiles, and for
    whole batches that no model has chosen.
    """

    tile: Tile
    by: str
    column: str
    score: float | None = None
    rank: int | None = None
    of: int | None = None
    above: float | None = None
    objects: float | None = None

    @property
    def reason(self) -> str:
        """One line for people."""
        if self.by == "audit":
            return "audit: drawn at random from the validation images"
        if self.score is None or self.above is None:
            return f"{self.by}: no model has scored the pool yet"
        place = f"rank {self.rank} of {self.of}, above {self.above:.1%}"
        work = "" if self.objects is None else f", about {self.objects:.1f} objects to outline"
        return f"{self.by}: {self.column} {self.score:.4f}, {place}{work}"


@dataclass(frozen=True)
class Preview:
    """The round that would be pushed; `note` says what `select` would do otherwise, if it would."""

    record: Round
    picks: tuple[Pick, ...]
    note: str | None = None


def preview(context: Context, project_id: int, progress: Progress) -> Preview:
    """Choose what `select` would push now.

    Label Studio is asked, if it answers, which tasks are there, and for images of those. A round
    that was chosen and not pushed to its end comes first, as it does there. While enough tasks are
    open it is the batch that would be pushed if they were not. Raises `NotFound` when
    the pool is empty.
    """
    project = pull_if_possible(context, context.catalog.projects.get(project_id), progress)
    rounds = context.catalog.rounds
    for record in rounds.all(project_id):
        if record.state == "chosen":
            note = f"round {record.number} is chosen already: `select` pushes what is left of it"
            scores = _scores_of(context, project, record)
            return Preview(record, _picks(context, project, record, scores), note)
    draft = drafted(context, project, Models(context).current(project), progress)
    if draft is None:
        raise NotFound(
            "the pool is empty: everything has been asked about; "
            "more images are added with `brushloop pool add`"
        )
    waiting = {tile.id for tile in context.catalog.pool.unasked(project_id)}
    scores = {tile_id: row for tile_id, row in draft.known.scores.items() if tile_id in waiting}
    plenty = "enough tasks are open: `select` pushes nothing until some of them are answered"
    return Preview(
        draft.record,
        _picks(context, project, draft.record, scores),
        None if batch_wanted(context, project) else plenty,
    )


def draw_preview(
    context: Context, project: Project, shown: Preview, path: Path, progress: Progress
) -> None:
    """Write the batch as a PNG, whole or not at all: one row a tile.

    In a row the image, then the current model's prediction and its uncertainty at each pixel, if
    there is a model. All rows have the same scale of colours.
    """
    serving = Models(context).current(project)
    tiles = [pick.tile for pick in shown.picks]
    maps = list(_maps(context, project, serving, tiles, progress)) if serving else []
    ceiling = max((float(one.heat.max()) for one in maps), default=0.0)
    pictures: dict[int, tuple[NDArray[np.uint8], ...]] = {
        one.tile.id: (one.image, one.prediction, heated(one.heat, ceiling)) for one in maps
    } or {tile.id: (_plain(image),) for tile, image in readable_tiles(context, tiles)}
    titles = {
        pick.tile.id: f"{number}. {pick.reason} · {pick.tile.title}"
        for number, pick in enumerate(shown.picks, 1)
    }
    rows = [Row(titles[tile_id], row) for tile_id, row in pictures.items()]
    Blobs(path.absolute().parent).write(
        path.name, contact_sheet([Row(_head(shown, serving, ceiling, project), ()), *rows])
    )


@dataclass(frozen=True)
class _Maps:
    """A tile at the size of the sheet; `heat` (h, w) float32 is not coloured yet."""

    tile: Tile
    image: NDArray[np.uint8]
    prediction: NDArray[np.uint8]
    heat: NDArray[np.float32]


def _maps(
    context: Context,
    project: Project,
    serving: Serving,
    tiles: Sequence[Tile],
    progress: Progress,
) -> Iterator[_Maps]:
    from ml_backend.selection.overlapping import uncertainty_map
    from ml_backend.selection.uncertainty import SCORES, Passes

    scoring, names = project.recipe.scoring, context.labels(project).names
    weights = weights_of(context, project, serving)
    for done, (tile, seen) in enumerate(look_at(context, project, serving, tiles, scoring), 1):
        if serving.overlapping:
            mean_KHW = seen.probs_TCHW.mean(axis=0)
            said = on_top(decided(serving.among(mean_KHW, names, overlapping=True)))
            heat = uncertainty_map(seen.probs_TCHW, scoring.score, weights)
        else:
            passes = Passes(seen.probs_TCHW, weights, scoring.top_share)
            mean_CHW = passes.mean_CHW.astype(np.float32)
            said = serving.among(mean_CHW, names).argmax(axis=0).astype(np.uint8)
            heat = SCORES[scoring.score](passes)
        image = context.pixels(tile)
        yield _Maps(
            tile,
            _plain(image),
            outlined(image, said),
            shrunk(np.maximum(heat, 0)),
        )
        progress(done, len(tiles), f"drawing {tile.title}")


def _plain(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return outlined(image, np.zeros(image.shape[:2], np.uint8), CELL)


def _head(shown: Preview, serving: Serving | None, ceiling: float, project: Project) -> str:
    if serving is None:
        return f"round {shown.record.number}, chosen by {shown.record.strategy}: no model yet"
    return (
        f"round {shown.record.number}: image, prediction of {serving.version}, "
        f"{project.recipe.scoring.score} of each pixel from 0 (black) to {ceiling:.3f} (yellow)"
    )


def _scores_of(context: Context, project: Project, record: Round) -> dict[int, Numbers]:
    """What the pool scored when a recorded round was chosen, as far as it is kept."""
    if record.model is None:
        return {}
    names = {column_of(project.recipe), "objects"}
    key = project.recipe.scoring.key
    return context.catalog.rounds.scores(project.id, record.model, key, names)


def _picks(
    context: Context, project: Project, record: Round, scores: Mapping[int, Numbers]
) -> tuple[Pick, ...]:
    from ml_backend.selection.strategies import NEEDS

    tiles = context.catalog.pool.by_ids([item.tile_id for item in record.chosen])
    column = column_of(project.recipe)
    ordered = np.sort([row[column] for row in scores.values()])
    weighed = record.strategy in NEEDS and "objects_N" in NEEDS[record.strategy]
    picks = []
    for item in record.chosen:
        tile = tiles[item.tile_id]
        by = "audit" if item.why == "audit" else record.strategy
        if item.score is None or not scores:
            picks.append(Pick(tile, by, column))
            continue
        lower = int(np.searchsorted(ordered, item.score, side="left"))
        not_higher = int(np.searchsorted(ordered, item.score, side="right"))
        total = len(ordered)
        rank, above = 1 + total - not_higher, lower / total
        objects = scores[tile.id]["objects"] if weighed and tile.id in scores else None
        picks.append(Pick(tile, by, column, item.score, rank, total, above, objects))
    return tuple(picks)
