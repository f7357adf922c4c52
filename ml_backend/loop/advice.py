"""Whether another round is worth the work: a rule over measured gains and the audit sample.

The rule, as docs/commands.md gives it to people:

- Fewer than `ROUNDS` rounds compared, or `IMAGES` validation images: nothing can be said.
- What another round will bring is predicted to be the mean gain of the last `ROUNDS` rounds.
  Gains shrink, so this says "stop" rather late than early.
- Its whole interval below zero: newer models are worse, so the recipe has to change.
- All of it below what is worth a round: the curve is flat. Then the audit sample, drawn without
  looking at any score, decides whether the model is good enough to stop.
- Above zero, and as large as is worth a round: go on. Anything else cannot be told yet.
"""

from dataclasses import dataclass
from typing import Literal

from ml_backend.loop.gains import Gains, Interval
from ml_backend.recipe import Advice as Wishes

ROUNDS = 3
IMAGES = 8
ANSWERS = 5

Verdict = Literal["go on", "stop", "change the recipe", "cannot tell"]


@dataclass(frozen=True)
class Advice:
    """What to do, why, and what is missing for a better answer."""

    verdict: Verdict
    reason: str
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Audit:
    """Predictions shown for tiles that were drawn at random, and what people made of them.

    `dice`: of prediction to submission; None without answers. Over the last `ROUNDS` rounds that
    have any.
    """

    answers: int
    accepted: int
    dice: Interval | None


def advise(gains: Gains, audit: Audit, wishes: Wishes) -> Advice:
    """Apply the rule."""
    missing = _missing(gains)
    if missing or gains.mean is None:
        return Advice("cannot tell", "too little has been measured", missing)
    said = f"the last {ROUNDS} rounds gained {gains.mean} IoU each"
    if gains.mean.high < 0:
        return Advice("change the recipe", f"{said}: newer models are worse than older ones")
    if gains.mean.high < wishes.gain:
        return _flat(f"{said}, less than the {wishes.gain:g} that a round is worth", audit, wishes)
    if gains.mean.low > 0 and gains.mean.value >= wishes.gain:
        return Advice("go on", f"{said}, and another is predicted to bring as much")
    return Advice(
        "cannot tell",
        f"{said}, which may be more or less than the {wishes.gain:g} that a round is worth",
        ("more validation images: raise selection.audit_share",),
    )


def _flat(said: str, audit: Audit, wishes: Wishes) -> Advice:
    if audit.dice is None or audit.answers < ANSWERS:
        lacking = f"{ANSWERS - audit.answers} more answers to audit tiles with a prediction"
        return Advice("cannot tell", f"{said}; whether it is good enough is not known", (lacking,))
    found = f"audit tiles have a Dice of {audit.dice} as shown, {audit.accepted} of {audit.answers}"
    if audit.dice.value >= wishes.dice:
        return Advice("stop", f"{said}, and {found} were right at once: good enough")
    return Advice(
        "change the recipe",
        f"{said}, but {found} were right at once: more annotations of this kind do not help, "
        "longer training or a larger network might (`brushloop tune`)",
    )


def _missing(gains: Gains) -> tuple[str, ...]:
    lacking = []
    if len(gains.rounds) < ROUNDS:
        count = ROUNDS - len(gains.rounds)
        lacking.append(f"{count} more rounds whose model is compared with the one before")
    images = gains.models[-1].images if gains.models else 0
    if images < IMAGES:
        lacking.append(f"{IMAGES - images} more validation images")
    return tuple(lacking)
