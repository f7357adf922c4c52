"""Trying recipes: Optuna proposes values, trainings score them, hopeless ones are cut short.

Every trial is kept in a database, so that a tuning that was killed carries on. What a trial tries
depends on the seed and on the finished trials before it, so that broken off or not, the same
trials are made.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from ml_backend.errors import ConfigError, LearningError, NothingToLearn
from ml_backend.learning.space import (
    Choices,
    Range,
    Space,
    Value,
    combinations,
    contains,
    keys_of,
    with_values,
)
from ml_backend.recipe import Recipe

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial, Trial

Report = Callable[[int, float], None]
"""Told the score, 0..1 or nan, of each epoch from 1; raises when the trial is to end."""
Fit = Callable[[Recipe, Report], float]
"""Trains by a recipe and returns the score of what came of it, higher is better."""
Progress = Callable[[int, int, str], None]

_STARTUP = 5  # trials at random before the sampler models anything
_PATIENCE = 30  # seconds to wait for another process that writes the database


@dataclass(frozen=True)
class Tried:
    """One trial: `score` is None unless it was `done`; `reason` says why it `failed`."""

    number: int
    values: dict[str, Value]
    state: str
    score: float | None
    reason: str | None
    seconds: float


@dataclass(frozen=True)
class Tuned:
    """The best recipe, its score and trial, the score of the recipe as it was (if tried), all."""

    recipe: Recipe
    score: float
    best: Tried
    before: float | None
    tried: tuple[Tried, ...]


def tune(
    fit: Fit,
    *,
    recipe: Recipe,
    space: Space,
    trials: int,
    storage: str,
    study: str,
    grid: bool = False,
    progress: Progress = lambda _done, _total, _text: None,
) -> Tuned:
    """Try recipes until `trials` of them have ended, the ones of earlier calls included.

    `storage` is an SQLAlchemy URL, `study` names the question in it: the same name carries on. The
    recipe's own values come first where the space holds them. Trials that do worse than the median
    of the others at the same epoch are cut short. A `grid` tries every combination, whole, and
    `trials` does not matter. Values that the recipe or the training refuses fail their trial and
    not the tuning. Raises `ConfigError` without Optuna, `LearningError` when every trial failed.
    """
    questions = _open(storage, study, pruned=not grid)
    _take_up_what_was_cut_off(questions)
    own = {key: keys_of(recipe)[key] for key in space}
    if grid:
        rows = list(combinations(space))
        trials = len(rows)
        for row in rows:
            questions.enqueue_trial(row, skip_if_exists=True)
    elif contains(space, own):
        questions.enqueue_trial(own, skip_if_exists=True)
    while (done := len(_ended(questions))) < trials:
        text = f"{_best_so_far(questions)}trial {done + 1} of {trials}"
        questions.sampler = _sampler(recipe.training.seed, done)
        progress(done, trials, text)
        _try(questions, fit, recipe, space, partial(_tell, progress, done, trials, text))
    progress(trials, trials, f"{_best_so_far(questions)}all {trials} trials made")
    return _outcome(questions, recipe, own)


def _tell(progress: Progress, done: int, trials: int, text: str, epoch: int, score: float) -> None:
    progress(done, trials, f"{text}, epoch {epoch}: {score:.3f}")


def _open(storage: str, name: str, *, pruned: bool) -> "optuna.Study":
    try:
        import optuna
    except ImportError:
        raise ConfigError(
            "tuning needs Optuna, which is not installed: pip install 'brushloop[tune]'"
        ) from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    arguments = {"connect_args": {"timeout": _PATIENCE}} if storage.startswith("sqlite") else {}
    return optuna.create_study(
        storage=optuna.storages.RDBStorage(storage, engine_kwargs=arguments),
        study_name=name,
        direction="maximize",
        load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3, n_warmup_steps=1)
        if pruned
        else optuna.pruners.NopPruner(),
    )


def _sampler(seed: int, done: int) -> "optuna.samplers.TPESampler":
    import optuna

    return optuna.samplers.TPESampler(seed=seed * 10_007 + done, n_startup_trials=_STARTUP)


def _take_up_what_was_cut_off(study: "optuna.Study") -> None:
    """Trials that still run were killed, for one process tunes at a time: try them again."""
    from optuna.trial import TrialState

    for trial in study.get_trials(states=(TrialState.RUNNING,)):
        study.tell(trial.number, state=TrialState.FAIL)
        values = trial.system_attrs.get("fixed_params") or trial.params
        if values:
            study.enqueue_trial(values)


def _ended(study: "optuna.Study") -> "list[FrozenTrial]":
    """Trials that came to an end of their own."""
    from optuna.trial import TrialState

    return [
        trial
        for trial in study.get_trials(deepcopy=False)
        if trial.state in {TrialState.COMPLETE, TrialState.PRUNED} or "error" in trial.user_attrs
    ]


def _try(
    study: "optuna.Study",
    fit: Fit,
    recipe: Recipe,
    space: Space,
    tell: Callable[[int, float], None],
) -> None:
    """Make one trial and write down how it ended."""
    import optuna
    from optuna.trial import TrialState

    trial = study.ask()
    values = {key: _suggest(trial, key, allowed) for key, allowed in space.items()}

    def report(epoch: int, score: float) -> None:
        tell(epoch, score)
        trial.report(score, epoch)
        if trial.should_prune():
            raise optuna.TrialPruned

    try:
        score = fit(with_values(recipe, values), report)
    except optuna.TrialPruned:
        study.tell(trial, state=TrialState.PRUNED)
    except NothingToLearn:
        raise
    except (ConfigError, LearningError) as error:
        trial.set_user_attr("error", str(error))
        study.tell(trial, state=TrialState.FAIL)
    else:
        study.tell(trial, score)


def _suggest(trial: "Trial", key: str, allowed: Range | Choices) -> Value:
    if isinstance(allowed, Choices):
        choice: Value = trial.suggest_categorical(key, allowed.values)
        return choice
    if allowed.whole:
        return trial.suggest_int(key, int(allowed.low), int(allowed.high), log=allowed.log)
    return trial.suggest_float(key, allowed.low, allowed.high, log=allowed.log)


def _best_so_far(study: "optuna.Study") -> str:
    scores = [row.score for row in map(_tried, _ended(study)) if row.score is not None]
    return f"best {max(scores):.3f}, " if scores else ""


def _outcome(study: "optuna.Study", recipe: Recipe, own: Mapping[str, Value]) -> Tuned:
    rows = tuple(_tried(trial) for trial in _ended(study))
    done = [(row.score, row) for row in rows if row.score is not None]
    if not done:
        reasons = {row.reason for row in rows if row.reason}
        raise LearningError(f"all {len(rows)} trials failed: {'; '.join(sorted(reasons))}")
    score, best = max(done, key=lambda pair: pair[0])  # the earlier one of equals
    before = next((value for value, row in done if row.values == own), None)
    return Tuned(with_values(recipe, best.values), score, best, before, rows)


def _tried(trial: "FrozenTrial") -> Tried:
    from optuna.trial import TrialState

    done = trial.state is TrialState.COMPLETE
    state = "done" if done else "pruned" if trial.state is TrialState.PRUNED else "failed"
    span = trial.duration
    return Tried(
        trial.number,
        dict(trial.params),
        state,
        trial.value if done else None,
        trial.user_attrs.get("error"),
        span.total_seconds() if span else 0.0,
    )
