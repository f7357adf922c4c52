"""What a simulation is asked, and the parts that it divides into."""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from pydantic import Field, ValidationError, field_validator

from ml_backend.errors import ConfigError
from ml_backend.recipe import Recipe, parse_recipe
from ml_backend.recipe.section import Section
from ml_backend.store.mask_matching import Match

BASELINE = "random"
"""What every strategy is compared with; it is always among them."""

SMALL: dict[str, Any] = {
    "network": {"encoder": "tu-test_resnet", "depth": 3, "decoder_width": 8, "fold": 2},
    "training": {"steps": 400, "epochs": 1, "patch": 128, "learning_rate": 6e-3},
    "prediction": {"batch_size": 32},
    "scoring": {"passes": "single"},
    "selection": {"first": "random"},
    "pool": {"tile": 128},
}
"""The recipe where none is given: a tiny ResNet, which a processor trains in seconds."""

_USUAL_BATCH = 8
_BATCHES_IN_POOL = 16  # a small pool must not be used up before strategies can differ


class Source(Section):
    """Where images and masks are, and how they become a pool and a frozen test set."""

    images: str
    masks: str
    labels: tuple[str, ...] = ("object",)
    values: str | None = None
    match: Match = "name"
    test_share: float = Field(0.25, gt=0, lt=1)
    test_part: Literal["spread", "last"] = "spread"
    most_pool: int = Field(600, ge=2)
    most_test: int = Field(200, ge=1)

    @field_validator("images", "masks", mode="before")
    @classmethod
    def _address(cls, value: object) -> object:
        return str(value) if isinstance(value, Path) else value


class Plan(Section):
    """Strategies, seeds and rounds on one source.

    `seeds`: how many, from `first_seed` on. `start`: tiles before the first choice; None is a
    batch. `longer`: the controls are trained this many times as long as the curves are; 1 leaves
    the long ones out. `judged_by`: curves are the IoU of all test pixels together, or the mean
    of the test images' own.
    """

    source: Source
    recipe: Recipe
    strategies: tuple[str, ...]
    seeds: int = Field(5, ge=1)
    first_seed: int = Field(0, ge=0)
    rounds: int = Field(4, ge=1)
    start: int | None = Field(None, ge=1)
    longer: int = Field(3, ge=1)
    judged_by: Literal["pixels", "images"] = "pixels"

    @property
    def first(self) -> int:
        """Tiles before the first choice."""
        return self.start or self.recipe.selection.batch

    @property
    def played(self) -> range:
        """The seeds."""
        return range(self.first_seed, self.first_seed + self.seeds)

    @property
    def identity(self) -> dict[str, Any]:
        """What all trainings depend on. Strategies, seeds, rounds and controls may be added to."""
        adds = {"strategies", "seeds", "first_seed", "rounds", "longer", "judged_by"}
        data = self.model_dump(mode="json", exclude=adds)
        data["start"] = self.first
        for place in ("images", "masks"):  # what is in them counts, not where they are
            del data["source"][place]
        if self.source.match == "name":  # results of before there was a choice go on
            del data["source"]["match"]
        for key in ("strategy", "seed"):
            del data["recipe"]["selection"][key]
        return data


class Part(NamedTuple):
    """What is done in one go: a start shared by a seed's curves, a curve, or a seed's ceiling."""

    kind: Literal["start", "curve", "ceiling"]
    strategy: str
    seed: int


class Unit(NamedTuple):
    """One training and what came of it. `arm`: a strategy, `start`, or a control."""

    arm: str
    seed: int
    round: int

    @property
    def key(self) -> str:
        """Where it is kept, without an ending."""
        return f"units/{self.arm}/{self.seed}-{self.round}"


def ask(data: dict[str, Any]) -> Plan:
    """A plan of these values.

    Raises `ConfigError` that names the ones it cannot have, and `UnknownName` for a strategy that
    nobody registered.
    """
    from ml_backend.selection.strategies import STRATEGIES

    try:
        plan = Plan.model_validate(data)
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(str(part) for part in fault['loc'])}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"this cannot be simulated: {faults}") from None
    for name in plan.strategies:
        STRATEGIES[name]
    return plan


def settle(plan: Plan, tiles: int, *, batch: int | None) -> Plan:
    """Fit a plan to a pool of so many tiles; `batch` None is what suits the pool.

    Fewer rounds where the pool has no more tiles. Raises `ConfigError` where it has too few for a
    single choice.
    """
    size = batch or min(_USUAL_BATCH, max(2, tiles // _BATCHES_IN_POOL))
    recipe = plan.recipe.changed({"selection.batch": size, "selection.audit_share": 0.0})
    start = plan.start or size
    rounds = min(plan.rounds, (tiles - start - 1) // size)
    if rounds < 1:
        raise ConfigError(
            f"the pool has {tiles} tiles: too few to choose {size} after a start of {start}; "
            "give more images, or a smaller --tile, --start or --batch"
        )
    others = tuple(dict.fromkeys(name for name in plan.strategies if name != BASELINE))
    return plan.model_copy(
        update={
            "recipe": recipe,
            "rounds": rounds,
            "start": start,
            "strategies": (BASELINE, *others),
        }
    )


def small_recipe(tile: int | None) -> Recipe:
    """`SMALL` for tiles of this side; patches are as large as a tile, in whole multiples of 32."""
    side = tile or SMALL["pool"]["tile"]
    patch = max(32, side // 32 * 32)
    return parse_recipe(SMALL).changed({"pool.tile": side, "training.patch": patch})


def parts_of(plan: Plan) -> list[list[Part]]:
    """The parts in two stages; those of a stage may be done in any order, also at once.

    A curve makes the start of its seed if it is missing, so the stages only spare work.
    """
    seeds = plan.played
    curves = [Part("curve", name, seed) for seed in seeds for name in plan.strategies]
    ceilings = [Part("ceiling", "", seed) for seed in seeds]
    return [[Part("start", "", seed) for seed in seeds], curves + ceilings]


def units_of(plan: Plan, part: Part) -> list[Unit]:
    """The trainings of a part, in their order."""
    if part.kind == "start":
        return [start_of(part.seed)]
    factors = [plan.longer] if plan.longer > 1 else []
    if part.kind == "ceiling":
        return [Unit(ceiling_of(factor), part.seed, 0) for factor in [1, *factors]]
    curve = [Unit(part.strategy, part.seed, number) for number in range(1, plan.rounds + 1)]
    if part.strategy == BASELINE:
        curve += [Unit(longer_of(factor), part.seed, plan.rounds) for factor in factors]
    return curve


def all_units(plan: Plan) -> list[Unit]:
    """Every training of a plan, once."""
    return [unit for stage in parts_of(plan) for part in stage for unit in units_of(plan, part)]


def start_of(seed: int) -> Unit:
    """The training on the tiles to start with."""
    return Unit("start", seed, 0)


def ceiling_of(factor: int) -> str:
    """The control that learns from the whole pool, so many times as long as the curves do."""
    return f"ceiling-x{factor}"


def longer_of(factor: int) -> str:
    """The control that learns longer from what the baseline ended with."""
    return f"{BASELINE}-x{factor}"
