"""What there is to export of each image: whose masks, which version, and since when."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property

import numpy as np

from ml_backend.errors import ConfigError
from ml_backend.export.items import Source
from ml_backend.loop.annotators import labelled
from ml_backend.loop.context import Context
from ml_backend.recipe import Annotators
from ml_backend.store.rows import Image, Labelled, Project

PAGE = 200  # images whose rows are held at once
LAST = "last"


@dataclass(frozen=True)
class Wanted:
    """Which masks of a project are exported.

    `people`, `model`: whose masks; where both are, people's lie over the model's. `annotators`:
    whose of several people, None: as the recipe says. `split`: None for all. `since`: only what
    changed after this moment (ISO 8601, UTC), or since it was exported last (`LAST`).
    """

    people: bool = True
    model: bool = True
    annotators: Annotators | None = None
    split: str | None = None
    since: str | None = None


@dataclass(frozen=True)
class Drawing:
    """An image and whose masks make up its own.

    `given`: the key of the mask that it came with; `people`: annotations of its tiles, to be laid
    over it; `version`: of the model that draws what is left, None where nothing is. `tasks`:
    those whose annotations count, else those that show it, ascending. `look`: how it predicts.
    """

    image: Image
    given: str | None
    people: tuple[Labelled, ...]
    version: str | None
    tasks: tuple[int, ...]
    look: str | None = None

    @property
    def source(self) -> Source:
        """Who drew it."""
        if self.version is not None:
            return "both" if self.people or self.given else "model"
        return "annotation" if self.people else "given"

    @property
    def annotators(self) -> tuple[str, ...]:
        """Ids of the people in Label Studio, ascending; `consensus` where several were merged."""
        merged = any(one.annotation_id is None for one in self.people)
        authors = {one.author for one in self.people if one.author is not None}
        return (*map(str, sorted(authors)), *(["consensus"] if merged else []))

    @cached_property
    def state(self) -> str:
        """A digest of the masks: another one when an annotation, version or way to predict is."""
        places = [(one.tile.x, one.tile.y, one.mask) for one in self.people]
        return _digest(self.given, places, self.version, self.version and self.look)

    @cached_property
    def key(self) -> str:
        """A digest of all that an export says of the image."""
        image = self.image
        about = (image.name, image.sha256, image.width, image.height, image.split)
        return _digest(about, self.state, self.source, self.annotators, self.tasks)


def drawings(
    context: Context, project: Project, wanted: Wanted, version: str | None
) -> Iterator[Drawing]:
    """Everything of a project that is wanted, by the images' names.

    `version`: of the current model, None without one. Rows are read a page of images at a time.
    """
    exports = context.catalog.exports
    promoted = _promoted(context, project.id) if version else ""
    after = ""
    while page := exports.page(project.id, after, PAGE):
        after = page[-1].name
        images = [image for image in page if wanted.split in (None, image.split)]
        ids = [image.id for image in images]
        states = exports.states(ids) if wanted.since == LAST else {}
        moments = exports.changes(project.id, ids) if wanted.since not in (None, LAST) else {}
        for one in _of_page(context, project, wanted, images, version):
            if wanted.since == LAST:
                is_new = states.get(one.image.id) != one.state
            else:
                moment = max(moments.get(one.image.id, ""), promoted if one.version else "")
                is_new = wanted.since is None or moment > wanted.since
            if is_new:
                yield one


def moment_of(text: str) -> str:
    """An ISO 8601 moment, UTC unless it says otherwise → the catalog's spelling, or `LAST`.

    Raises `ConfigError` for anything else.
    """
    if text == LAST:
        return text
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ConfigError(
            f"changed since {text!r}: give a moment such as 2026-03-01 or 2026-03-01T08:00+01:00 "
            f"(UTC unless it says otherwise), or {LAST!r}"
        ) from None
    moment = moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _of_page(
    context: Context,
    project: Project,
    wanted: Wanted,
    images: Sequence[Image],
    version: str | None,
) -> Iterator[Drawing]:
    ids = [image.id for image in images]
    people: dict[int, list[Labelled]] = {}
    if wanted.people:
        for one in labelled(context, project.id, wanted.annotators, ids):
            people.setdefault(one.tile.image.id, []).append(one)
    showing = context.catalog.exports.showing(project.id, ids)
    for image in images:
        theirs = tuple(people.get(image.id, ()))
        given = image.mask if wanted.people else None
        rest = version if wanted.model and not given and not _covers(theirs, image) else None
        if not (theirs or given or rest):
            continue
        counting = [one.task_id for one in theirs if one.task_id is not None]
        tasks = tuple(sorted(set(counting or showing.get(image.id, []))))
        yield Drawing(image, given, theirs, rest, tasks, project.recipe.prediction.key)


def _covers(people: Sequence[Labelled], image: Image) -> bool:
    """Whether tiles leave nothing of their image."""
    if any(one.tile.whole for one in people):
        return True
    if sum(one.tile.width * one.tile.height for one in people) < image.width * image.height:
        return False
    covered = np.zeros((image.height, image.width), np.bool_)
    for one in people:
        tile = one.tile
        covered[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width] = True
    return bool(covered.all())


def _promoted(context: Context, project_id: int) -> str:
    """When the current model became it."""
    gates = context.catalog.models.gates(project_id)
    return max((gate.created_at for gate in gates if gate.decision != "rejected"), default="")


def _digest(*parts: object) -> str:
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
