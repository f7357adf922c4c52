"""Curves of trainings as a picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml_backend.errors import ConfigError, NotFound, StoreError

if TYPE_CHECKING:
    from ml_backend.loop.curves import Training

_PANELS = (("loss", "loss"), ("iou", "IoU"))
_FORMATS = {".png", ".svg"}


def draw_curves(trainings: "Sequence[Training]", path: Path, *, title: str) -> None:
    """Draw loss and IoU of every training over its epochs, whole or not at all.

    Training dashed, validation solid, a star on the epoch whose weights were kept. Raises
    `ConfigError` for other endings than .png and .svg, `NotFound` when there is nothing to draw,
    `StoreError` when the file cannot be written.
    """
    ending = path.suffix.lower()
    if ending not in _FORMATS:
        raise ConfigError(f"--plot {path}: the file's name must end in .png or .svg")
    if not trainings:
        raise NotFound("there is no finished epoch to draw yet: run `brushloop train`")
    import matplotlib as mpl  # slow to import, and only a picture needs it
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.5), layout="constrained")
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
