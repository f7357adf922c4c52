"""Writing an export: every image once, into all formats side by side."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import ml_backend
from ml_backend.errors import DataError, NotFound
from ml_backend.export.formats import EXPORTERS, Exporter
from ml_backend.export.items import ExportItem, Planned, Report, Tally
from ml_backend.export.own_names import OwnNames
from ml_backend.export.publish import translated
from ml_backend.export.stage import Part, staged
from ml_backend.masks.labels import LabelConfig


def write(
    formats: Sequence[str],
    planned: Iterable[Planned],
    folder: Path,
    config: LabelConfig,
    *,
    resumable: bool = True,
    at_risk: float = 1.0,
    told: Callable[[int], None] | None = None,
    left_out: Callable[[str, str], None] | None = None,
) -> dict[str, Report]:
    """Write images into `folder` in each format; what was written, by format.

    Each image is loaded once, and memory stays flat in their number. `png` makes `folder/png/`,
    `coco` makes `folder/coco.json`: several formats share a folder, and so may several exports.
    What stands there is replaced, whole, when everything is complete; until then it stays. An
    interrupted export that is `resumable` is carried on with by the same call: images that are
    finished are not loaded again, except those of the last `at_risk` seconds before a kill.
    `told` hears of how many images are finished, `left_out` of each whose mask could not be had,
    and why. Images that are called otherwise than their files stand in `names.csv`.

    Raises what kept the masks from being had if none could be, `UnknownName` (a format),
    `DataError` (unsafe or repeated names), `RegionError` (pixels that are no label) and
    `StoreError` (the file system refuses, or another export into `folder` is under way).
    """
    exporters = {name: EXPORTERS[name] for name in formats}
    tally = Tally(labels=len(config.labels))
    head = {
        "version": ml_backend.__version__,
        "formats": list(exporters),
        "labels": [[label.name, label.colour] for label in config.labels],
        "overlapping": config.overlapping,
    }
    parts: dict[str, Part] = {}
    staging = staged(folder, head, tally, resumable=resumable, at_risk=at_risk)
    with translated(folder), staging as stage:
        remaining = stage.remaining(planned)
        with ExitStack() as stack:
            adders = []
            for name, exporter in exporters.items():
                parts[name] = stage.part(name)
                adders.append(stack.enter_context(exporter.open(parts[name], config)))
            failure: Exception | None = None
            own_names = OwnNames(stage.part("names"))
            for one in remaining:
                problem = None
                try:
                    item = one.load()
                except (DataError, NotFound) as error:  # one image never stops the others
                    problem, failure = str(error), error
                else:
                    present = tally.check(item)
                    own_names.add(item)
                    for add in adders:
                        add(item, present)
                stage.finish(one, problem)
                if told is not None:
                    told(stage.finished)
            if failure is not None and not tally.images:
                raise failure
    if left_out is not None:
        for image, problem in stage.problems:
            left_out(image, problem)
    return {
        name: _report(folder / exporter.target, tally, parts[name], exporter)
        for name, exporter in exporters.items()
    }


def write_items(
    formats: Sequence[str], items: Iterable[ExportItem], folder: Path, config: LabelConfig
) -> dict[str, Report]:
    """Write items that are at hand, from the beginning; as `write` otherwise."""
    planned = (Planned(item.name, "", partial(_itself, item)) for item in items)
    return write(formats, planned, folder, config, resumable=False)


def _itself(item: ExportItem) -> ExportItem:
    return item


def _report(path: Path, tally: Tally, part: Part, exporter: Exporter) -> Report:
    notes = list(part.notes)
    if tally.unknown and exporter.unknown is not None:
        notes.append(f"images with unknown pixels, here {exporter.unknown}: {tally.unknown}")
    if tally.overlaps and exporter.hides:
        notes.append(
            "images with pixels of several labels, here the last of them in the labeling config's "
            f"order: {tally.overlaps}"
        )
    by_source = dict(sorted(tally.by_source.items()))
    return Report(path, tally.images, tally.regions, by_source, tuple(notes))
