"""Which of a project's labels are learned: the labeling config, and what the recipe says of it."""

from collections.abc import Sequence
from dataclasses import replace

from ml_backend.errors import ConfigError, LabelConfigError
from ml_backend.masks.labels import LabelConfig, parse_label_config
from ml_backend.masks.sets import check_count
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Project

BACKGROUND = "background"  # what the rest is called in keys that go by label


def labels_of(project: Project) -> LabelConfig:
    """Give the labels that are learned; the recipe's `labels` says which are set aside.

    It also says whether they may overlap, if it does not leave that to the labeling config. Raises
    `LabelConfigError` for a labeling config without a brush, and `ConfigError` with the recipe's
    key where it names a label that the project has not, or where more labels overlap than can.
    """
    config = parse_label_config(project.label_config)
    former = project.reading.former if project.reading else ()
    return learned(
        config,
        project.recipe,
        f"project {project.id} ({project.title})",
        "correct the recipe and hand it over with "
        f"`brushloop connect --project {project.id} --recipe FILE`",
        former=[name for name in former if name not in config.names],
    )


def learned(
    config: LabelConfig, recipe: Recipe, who: str, way_out: str, former: Sequence[str] = ()
) -> LabelConfig:
    """Give the labels of a labeling config that `recipe` has learned.

    `who` has the labels, and `way_out` is what to do about a recipe that does not fit them, both
    for the `ConfigError`s that `labels_of` tells of. `former`: labels that the config had once.
    """
    roles = recipe.labels
    if roles.overlap != "auto":
        config = replace(config, multiple=roles.overlap == "multiple")
    if roles.smart == "masks":
        config = replace(config, prompts=())
    for key, names in (("ignore", roles.ignore), ("background", roles.background)):
        for name in names:
            if name not in config.names:
                raise ConfigError(
                    f"the recipe's labels.{key} names {name!r}, but {who} has the labels "
                    f"{', '.join(config.names)}: {way_out}"
                )
    try:
        config = config.setting_aside(
            unknown=roles.ignore, background=roles.background, former=former
        )
    except LabelConfigError as error:
        raise ConfigError(
            f"the recipe's labels.ignore and labels.background do not fit {who}: {error}; {way_out}"
        ) from None
    if config.overlapping:
        _check_overlap(config, recipe, who, way_out)
    return config


def _check_overlap(config: LabelConfig, recipe: Recipe, who: str, way_out: str) -> None:
    """Refuse what labels that may overlap cannot be or do."""
    try:
        check_count(config.names)
    except LabelConfigError as error:
        raise ConfigError(f"{who} has {error}; {way_out}") from None
    if recipe.instances.enabled:
        raise ConfigError(
            "the recipe's instances.enabled cuts objects of labels of which a pixel has one, but "
            f"the labels of {who} may overlap: turn it off, or set labels.overlap: exclusive, and "
            f"{way_out}"
        )


def check_names(project: Project) -> None:
    """Refuse a recipe whose keys by label name labels that are not learned.

    Asked when a recipe is handed over: later labels may be renamed in Label Studio, which must
    stop only what needs those keys. Raises `ConfigError` with the key.
    """
    who = f"project {project.id} ({project.title})"
    check_keys(project.recipe, labels_of(project).names, who)


def check_keys(recipe: Recipe, names: Sequence[str], who: str) -> None:
    """`check_names` for whoever learns the labels `names`."""
    weights = recipe.training.class_weights
    ground = (BACKGROUND,)
    for key, named, others in (
        ("training.class_weights", weights if isinstance(weights, dict) else (), ground),
        ("scoring.weights", recipe.scoring.weights, ground),
        ("validation.floors", recipe.validation.floors, ()),
    ):
        known = (*others, *names)
        for name in named:
            if name not in known:
                raise ConfigError(
                    f"the recipe's {key} names {name!r}, but {who} learns {', '.join(known)}: "
                    "correct the recipe"
                )
