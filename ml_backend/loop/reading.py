"""How a project's annotations become masks, and what happens when that changes.

Labels are added to a labeling config, renamed and removed, and the recipe may set some aside:
then what has been read already is read once more. A label that is gone keeps its place in old
annotations, where its pixels are unknown; nothing that people painted is taken for background.
"""

import hashlib
import json
import zlib
from collections.abc import Collection
from dataclasses import replace
from datetime import UTC, datetime

import orjson

from ml_backend.errors import ConfigError, DataError
from ml_backend.loop.context import Context
from ml_backend.loop.labels import labels_of
from ml_backend.masks.labels import parse_label_config
from ml_backend.store.rows import Prediction, Project, Reading

RULES = "2"  # how regions are read; another number has all annotations read again
CHUNK = 200  # predictions that are held in memory at a time


def noticed(project: Project) -> Reading | None:
    """Say how annotations are to be read from now on, if that is not how they have been."""
    labels = labels_of(project)
    before = project.reading
    names = parse_label_config(project.label_config).names
    former = set(before.former) | set(before.labels) if before else set()
    roles = project.recipe.labels
    reading = Reading(
        key="",
        labels=names,
        controls=tuple(sorted(labels.controls)),
        aside=(*labels.unknown, *labels.background),
        former=tuple(sorted(former - set(names))),
        unpainted=roles.unpainted,
    )
    parts = (
        sorted(names), reading.controls, labels.to_name, sorted(roles.ignore),
        sorted(roles.background), roles.unpainted, reading.former,
    )  # fmt: skip
    # objects that touch are told apart from the day on which the recipe wants it
    apart: tuple[str, ...] = ("objects",) if project.recipe.instances.enabled else ()
    apart = (*apart, RULES)
    if labels.overlapping:
        apart = (*apart, "overlapping")
    if labels.prompts:
        apart = (*apart, f"prompts {labels.prompts}")
    key = hashlib.sha256(json.dumps((*parts, *apart)).encode()).hexdigest()[:16]
    if before is not None and before.key == key:
        return None
    changed = _changes(before, reading) if before else None
    return replace(reading, key=key, changed=changed)


def notice(context: Context, project: Project) -> Project:
    """Have everything read again if annotations are to be read in another way than they were.

    May be repeated; a change that was noticed is found in `project.reading.changed`.
    """
    reading = noticed(project)
    if reading is None:
        return project
    before = project.reading
    learned = set(labels_of(project).names)
    if before is not None and (gone := set(before.labels) - set(before.aside) - learned):
        _unpredict(context, project.id, gone)
    context.catalog.projects.start_over(project.id, reading)
    return replace(project, reading=reading, cursor=None)


def news(project: Project) -> list[str]:
    """Say what has become of the project's labels, one line each; nothing if nothing has."""
    said = []
    try:
        reading = noticed(project)
        if reading is not None and reading.changed:
            said.append(f"the next sync reads every annotation again: {reading.changed}")
    except (ConfigError, DataError) as error:
        said.append(str(error))
    if project.reading is not None and project.reading.changed:
        said.append(f"what changed last: {project.reading.changed}")
    return said


def _changes(before: Reading, now: Reading) -> str:
    pairs = {
        "labels that came": set(now.labels) - set(before.labels),
        "labels that went or were renamed": set(before.labels) - set(now.labels),
        "controls that came": set(now.controls) - set(before.controls),
        "controls that went": set(before.controls) - set(now.controls),
    }
    said = [f"{what}: {', '.join(sorted(names))}" for what, names in pairs.items() if names]
    if set(before.aside) != set(now.aside):
        said.append(f"labels not learned: {', '.join(now.aside) or 'none'}")
    if before.unpainted != now.unpainted:
        said.append(f"unpainted pixels: {now.unpainted}")
    what = "; ".join(said) or (
        "the meaning of labels that are not learned, whether labels may overlap, whether objects "
        "are told apart, what prompts are, or how this version of Brushloop reads regions"
    )
    return f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC, {what}"


def _unpredict(context: Context, project_id: int, gone: Collection[str]) -> None:
    """Take labels that are not learned any more out of the predictions that are kept."""
    rounds = context.catalog.rounds
    for model in context.catalog.models.all(project_id):
        tile_ids = sorted(rounds.predicted(model.version))
        for start in range(0, len(tile_ids), CHUNK):
            rows = rounds.predictions(model.version, tile_ids[start : start + CHUNK])
            rounds.save_predictions([_without(row, gone) for row in rows.values()])


def _without(row: Prediction, gone: Collection[str]) -> Prediction:
    regions = orjson.loads(zlib.decompress(row.result))
    bare = {region["id"] for region in regions if not set(gone).isdisjoint(_names(region))}
    kept = [region for region in regions if region["id"] not in bare]
    return replace(row, result=zlib.compress(orjson.dumps(kept), 1))


def _names(region: dict[str, dict[str, list[str]]]) -> list[str]:
    value = region["value"]
    return [*value.get("brushlabels", ()), *value.get("labels", ())]
