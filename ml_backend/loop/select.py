"""Choosing the next batch, writing it down, and bringing it to Label Studio.

Chosen tiles are pushed as tasks, and chosen tasks that are there already are listed in a tab. The
round is recorded before anything of it leaves the house. A push that was cut off is finished by
the next call, which first asks Label Studio what arrived: no tile is ever pushed twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ml_backend.errors import LabelConfigError, StudioRefused
from ml_backend.loop.choose import Known, choose, column_of
from ml_backend.loop.context import Context, Progress, Report
from ml_backend.loop.due import batch_wanted
from ml_backend.loop.existing import fetch_for_round
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.pool import last_intake
from ml_backend.loop.predict import readable_tiles, show_predictions, show_version
from ml_backend.loop.push import push
from ml_backend.loop.refresh import pull_existing
from ml_backend.loop.score import embed_tiles, score_pool
from ml_backend.loop.tab import find_existing, list_round
from ml_backend.store.rows import Project, Round, Tile
from ml_backend.store.summary import Kind

FIRST_LOOK = 2000  # tiles that a first batch is chosen among: a minute or so of reading images
_LEFT_OUT: tuple[Kind, ...] = ("passed_over", "unpaired", "warnings")
CHUNK = 64  # tiles between two looks at the catalog: what a crash may cost


@dataclass(frozen=True)
class Draft:
    """A round that is not written down yet, and what it was chosen by."""

    record: Round
    known: Known


def select(context: Context, project_id: int, progress: Progress) -> Report:
    """Push the next batch, or finish one that was cut off; nothing while plenty is open."""
    project = pull_existing(context, context.catalog.projects.get(project_id), progress)
    for record in context.catalog.rounds.all(project_id):
        if record.state == "chosen":
            return _finish(context, project, record, progress)
    if not batch_wanted(context, project):
        return Report("enough tasks are open: no new batch is needed")
    serving = Models(context).current(project)
    draft = drafted(context, project, serving, progress)
    if draft is None:
        return Report("the pool is empty: everything has been asked about")
    record = context.catalog.rounds.add(project.id, _with_pool(context, project, draft.record))
    return _finish(context, project, record, progress)


def _with_pool(context: Context, project: Project, record: Round) -> Round:
    """The round with how images were read, and how many files it could not choose among and why."""
    images = context.catalog.pool.images(project.id)
    intake = last_intake(context, project.id)
    left = {} if intake is None else {kind: intake.count(kind) for kind in _LEFT_OUT}
    facts = {
        "images": project.recipe.images.model_dump(mode="json"),
        "pages": project.recipe.pool.pages,
        "set_aside": sum(image.status == "quarantined" for image in images),
    }
    return replace(record, settings=record.settings | {"pool": facts | left})


def drafted(
    context: Context, project: Project, serving: Serving | None, progress: Progress
) -> Draft | None:
    """Choose the next round without writing it down; None when the pool is empty.

    Called again it gives the same round, as long as pool, model and recipe are the same.
    """
    number = context.catalog.rounds.next_number(project.id)
    fetch_for_round(context, project, number, progress, has_model=serving is not None)
    if serving is not None:
        score_pool(context, project, serving, progress)
    tiles = context.catalog.pool.unasked(project.id)
    if not tiles:
        return None
    if serving is not None:
        known = _seen(context, project, serving, progress)
    else:
        known = _unseen(context, project, tiles, progress)
    return Draft(choose(tiles, known, project.recipe, number, serving), known)


def _seen(context: Context, project: Project, serving: Serving, progress: Progress) -> Known:
    """What the current model says about the pool, as far as the strategy looks at it."""
    from ml_backend.selection.strategies import NEEDS

    recipe, rounds = project.recipe, context.catalog.rounds
    needs = NEEDS[recipe.selection.strategy]
    classes = {f"class:{number}" for number in range(1, len(serving.labels) + 1)}
    names = {column_of(recipe), "foreground"} | (classes if "classes_NK" in needs else set())
    names |= {"objects"} if "objects_N" in needs else set()
    scores = rounds.scores(project.id, serving.version, recipe.scoring.key, names)
    guided = sum(record.model is not None for record in rounds.all(project.id))
    if "embeddings_ND" not in needs:
        return Known(scores, guided=guided)
    labelled = context.catalog.pool.asked(project.id) if "labelled_MD" in needs else []
    embed_tiles(context, project, serving, labelled, progress)
    embeddings = rounds.embeddings(project.id, serving.version)
    looks = [embeddings[tile.id] for tile in labelled if tile.id in embeddings]
    return Known(scores, embeddings, looks, guided)


def _unseen(context: Context, project: Project, tiles: Sequence[Tile], progress: Progress) -> Known:
    """What the images look like by themselves: of so many drawn from the pool, if it is large."""
    from ml_backend.selection.appearance import SOURCE, appearance

    if project.recipe.selection.first == "random":
        return Known()
    rng = np.random.default_rng(project.recipe.selection.seed)
    asked = [tile for tile in tiles if tile.image.split == "train"]
    drawn = np.sort(rng.permutation(len(asked))[:FIRST_LOOK])  # the tiles of an image in a row
    looked = [asked[index] for index in drawn]
    known = context.catalog.rounds.embeddings(project.id, SOURCE)
    missing = [tile for tile in looked if tile.id not in known]
    for start in range(0, len(missing), CHUNK):
        part = readable_tiles(context, missing[start : start + CHUNK])
        fresh = {tile.id: appearance(image) for tile, image in part}
        context.catalog.rounds.save_embeddings(SOURCE, fresh)
        known |= fresh
        progress(start + len(fresh), len(missing), "looking at the images")
    return Known(embeddings={tile.id: known[tile.id] for tile in looked if tile.id in known})


def _finish(context: Context, project: Project, record: Round, progress: Progress) -> Report:
    """Bring a recorded round to Label Studio, whole, and say so."""
    work, rounds = context.catalog.work, context.catalog.rounds
    serving = Models(context).current(project)
    existing = find_existing(context, project, record)
    if serving is not None:
        tasks = {task.tile_id: [task.id] for task in existing if task.tile_id is not None}
        show_predictions(context, project, serving, tasks, progress)
    try:
        pushed = push(context, project, record, progress)
    except (StudioRefused, LabelConfigError):
        if existing:  # the round goes on with them
            list_round(context, project, record, existing, by_score=serving is not None)
            work.assign_round(record.id, [task.id for task in existing])
        raise
    lines, numbers = [f"{pushed} tasks pushed"] if pushed or not existing else [], {}
    if work.existing(project.id):
        line, url = list_round(context, project, record, existing, by_score=serving is not None)
        lines += [f"{len(existing)} tasks that were there before", line]
        later = len(work.unfetched(project.id))
        lines += [f"{later} tasks are looked at in later rounds"] if later else []
        numbers = {"existing": len(existing), "later": later, "tab": url}
    work.assign_round(record.id, [task.id for task in existing])
    rounds.mark_pushed(record.id)
    if serving is not None:
        show_version(context, project.id, serving.version)
    return Report(
        f"round {record.number}: {', '.join(lines)}, chosen by {record.strategy}",
        {"round": record.number, "pushed": pushed, "strategy": record.strategy} | numbers,
    )
