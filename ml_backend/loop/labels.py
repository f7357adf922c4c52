"""Which of a project's labels are learned: the labeling config, and what the recipe says of it."""

from dataclasses import replace

from ml_backend.errors import ConfigError, LabelConfigError
from ml_backend.masks.labels import LabelConfig, parse_label_config
from ml_backend.masks.sets import check_count
from ml_backend.store.rows import Project

BACKGROUND = "background"  # what the rest is called in keys that go by label


def labels_of(project: Project) -> LabelConfig:
    """Give the labels that are learned; the recipe's `labels` says which are set aside.

    It also says whether they may overlap, if it does not leave that to the labeling config. Raises
    `LabelConfigError` for a labeling config without a brush, and `ConfigError` with the recipe's
    key where it names a label that the project has not, or where more labels overlap than can.
    """
    config = parse_label_config(project.label_config)
    roles = project.recipe.labels
    if roles.overlap != "auto":
        config = replace(config, multiple=roles.overlap == "multiple")
    way_out = (
        "correct the recipe and hand it over with "
        f"`brushloop connect --project {project.id} --recipe FILE`"
    )
    for key, names in (("ignore", roles.ignore), ("background", roles.background)):
        for name in names:
            if name not in config.names:
                raise ConfigError(
                    f"the recipe's labels.{key} names {name!r}, but project {project.id} "
                    f"({project.title}) has the labels {', '.join(config.names)}: {way_out}"
                )
    former = project.reading.former if project.reading else ()
    try:
        config = config.setting_aside(
            unknown=roles.ignore,
            background=roles.background,
            former=[name for name in former if name not in config.names],
        )
    except LabelConfigError as error:
        raise ConfigError(
            f"the recipe's labels.ignore and labels.background do not fit project {project.id} "
            f"({project.title}): {error}; {way_out}"
        ) from None
    if config.overlapping:
        _check_overlap(project, config, way_out)
    return config


def _check_overlap(project: Project, config: LabelConfig, way_out: str) -> None:
    """Refuse what labels that may overlap cannot be or do."""
    try:
        check_count(config.names)
    except LabelConfigError as error:
        raise ConfigError(
            f"project {project.id} ({project.title}) has {error}; {way_out}"
        ) from None
    if project.recipe.instances.enabled:
        raise ConfigError(
            "the recipe's instances.enabled cuts objects of labels of which a pixel has one, but "
            f"the labels of project {project.id} ({project.title}) may overlap: turn it off, or "
            f"set labels.overlap: exclusive, and {way_out}"
        )


def check_names(project: Project) -> None:
    """Refuse a recipe whose keys by label name labels that are not learned.

    Asked when a recipe is handed over: later labels may be renamed in Label Studio, which must
    stop only what needs those keys. Raises `ConfigError` with the key.
    """
    recipe, learned = project.recipe, labels_of(project).names
    weights = recipe.training.class_weights
    ground = (BACKGROUND,)
    for key, names, others in (
        ("training.class_weights", weights if isinstance(weights, dict) else (), ground),
        ("scoring.weights", recipe.scoring.weights, ground),
        ("validation.floors", recipe.validation.floors, ()),
    ):
        known = (*others, *learned)
        for name in names:
            if name not in known:
                raise ConfigError(
                    f"the recipe's {key} names {name!r}, but project {project.id} "
                    f"({project.title}) learns {', '.join(known)}: correct the recipe"
                )
