"""The search: what is proposed, cut short, failed and carried on; trainings stand for formulas."""

import math
import sys

import pytest

from ml_backend.errors import ConfigError, LearningError, NothingToLearn
from ml_backend.learning.space import parse_space
from ml_backend.learning.tuning import tune
from ml_backend.recipe import Recipe

OVER = {"training.learning_rate": "1e-4..1e-1:log", "training.batch_size": "4,8"}


def quality(recipe):
    """Best at a learning rate of 0.02 and batches of 4."""
    off = abs(math.log10(recipe.training.learning_rate / 0.02))
    return max(0.0, 0.9 - 0.3 * off - 0.05 * (recipe.training.batch_size == 8))


def fit(recipe, report):
    """Four epochs that come nearer to the quality of the recipe."""
    for epoch in range(1, 5):
        report(epoch, quality(recipe) * epoch / 4)
    return quality(recipe)


@pytest.fixture
def search(tmp_path):
    """Function that tunes in one database."""

    def go(trials=8, fit=fit, over=OVER, study="tune-1", **options):
        recipe = Recipe()
        return tune(
            fit,
            recipe=recipe,
            space=parse_space(over, recipe),
            trials=trials,
            storage=f"sqlite:///{tmp_path / 'tuning.sqlite3'}",
            study=study,
            **options,
        )

    return go


def values(tuned):
    """What was tried, in order."""
    return [row.values for row in tuned.tried]


def test_the_best_recipe_is_found_and_never_worse_than_before(search):
    """The recipe's own values come first, the best one's score is its own, bad ones are cut."""
    told = []
    tuned = search(15, progress=lambda done, total, text: told.append((done, total, text)))
    assert tuned.tried[0].values == {"training.learning_rate": 1e-3, "training.batch_size": 8}
    assert tuned.before == pytest.approx(quality(Recipe()))
    assert tuned.score == quality(tuned.recipe) > tuned.before + 0.1
    assert tuned.recipe.training.learning_rate == tuned.best.values["training.learning_rate"]
    states = [row.state for row in tuned.tried]
    assert states.count("pruned") >= 2
    assert states.count("done") + states.count("pruned") == len(states) == 15
    assert all(row.score is None for row in tuned.tried if row.state == "pruned")
    assert told[0] == (0, 15, "trial 1 of 15")
    assert told[1][2] == f"trial 1 of 15, epoch 1: {quality(Recipe()) / 4:.3f}"
    assert told[-1] == (15, 15, f"best {tuned.score:.3f}, all 15 trials made")


class KilledError(BaseException):
    """Stands for kill -9."""


@pytest.mark.parametrize("epoch", [1, 3])
def test_a_killed_tuning_carries_on_with_the_same_trials(search, epoch):
    """Whatever trial and epoch it was killed in; more trials later carry on, too."""
    undisturbed = search(12, study="tune-undisturbed")
    made = []

    def killed(recipe, report):
        if len(made) == 6:
            made.append("killed")
            for step in range(1, epoch + 1):
                report(step, 0.5)
            raise KilledError
        made.append(recipe)
        return fit(recipe, report)

    with pytest.raises(KilledError):
        search(12, fit=killed)
    search(9)
    tuned = search(12)
    assert values(tuned) == values(undisturbed)
    assert tuned.score == undisturbed.score
    again = search(12, fit=None)  # nothing is left to train
    assert values(again) == values(tuned)


def test_trials_that_cannot_be_trained_fail_alone(search):
    """What the recipe refuses and what diverges is said; the rest is tuned."""

    def picky(recipe, report):
        if recipe.training.batch_size == 8:
            raise LearningError("the loss is nan")
        return fit(recipe, report)

    tuned = search(fit=picky, over={"training.batch_size": "-1,4,8"}, grid=True)
    assert [row.state for row in tuned.tried] == ["failed", "done", "failed"]
    assert "training.batch_size" in tuned.tried[0].reason
    assert tuned.tried[2].reason == "the loss is nan"
    assert tuned.before is None
    over = {"training.batch_size": "8", "network.fold": "1,2"}
    with pytest.raises(LearningError, match="all 2 trials failed: the loss is nan"):
        search(fit=picky, over=over, grid=True, study="tune-2")


def test_a_grid_is_tried_whole_and_once(search):
    """Every combination, none cut short, also when it was killed and however few trials."""
    over = {"training.learning_rate": "1e-4,1e-3,1e-2", "training.batch_size": "4,8"}
    made = []

    def counted(recipe, report):
        made.append((recipe.training.learning_rate, recipe.training.batch_size))
        if len(made) == 4:
            report(1, 0.1)
            raise KilledError
        return fit(recipe, report)

    with pytest.raises(KilledError):
        search(1, fit=counted, over=over, grid=True)
    tuned = search(1, fit=counted, over=over, grid=True)
    assert len(made) == 7
    assert made[3] in made[4:]
    assert len(set(made)) == len(tuned.tried) == 6
    assert {row.state for row in tuned.tried} == {"done"}
    assert tuned.best.values == {"training.learning_rate": 1e-2, "training.batch_size": 4}


def test_nothing_to_learn_ends_the_tuning(search):
    """Data that cannot be learned from are no fault of the trial's values."""

    def empty(_recipe, _report):
        raise NothingToLearn("no masks")

    with pytest.raises(NothingToLearn, match="no masks"):
        search(fit=empty)


def test_without_optuna_the_command_that_installs_it_is_said(search, monkeypatch):
    """One line, before anything is trained."""
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ConfigError, match=r"pip install 'brushloop\[tune\]'"):
        search(fit=None)
