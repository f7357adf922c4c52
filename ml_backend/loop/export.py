"""Masks out: people's where there are any, the current model's for the rest, tiles stitched."""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import chain
from pathlib import Path, PurePath
from typing import Any, cast, get_args

from ml_backend.errors import DataError, NotFound, UnknownName
from ml_backend.export import EXPORTERS, ExportItem, Planned, write
from ml_backend.export import Report as Written
from ml_backend.export.items import check_name
from ml_backend.export.own_names import PATH as NAMES
from ml_backend.export.remote import upload
from ml_backend.loop.context import Context, Progress
from ml_backend.loop.drawings import Drawing, Wanted, drawings, moment_of
from ml_backend.loop.existing import fetch_images
from ml_backend.loop.models import Models, Serving
from ml_backend.loop.site import page_address
from ml_backend.loop.stitch import Sources, stitched, stitched_objects
from ml_backend.recipe import Annotators
from ml_backend.store.addresses import file_system
from ml_backend.store.blobs import local_folder
from ml_backend.store.listing import shown
from ml_backend.store.names import marked_name, original_text, safe_name
from ml_backend.store.rows import Image, Project
from ml_backend.store.summary import Summary

SOURCES = ("people", "model", "both")
SPLITS = ("train", "val", "all")
POLICIES: tuple[Annotators, ...] = get_args(Annotators)


@dataclass(frozen=True)
class Export:
    """What was written: one report a format; `summary` says what became of each image."""

    images: int
    written: dict[str, Written]
    summary: Summary

    def as_json(self) -> dict[str, Any]:
        """Give what was written in each format, and the summary."""
        formats = {
            name: {
                "path": str(report.path),
                "images": report.images,
                "regions": report.regions,
                "by_source": report.by_source,
                "notes": list(report.notes),
            }
            for name, report in self.written.items()
        }
        return {"images": self.images, "formats": formats} | self.summary.as_json()


def export(
    context: Context,
    project_id: int,
    address: Path | str,
    *,
    formats: Sequence[str] = ("png", "coco"),
    source: str = "both",
    annotators: str | None = None,
    split: str = "all",
    changed_since: str | None = None,
    progress: Progress,
) -> Export:
    """Write the masks of a project to a folder or an fsspec address, whole or not at all.

    `people`: images with at least one finished tile or a mask of their own, unknown (255) where
    nobody has been; `both`: the current model fills in the rest; `model`: what it says of every
    image. `annotators`: whose masks count, None: as the recipe says; with `all`, those of one tile
    are painted over one another, oldest change first, background covering nothing. `split`: train,
    val or all. `changed_since`: only images of which an annotation, or the version that drew them,
    changed after this moment (ISO 8601), or since they were exported last (`last`).

    An export that was interrupted is carried on with by the same call. Raises `UnknownName` and
    `ConfigError` for options that are none, `NotFound` when there is nothing to export.
    """
    wanted = _wanted(source, annotators, split, changed_since)
    for name in formats:
        EXPORTERS[name]  # an unknown one is said before anything is done
    project = context.catalog.projects.get(project_id)
    serving = Models(context).current(project) if wanted.model else None
    if serving is not None:  # the images of open tasks that were there before
        fetch_images(context, project, progress)
    found = drawings(context, project, wanted, serving.version if serving else None)
    first = next(found, None)
    if first is None and wanted.since is None:
        of_split = f" and split {split!r}" if wanted.split else ""
        raise NotFound(
            f"project {project_id} has nothing to export from {source!r}{of_split}: "
            "submit annotations and `brushloop sync`, or wait for the first model"
        )
    plan = _Plan(context, project, serving)
    folder = local_folder(str(address)) or _outbox(context, str(address))
    total = context.catalog.exports.count(project_id)
    written = write(
        formats,
        plan.of(chain([first] if first else (), found)),
        folder,
        context.labels(project),
        told=lambda done: progress(done, total, f"{done} images written"),
        left_out=plan.leave_out,
    )
    if local_folder(str(address)) is None:
        written = _publish(str(address), folder, written, progress)
    context.catalog.exports.save(project_id, plan.states)
    progress(total, total, "written")
    return Export(len(plan.states), written, plan.summary)


def _outbox(context: Context, address: str) -> Path:
    """Where an export waits for its upload, by its address."""
    file_system(address)  # one that cannot be used is said before anything is done
    digest = hashlib.sha256(address.rstrip("/").encode()).hexdigest()[:16]
    folder = context.settings.home / "outbox" / digest
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _publish(
    address: str, folder: Path, written: Mapping[str, Written], progress: Progress
) -> dict[str, Written]:
    """Upload an export; what was written, by its address. What waited here goes."""
    fs, root = file_system(address)
    targets = {name: PurePath(report.path).name for name, report in written.items()}
    upload(
        fs,
        root.rstrip("/"),
        folder,
        (*targets.values(), NAMES),
        told=lambda done, total: progress(done, total, f"{done} files uploaded"),
    )
    shutil.rmtree(folder, ignore_errors=True)
    return {
        name: replace(report, path=f"{address.rstrip('/')}/{targets[name]}")
        for name, report in written.items()
    }


def _wanted(source: str, annotators: str | None, split: str, changed_since: str | None) -> Wanted:
    """Read the options."""
    for what, chosen, choices in (
        ("source", source, SOURCES),
        ("split", split, SPLITS),
        ("policy for annotators", annotators or POLICIES[0], POLICIES),
    ):
        if chosen not in choices:
            raise UnknownName(f"unknown {what} {chosen!r}; choose one of: {', '.join(choices)}")
    return Wanted(
        people=source != "model",
        model=source != "people",
        annotators=cast("Annotators | None", annotators),
        split=None if split == "all" else split,
        since=None if changed_since is None else moment_of(changed_since),
    )


class _Plan:
    """Images to be exported; what they are exported as is noted in `states`."""

    def __init__(self, context: Context, project: Project, serving: Serving | None) -> None:
        self.states: dict[int, str] = {}
        self.summary = Summary()
        self._ids: dict[str, int] = {}
        labels = context.labels(project)
        self._sources = Sources(context, serving, labels.names, labels.overlapping)
        instances = project.recipe.instances.enabled
        instances = instances or (serving is not None and serving.instances.enabled)
        self._apart = instances and not labels.overlapping
        site = page_address(context, project.id)
        self._pages = f"{site}/projects/{project.id}/data?task=" if site else None

    def of(self, found: Iterable[Drawing]) -> Iterator[Planned]:
        """Plan each."""
        how = " apart" * self._apart + " overlapping" * self._sources.overlapping
        for one in found:
            name = self._name(one.image)
            self.states[one.image.id] = one.state
            self._ids[name] = one.image.id
            yield Planned(name, f"{one.key} {self._pages}{how}", partial(self._item, one, name))

    def leave_out(self, name: str, why: str) -> None:
        """Note an image whose mask could not be had; it counts as never exported."""
        self.states.pop(self._ids[name], None)
        self.summary.add("set_aside", name, why)

    def _name(self, image: Image) -> str:
        """The image's name; one of before names were made safe gets a safe one."""
        try:
            check_name(image.name)
        except DataError:
            name = marked_name(safe_name(image.name), image.name)
            both = f"{name} ← {shown(image.name)}"
            self.summary.add("warnings", both, "exported under a name that formats take")
            return name
        return image.name

    def _item(self, drawing: Drawing, name: str) -> ExportItem:
        image, pages, sources = drawing.image, self._pages, self._sources
        own = image.original or (None if image.name == name else original_text(image.name))
        paged = image.stack is not None
        return ExportItem(
            name,
            stitched(sources, drawing),
            drawing.source,
            task_url=" ".join(f"{pages}{task_id}" for task_id in drawing.tasks) if pages else None,
            annotator=" ".join(drawing.annotators),
            version=drawing.version,
            split=image.split,
            objects=partial(stitched_objects, sources, drawing) if self._apart else None,
            overlapping=sources.overlapping,
            file=own or image.stack,
            page=image.frame.page + 1 if paged else None,
        )
