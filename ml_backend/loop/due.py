"""What is due: whether a training or a batch shall begin by itself, and when it will.

Decided from what there is, at each pull and after each step, so a decision that a crash or a
quiet period swallowed is made again later.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from ml_backend.hours import next_time, quiet_until, spoken
from ml_backend.loop.annotators import counting
from ml_backend.loop.context import Context
from ml_backend.loop.dataset import dataset_of, prefix_of
from ml_backend.loop.existing import has_candidates
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Project


def resting_until(context: Context, project: Project) -> datetime | None:
    """When the quiet period ends in which nothing begins by itself; None outside of any."""
    loop = project.recipe.loop
    return quiet_until(loop.quiet, loop.timezone, context.now())


def training_due(context: Context, project_id: int) -> bool:
    """Whether a training is to begin: enough is new, a batch is finished, or it is time.

    Asked after every pull, so the data set is collected only where it decides.
    """
    masks = counting(context, project_id)
    fingerprints, learned = context.catalog.models.learned(project_id)
    new = len(set(masks) - learned)
    if not new:
        return False
    project = context.catalog.projects.get(project_id)
    if resting_until(context, project) is not None:
        return False
    if new < _wanted(project.recipe) and not _finished(context, project):
        moment = retraining_at(context, project)
        if moment is None or context.now() < moment:
            return False
    # an edit that was taken back: exactly this may have been learned from
    alike = {one for one in fingerprints if one.startswith(prefix_of(masks))}
    return not alike or dataset_of(context, project_id).fingerprint not in alike


def retraining_at(context: Context, project: Project) -> datetime | None:
    """When `loop.retrain_hours` have passed since the last training began.

    Before the first training the hours count from the first annotation. None where the recipe
    does not look at the clock, and where nothing has been annotated.
    """
    hours = project.recipe.loop.retrain_hours
    models, work = context.catalog.models, context.catalog.work
    since = models.began(project.id, "train") or work.first_answer(project.id)
    if hours is None or since is None:
        return None
    return _moment(since) + timedelta(hours=hours)


def batch_wanted(context: Context, project: Project) -> bool:
    """Whether few pushed tasks are open: fewer than the recipe says, or at most half a batch."""
    return context.catalog.work.waiting(project.id) < _few(project.recipe)


def next_batch(context: Context, project: Project) -> tuple[str, ...]:
    """Name the step that leads to the next batch, if the recipe wants it by itself and now."""
    wanted = project.recipe.loop.auto_select and batch_wanted(context, project)
    return ("score",) if wanted and resting_until(context, project) is None else ()


def batch_due(context: Context, project: Project) -> tuple[str, ...]:
    """Name the step that leads to the next batch where no training will ask for it.

    That is when everything has been answered or skipped and nothing is new, when fewer tasks are
    open than the recipe wants at any time, and when a training ended in a quiet period.
    """
    catalog = context.catalog
    if not catalog.rounds.any(project.id):
        return ()
    anytime = project.recipe.loop.select_below is not None
    if not anytime and catalog.work.waiting(project.id) and not _missed(context, project):
        return ()
    follow = next_batch(context, project)
    return follow if follow and has_candidates(context, project.id) else ()


@dataclass(frozen=True)
class Outlook:
    """What comes next in a project, as far as it is known.

    `new` annotations since the last training, `of` which one begins, or at `retraining`;
    `waiting` tasks are open, below `few` of which a batch is pushed; `selecting`: at which
    moment, if the clock is asked; `resting`: until when nothing begins. Moments are in UTC.
    """

    new: int
    of: int
    due: bool
    retraining: datetime | None
    waiting: int
    few: int
    pool: bool
    selecting: datetime | None
    resting: datetime | None


def outlook(context: Context, project: Project) -> Outlook:
    """Look at what comes next."""
    masks = counting(context, project.id)
    _, learned = context.catalog.models.learned(project.id)
    loop = project.recipe.loop
    at = loop.select_at and next_time(loop.select_at, loop.timezone, context.now())
    return Outlook(
        new=len(set(masks) - learned),
        of=_wanted(project.recipe),
        due=training_due(context, project.id),
        retraining=retraining_at(context, project),
        waiting=context.catalog.work.waiting(project.id),
        few=_few(project.recipe),
        pool=has_candidates(context, project.id),
        selecting=at or None,
        resting=resting_until(context, project),
    )


def told(seen: Outlook, recipe: Recipe, now: datetime) -> list[str]:
    """An outlook in the words of `brushloop status`: quiet, training, selection."""
    zone, lines = recipe.loop.timezone, []
    if seen.resting is not None:
        end = spoken(seen.resting, zone, now)
        lines.append(f"quiet until {end}: no training and no selection begins by itself")
    return [*lines, _training_told(seen, recipe, now), *_selection_told(seen, recipe, now)]


def _training_told(seen: Outlook, recipe: Recipe, now: datetime) -> str:
    if not seen.new:
        return "training: nothing is new"
    if seen.resting is not None and seen.new >= seen.of:
        return f"training: due when the quiet period ends, {seen.new} new annotations"
    if seen.due:
        return f"training: due, {seen.new} new annotations"
    ways = [f"{seen.new} of {seen.of} new annotations"]
    if seen.waiting:
        ways.append(f"or when the {seen.waiting} open tasks are done")
    if seen.retraining is not None:
        ways.append(f"or {_begins(max(seen.retraining, now), recipe, now)}")
    return f"training: {', '.join(ways)}"


def _selection_told(seen: Outlook, recipe: Recipe, now: datetime) -> list[str]:
    if not seen.pool:
        return ["selection: the pool is empty"]
    lines, open_ = [], f"selection: {seen.waiting} tasks open; below {seen.few} the next batch"
    if recipe.loop.auto_select:
        when = "" if recipe.loop.select_below else ", after a training"
        lines.append(f"{open_} is pushed{when}")
    elif seen.selecting is None:
        lines.append("selection: by `brushloop select` alone (loop.auto_select, loop.select_at)")
    if seen.selecting is not None:
        begins = _begins(seen.selecting, recipe, now)
        lines.append(f"selection: next {begins}, if fewer than {seen.few} tasks are open then")
    return lines


def _begins(moment: datetime, recipe: Recipe, now: datetime) -> str:
    """When something that is due at a moment begins: at the end of a quiet period it lies in."""
    zone = recipe.loop.timezone
    return spoken(quiet_until(recipe.loop.quiet, zone, moment) or moment, zone, now)


def _wanted(recipe: Recipe) -> int:
    return recipe.loop.retrain_every or recipe.selection.batch


def _few(recipe: Recipe) -> int:
    return recipe.loop.select_below or recipe.selection.batch // 2 + 1


def _finished(context: Context, project: Project) -> bool:
    """Whether there was a batch and nothing of it is open."""
    pushed = context.catalog.rounds.any(project.id, state="pushed")
    return pushed and not context.catalog.work.waiting(project.id)


def _missed(context: Context, project: Project) -> bool:
    """Whether a training ended since the last round, so that quiet may have swallowed a batch."""
    if project.recipe.loop.quiet is None:
        return False
    judged = context.catalog.models.judged(project.id)
    return (judged or "") > (context.catalog.rounds.newest(project.id) or "")


def _moment(text: str) -> datetime:
    """A moment as the catalog and Label Studio write it."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
