"""A project's Label Studio as people and polls meet it: its address, and whether it is there."""

from urllib.parse import urlsplit

from ml_backend.errors import NotFound, StudioMissing
from ml_backend.loop.context import Context
from ml_backend.studio.models import ProjectInfo


def page_address(context: Context, project_id: int) -> str | None:
    """Where people reach Label Studio, as far as is known without asking it; None if unknown."""
    settings = context.settings
    url = (
        settings.label_studio_browser_url
        or context.catalog.sites.get(project_id).browser_url
        or settings.label_studio_url
    )
    return url.rstrip("/") if url else None


def find_page_address(context: Context, project_id: int) -> str:
    """Ask Label Studio where people reach it, and remember it for links."""
    url = context.studio.browser_url
    other = None if url == context.studio.url else url
    if other != context.catalog.sites.get(project_id).browser_url:
        context.catalog.sites.set_browser_url(project_id, other)
    return url


def image_prefix(context: Context, project_id: int) -> str:
    """What stands before `/data/…` in a task, so that the image loads in people's browsers."""
    return urlsplit(find_page_address(context, project_id)).path.rstrip("/")


def find_project(context: Context, project_id: int) -> ProjectInfo:
    """Ask Label Studio for a project, and note whether it has it.

    Raises `StudioMissing` with the ways out where it was deleted: then it is polled no more.
    """
    if context.catalog.sites.get(project_id).state == "leaving":
        raise NotFound(f"project {project_id} is {missing_line(context, project_id)}")
    try:
        info = context.studio.get_project(project_id)
    except StudioMissing:
        context.studio.whoami()  # an address that is none of Label Studio's has no user either
        if context.catalog.projects.find(project_id) is None:
            raise
        context.catalog.sites.set_state(project_id, "missing")
        raise StudioMissing(missing_line(context, project_id) or "") from None
    if context.catalog.sites.get(project_id).state == "missing":
        context.catalog.sites.set_state(project_id, None)
    return info


def missing_line(context: Context, project_id: int) -> str | None:
    """Say that a project is gone, and what to do; None while it is there."""
    site = context.catalog.sites.get(project_id)
    since = f" (seen {site.since[:16].replace('T', ' ')} UTC)" if site.since else ""
    if site.state == "leaving":
        return (
            f"being forgotten{since}, and that was cut off: "
            f"`brushloop forget --project {project_id}` carries on"
        )
    if site.state == "missing":
        return (
            f"Label Studio has no project {project_id} any more, or hides it from the token's "
            f"user{since}: it is polled no more. `brushloop forget --project {project_id}` removes "
            f"what is kept of it here; once it is back, `brushloop sync --project {project_id}`"
        )
    return None
