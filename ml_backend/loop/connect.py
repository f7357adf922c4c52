"""Connecting a project in both directions: our backend and webhook there, the project here."""

from collections.abc import Sequence
from dataclasses import dataclass

from ml_backend.errors import ConfigError, LabelConfigError
from ml_backend.loop.brush import brush_hint
from ml_backend.loop.context import Context
from ml_backend.loop.labels import check_names, labels_of
from ml_backend.loop.predict import show_version
from ml_backend.loop.reading import notice
from ml_backend.loop.site import find_page_address, find_project
from ml_backend.loop.trial import try_write_path
from ml_backend.masks.labels import make_label_config, parse_label_config
from ml_backend.recipe import Recipe
from ml_backend.store.rows import Project

SECRET_HEADER = "X-Brushloop-Secret"  # noqa: S105  (a header's name)
BACKEND_TITLE = "Brushloop"


def create_project(
    context: Context, title: str, labels: Sequence[str], recipe: Recipe | None = None
) -> Project:
    """Create the Label Studio project of this title, or use the one there is.

    Its labels may overlap if the recipe says so (`labels.overlap: multiple`). Raises
    `LabelConfigError` when the one there is has other labels.
    """
    info = context.studio.find_project(title)
    if info is None:
        multiple = recipe is not None and recipe.labels.overlap == "multiple"
        config_xml = make_label_config(labels, multiple=multiple)
        info = context.studio.create_project(title, config_xml)
    config = parse_label_config(info.label_config)
    wanted = Project(info.id, info.title, info.label_config, recipe or Recipe())
    labels_of(wanted)
    if list(config.names) != list(labels):
        raise LabelConfigError(
            f"the Label Studio project {title!r} has the labels {', '.join(config.names)}, "
            f"not {', '.join(labels)}: name them with --label, or use another --home"
        )
    check_names(wanted)
    return context.catalog.projects.save(
        info.id, title=info.title, label_config=info.label_config, recipe=recipe
    )


@dataclass(frozen=True)
class Connected:
    """A project that Label Studio and Brushloop know of each other.

    `page` is where people open it; `trial` says what was tried before, None if nothing was.
    """

    project: Project
    page: str
    trial: str | None = None


def connect(
    context: Context, project_id: int, recipe: Recipe | None = None, *, trial: bool = False
) -> Connected:
    """Register backend and webhook with their secrets; may be repeated.

    With `trial` the way of a task into Label Studio is tried first, and what is wrong with it is
    raised before anything is registered. Raises `LabelConfigError` for a project without a brush,
    `ConfigError` for a recipe that names labels which the project has not, `StudioRefused` with
    the way out when Label Studio blocks our address.
    """
    settings = context.settings
    if settings.password is None or settings.webhook_secret is None:
        raise ConfigError(
            "BRUSHLOOP_PASSWORD and BRUSHLOOP_WEBHOOK_SECRET must be set: "
            "Label Studio needs them to talk to the backend"
        )
    proposed = _proposed(context, project_id, recipe)
    tried = try_write_path(context, proposed) if trial else None
    project = context.catalog.projects.save(
        project_id, title=proposed.title, label_config=proposed.label_config, recipe=recipe
    )
    project = notice(context, project)
    page = f"{find_page_address(context, project_id)}/projects/{project_id}/data"
    url = settings.public_url
    context.studio.connect_backend(
        project_id, url, BACKEND_TITLE, settings.user, settings.password.get_secret_value()
    )
    context.studio.connect_webhook(
        project_id, f"{url}/webhook", SECRET_HEADER, settings.webhook_secret.get_secret_value()
    )
    current = context.catalog.models.current(project_id)
    if current is not None:  # connecting replaced it by the backend's title
        show_version(context, project_id, current.version)
    return Connected(project, page, tried)


def _proposed(context: Context, project_id: int, recipe: Recipe | None) -> Project:
    """The project as it would be kept, with a labeling config and a recipe that fit together."""
    info = find_project(context, project_id)
    known = context.catalog.projects.find(project_id)
    wanted = recipe or (known.recipe if known else Recipe())
    proposed = Project(project_id, info.title, info.label_config, wanted)
    try:
        labels_of(proposed)
    except LabelConfigError as error:
        raise LabelConfigError(f"{error}{brush_hint(info.label_config, project_id)}") from error
    if recipe is not None:
        check_names(proposed)
    return proposed
