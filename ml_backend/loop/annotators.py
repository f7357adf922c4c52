"""Whose annotation counts where a tile has several: the recipe's `loop.annotators`."""

import hashlib
import json
from collections.abc import Collection, Sequence

from ml_backend.loop.context import Context
from ml_backend.loop.masks import load_mask, store_mask
from ml_backend.masks.consensus import vote
from ml_backend.recipe import Annotators
from ml_backend.store.rows import Labelled, Project


def labelled(
    context: Context,
    project_id: int,
    policy: Annotators | None = None,
    images: Collection[int] | None = None,
) -> list[Labelled]:
    """Masks that count, by tile and then oldest change first; `policy` None is the recipe's.

    `latest`: the annotation changed last. `all`: every one, so that a tile may come several
    times. `consensus`: of each person the latest, merged by `vote`; tiles that fewer people than
    the recipe's `loop.consensus_minimum` have finished do not count yet. Ground truth counts
    alone, whatever the policy. `images`: only masks of these.
    """
    project = context.catalog.projects.get(project_id)
    answers = context.catalog.work.answers(project_id, images)
    chosen = policy or project.recipe.loop.annotators
    if chosen == "latest":
        return [rows[-1] for rows in answers]
    if chosen == "all":
        return [row for rows in answers for row in rows]
    return _consensus(context, project, answers)


def counting(context: Context, project_id: int) -> tuple[str, ...]:
    """Name the masks that count by the recipe, each with its tile, as models' cards do."""
    policy = context.catalog.projects.get(project_id).recipe.loop.annotators
    if policy == "consensus":
        return names_of(labelled(context, project_id))
    return tuple(
        f"{tile_id}:{mask}"
        for tile_id, masks in context.catalog.work.masks(project_id).items()
        for mask in (masks if policy == "all" else masks[-1:])
    )


def names_of(items: Sequence[Labelled]) -> tuple[str, ...]:
    """Name each mask with its tile."""
    return tuple(f"{item.tile.id}:{item.mask}" for item in items)


def waiting(context: Context, project_id: int) -> int:
    """How many tiles somebody has finished, but too few people for the recipe's consensus."""
    loop = context.catalog.projects.get(project_id).recipe.loop
    if loop.annotators != "consensus":
        return 0
    answers = context.catalog.work.answers(project_id)
    return sum(not _enough(_voters(rows), loop.consensus_minimum) for rows in answers)


def _voters(rows: Sequence[Labelled]) -> list[Labelled]:
    """Give the latest answer of each person; those of unknown authors are of different people."""
    latest = {(row.author is None, row.author or row.annotation_id): row for row in rows}
    return list(latest.values())


def _enough(voters: Sequence[Labelled], minimum: int) -> bool:
    return voters[-1].ground_truth or len(voters) >= minimum


def _consensus(
    context: Context, project: Project, answers: Sequence[Sequence[Labelled]]
) -> list[Labelled]:
    minimum = project.recipe.loop.consensus_minimum
    config = context.labels(project)
    labels, sets = config.names, config.overlapping
    known = context.catalog.work.merged(project.id)
    found = []
    for voters in map(_voters, answers):
        if not _enough(voters, minimum):
            continue
        if len(voters) == 1:
            found.append(voters[0])
            continue
        keys = sorted(row.mask for row in voters)
        question = [keys, minimum, labels, *(["overlapping"] if sets else [])]
        inputs = hashlib.sha256(json.dumps(question).encode()).hexdigest()
        mask = known.get(inputs)
        if mask is None:
            maps = [load_mask(context.blobs, key, labels, overlapping=sets) for key in keys]
            merged = vote(maps, minimum, overlapping=sets)
            mask = store_mask(context.blobs, project.id, merged, labels, overlapping=sets)
            context.catalog.work.save_merged(project.id, inputs, mask)
        last = max(voters, key=lambda row: row.annotation_id or 0)
        found.append(Labelled(last.tile, mask, task_id=last.task_id))
    return found
