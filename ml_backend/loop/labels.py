"""Which of a project's labels are learned: the labeling config, and what the recipe says of it."""

from ml_backend.errors import ConfigError, LabelConfigError
from ml_backend.masks.labels import LabelConfig, parse_label_config
from ml_backend.store.rows import Project

BACKGROUND = "background"  # what the rest is called in keys that go by label


def labels_of(project: Project) -> LabelConfig:
    """Give the labels that are learned; the recipe's `labels` says which are set aside.

    Raises `LabelConfigError` for a labeling config without a brush, and `ConfigError` with the
    recipe's key where it names a label that the project has not.
    """
    config = parse_label_config(project.label_config)
    roles = project.recipe.labels
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
        return config.setting_aside(
            unknown=roles.ignore,
            background=roles.background,
            former=[name for name in former if name not in config.names],
        )
    except LabelConfigError as error:
        raise ConfigError(
            f"the recipe's labels.ignore and labels.background do not fit project {project.id} "
            f"({project.title}): {error}; {way_out}"
        ) from None


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
