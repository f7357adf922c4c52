"""The advice on made-up curves, and the intervals that it goes by."""

import numpy as np
import pytest

from ml_backend.loop.advice import Audit, advise
from ml_backend.loop.gains import ByImage, Interval, gains_of, mean_interval
from ml_backend.recipe import Advice
from ml_backend.store.rows import Gate, Model

GOOD = Audit(12, 9, Interval(0.95, 0.92, 0.97))
BAD = Audit(12, 2, Interval(0.7, 0.62, 0.77))
NONE = Audit(0, 0, None)
NO_SIDE = {"candidate": None, "current": None}


def counts(iou, spread, hard, rng):
    """Pixel counts of one label on each image, around this IoU; `hard` shifts an image for all."""
    found = {}
    for image, shift in enumerate(hard):
        near = float(np.clip(iou + shift + rng.normal(0, spread), 0.01, 0.99))
        hits = round(2000 * near / (1 + near))
        found[str(image)] = [[hits, 1000, 1000]]
    return found


def played(ious, *, images=20, spread=0.002, rejected=(), seed=0):
    """Gates and models of rounds whose models have these IoUs; each is compared with the last."""
    rng = np.random.default_rng(seed)
    hard = rng.normal(0, 0.08, images)
    gates, models, before = [], [], None
    for number, iou in enumerate(ious, 1):
        version, mine = f"p1-v{number}", counts(iou, spread, hard, rng)
        decision = "rejected" if number in rejected else "promoted"
        sides = {"candidate": mine, "current": before}
        gates.append(Gate(version, None, decision, {"by_image": sides}))
        models.append(Model(version, number, "archived", "", {"round": number, "labelled": 9}))
        before = before if decision == "rejected" else mine
    return gates, models


def gains(ious, **options):
    """What is known of such rounds."""
    return gains_of(*played(ious, **options), 3, np.random.default_rng(1))


RISING = [0.5, 0.6, 0.67, 0.72, 0.76]
FLAT = [0.6, 0.78, 0.8, 0.8, 0.801, 0.8]
FALLING = [0.8, 0.76, 0.7, 0.65]


@pytest.mark.parametrize(
    ("ious", "audit", "verdict", "words"),
    [
        (RISING, BAD, "go on", "predicted to bring as much"),
        (RISING, NONE, "go on", "gained"),
        (FLAT, GOOD, "stop", "good enough"),
        (FLAT, BAD, "change the recipe", "do not help"),
        (FLAT, NONE, "cannot tell", "not known"),
        (FALLING, GOOD, "change the recipe", "worse than older"),
    ],
)
def test_curves_and_their_advice(ious, audit, verdict, words):
    """Rising: go on. Flat: the audit decides. Falling: something is wrong."""
    advice = advise(gains(ious), audit, Advice())
    assert advice.verdict == verdict
    assert words in advice.reason


def test_noise_is_no_reason_to_do_anything():
    """A flat curve on few images that vary much may be anything, and mostly the advice says so."""
    advices = [
        advise(gains(FLAT, images=12, spread=0.1, seed=seed), GOOD, Advice()) for seed in range(20)
    ]
    unsure = [advice for advice in advices if advice.verdict == "cannot tell"]
    assert len(unsure) >= 16
    assert unsure[0].missing == ("more validation images: raise selection.audit_share",)


def test_too_little_is_said_with_what_is_missing():
    """Rounds and images, each with how many more it takes."""
    advice = advise(gains([0.5, 0.6], images=3), GOOD, Advice())
    assert advice.verdict == "cannot tell"
    assert advice.missing == (
        "2 more rounds whose model is compared with the one before",
        "5 more validation images",
    )
    nothing = advise(gains_of([], [], 3, np.random.default_rng(0)), NONE, Advice())
    assert nothing.missing[0].startswith("3 more rounds")
    few = advise(gains(FLAT), Audit(2, 1, Interval(0.9, 0.9, 0.9)), Advice())
    assert few.missing == ("3 more answers to audit tiles with a prediction",)


def test_what_a_round_is_worth_is_the_recipe_s():
    """The same curve is worth going on for one project and flat for another."""
    assert advise(gains(RISING), GOOD, Advice(gain=0.03)).verdict == "go on"
    assert advise(gains(RISING), GOOD, Advice(gain=0.2)).verdict == "stop"


def test_gains_are_differences_on_the_same_images():
    """Paired, so that hard images widen the interval of the IoU and not that of the gain."""
    found = gains(RISING)
    assert [one.gain is None for one in found.models] == [True, False, False, False, False]
    last = found.models[-1]
    assert last.gain.value == pytest.approx(0.04, abs=0.01)
    assert last.gain.low <= last.gain.value <= last.gain.high
    assert last.gain.high - last.gain.low < 0.2 * (last.iou.high - last.iou.low)
    assert found.rounds == (2, 3, 4, 5)
    mean = np.mean([one.gain.value for one in found.models[-3:]])
    assert found.mean.value == pytest.approx(mean)


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    """Of 200 samples of 30 images, the mean lies within nearly 95 %; and it is no wider."""
    rng = np.random.default_rng(3)
    found = [mean_interval(list(rng.normal(0.5, 0.1, 30)), rng) for _ in range(200)]
    covered = np.mean([one.low <= 0.5 <= one.high for one in found])
    assert 0.88 <= covered <= 0.98
    width = np.mean([one.high - one.low for one in found])
    assert width == pytest.approx(2 * 1.96 * 0.1 / np.sqrt(30), rel=0.1)


def test_several_models_of_a_round_add_up():
    """Promoted ones are summed; a round whose last model was rejected has its own difference."""
    gates, models = played([0.5, 0.6, 0.7, 0.65], rejected=(4,))
    models[2] = Model(models[2].version, 3, "archived", "", {"round": 2, "labelled": 9})
    found = gains_of(gates, models, 1, np.random.default_rng(1))
    one, two, three = (one.gain.value for one in found.models[1:])
    assert found.rounds == (2, 4)
    assert found.mean.value == pytest.approx(three)
    found = gains_of(gates[:3], models, 1, np.random.default_rng(1))
    assert found.mean.value == pytest.approx(one + two)


def test_decisions_without_measurements_are_left_out():
    """By hand, rolled back, without validation images, from before counts were kept."""
    gates, models = played(RISING)
    silent = [
        Gate("p1-v1", "p1-v2", "rollback", {}),
        Gate("p1-v2", None, "promoted", {"by_image": NO_SIDE}),
        Gate("p1-v3", None, "promoted", {"candidate": {"iou": 0.5}}),
    ]
    known = gains_of(gates, models, 3, np.random.default_rng(1))
    assert gains_of([*silent, *gates], models, 3, np.random.default_rng(1)) == known


def test_images_are_counted_with_all_their_tiles():
    """Tiles of one image are summed, and what is unknown does not count."""
    by_image = ByImage([7, 7, 9], 2)
    truth = np.array([[0, 1], [2, 255]], np.uint8)
    said = np.array([[1, 1], [0, 2]], np.uint8)
    for index in range(3):
        by_image(index, said, truth)
    once = [[1, 1, 2], [0, 1, 0]]
    assert by_image.numbers() == {"7": [[2 * n for n in row] for row in once], "9": once}
