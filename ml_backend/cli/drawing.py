"""Curves of trainings and of rounds as pictures."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.errors import ConfigError, NotFound, StoreError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ml_backend.loop.curves import Training
    from ml_backend.loop.effort import Effort

_PANELS = (("loss", "loss"), ("iou", "IoU"))
_FORMATS = {".png", ".svg"}


def draw_curves(trainings: "Sequence[Training]", path: Path, *, title: str) -> None:
    """Draw loss and IoU of every training over its epochs, whole or not at all.

    Training dashed, validation solid, a star on the epoch whose weights were kept. Raises
    `ConfigError` for other endings than .png and .svg, `NotFound` when there is nothing to draw,
    `StoreError` when the file cannot be written.
    """
    _check_ending(path)
    if not trainings:
        raise NotFound("there is no finished epoch to draw yet: run `brushloop train`")
    figure = _figure()
    panels = figure.subplots(1, len(_PANELS))
    colours = _colours(len(trainings))
    for axes, (measure, name) in zip(panels, _PANELS, strict=True):
        for training, colour in zip(trainings, colours, strict=True):
            _draw(axes, training, measure, colour)
        axes.set(xlabel="epoch", ylabel=name)
        axes.xaxis.get_major_locator().set_params(integer=True)
        axes.grid(alpha=0.3)
    panels[0].set_ylim(bottom=0)
    panels[1].set_ylim(0, 1)
    text = f"{title}: training dashed, validation solid, ★ the epoch that was kept"
    figure.suptitle(text, parse_math=False)
    handles, names = panels[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside right upper", fontsize="small")
    _save(figure, path)


def draw_effort(found: "Effort", path: Path, *, title: str) -> None:
    """Draw the learning curve with its band, and what people had to redo, whole or not at all.

    Raises as `draw_curves` does.
    """
    _check_ending(path)
    rounds = [row for row in found.rounds if row.work.submitted]
    if not rounds:
        raise NotFound("nobody has answered a task of a round yet: there is no effort to draw")
    figure = _figure()
    curve, work = figure.subplots(1, 2)
    models = [one for one in found.gains.models if one.iou is not None]
    labelled = [one.labelled for one in models]
    ious = [one.iou for one in models if one.iou is not None]
    lows, highs = [iou.low for iou in ious], [iou.high for iou in ious]
    curve.plot(labelled, [iou.value for iou in ious], "o-", label="IoU")
    curve.fill_between(labelled, lows, highs, alpha=0.2, label="95 % over validation images")
    curve.vlines(labelled, lows, highs, alpha=0.4)  # a single point has no band
    curve.set(xticks=labelled, xlabel="annotated tiles", ylabel="validation IoU", ylim=(0, 1))
    numbers = [row.round for row in rounds]
    work.bar(numbers, [row.work.redone / row.work.submitted for row in rounds], label="redone")
    shown = [(row.round, row.work.dice) for row in rounds if row.work.dice is not None]
    work.plot([x for x, _ in shown], [y for _, y in shown], "ko-", label="Dice as shown")
    work.set(xlabel="round", ylabel="share of the submissions", ylim=(0, 1.05))
    work.xaxis.get_major_locator().set_params(integer=True)
    for axes in (curve, work):
        axes.grid(alpha=0.3)
        axes.legend(loc="best", fontsize="small")
    figure.suptitle(f"{title}: {found.advice.verdict}", parse_math=False)
    _save(figure, path)


def _check_ending(path: Path) -> None:
    if path.suffix.lower() not in _FORMATS:
        raise ConfigError(f"--plot {path}: the file's name must end in .png or .svg")


def _figure() -> "Figure":
    from matplotlib.figure import Figure  # slow to import, and only a picture needs it

    return Figure(figsize=(10, 4.5), layout="constrained")


def _save(figure: "Figure", path: Path) -> None:
    import matplotlib as mpl

    ending = path.suffix.lower()
    partial = path.with_name(f".{path.name}.partial")
    try:
        with mpl.rc_context({"svg.hashsalt": "brushloop"}):  # the same curves, the same bytes
            dated = {"Date": None} if ending == ".svg" else None
            figure.savefig(partial, format=ending[1:], dpi=120, metadata=dated)
        partial.replace(path)
    except OSError as error:
        raise StoreError(f"--plot {path} cannot be written: {error.strerror}") from None


def _draw(axes: Any, training: "Training", measure: str, colour: Any) -> None:
    """One training's two lines; the validation line has the star, and the name in the legend."""
    for side, style in (("train", "--"), ("val", "-")):
        points = [(row["epoch"], row[f"{side}_{measure}"]) for row in training.epochs]
        known = [(epoch, value) for epoch, value in points if value is not None]
        axes.plot(
            [epoch for epoch, _ in known],
            [value for _, value in known],
            style,
            color=colour,
            label=training.version if side == "val" else None,
        )
        best = [value for epoch, value in known if epoch == training.best_epoch]
        if side == "val" and best:
            axes.plot(training.best_epoch, best[0], "*", color=colour, markersize=12)


def _colours(count: int) -> list[Any]:
    """Distinct colours for a few trainings, a gradient from old to new for many."""
    from matplotlib import colormaps

    if count <= 10:
        return [colormaps["tab10"](index) for index in range(count)]
    return [colormaps["viridis"](index / (count - 1)) for index in range(count)]
