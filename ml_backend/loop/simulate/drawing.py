"""The learning curves as a picture."""

import io
from typing import TYPE_CHECKING, Any

import numpy as np

from ml_backend.loop.simulate.figures import Curve, Result, interval
from ml_backend.loop.simulate.plan import BASELINE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SIZE, _DPI = (11, 4.6), 100
_BANDS = 6  # of more curves the bands lie on each other, and only the baseline's is drawn


def draw(result: Result, title: str, measure: str) -> bytes:
    """PNG: mean IoU over tiles with 95 % bands and the ceilings, and over outlined objects.

    `measure` says which IoU it is.
    """
    file = io.BytesIO()
    figure_of(result, title, measure).savefig(file, format="png", dpi=_DPI)
    return file.getvalue()


def figure_of(result: Result, title: str, measure: str) -> "Figure":
    """The same, not drawn yet."""
    from matplotlib.figure import Figure  # slow to import, and only the end draws

    figure = Figure(figsize=_SIZE, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    few = len(result.curves) <= _BANDS
    for curve, colour in zip(result.curves.values(), _colours(result), strict=True):
        _line(left, curve, curve.tiles[0], colour, band=few or curve.name == BASELINE)
        _line(right, curve, curve.objects.mean(axis=0), colour, band=False)
    ceilings = [arm for arm in sorted(result.controls) if arm.startswith("ceiling")]
    for arm, style in zip(ceilings, ("--", ":"), strict=False):
        height, name = result.controls[arm].mean(), arm.replace("ceiling-x", "whole pool, steps x")
        left.axhline(height, color="grey", linestyle=style, label=name)
        right.axhline(height, color="grey", linestyle=style)
    left.set(xlabel="labelled tiles", ylabel=measure)
    left.set_xticks(result.baseline.tiles[0])
    right.set(xlabel="outlined objects (mean over seeds)")
    for axes in (left, right):
        axes.grid(alpha=0.3)
    bands = "95 % interval" + f" of {BASELINE}" * (not few)
    figure.suptitle(f"{title}; mean and {bands}", parse_math=False, fontsize="medium")
    figure.legend(*left.get_legend_handles_labels(), loc="outside right upper", fontsize="small")
    return figure


def _line(axes: Any, curve: Curve, x: Any, colour: Any, *, band: bool) -> None:
    points = [interval(column) for column in curve.iou.T]
    width = 2.4 if curve.name == BASELINE else 1.4
    mean = [point.mean for point in points]
    axes.plot(x, mean, marker=".", color=colour, linewidth=width, label=curve.name)
    if band and not np.isnan(points[0].low):
        lows, highs = [max(0, p.low) for p in points], [min(1, p.high) for p in points]
        axes.fill_between(x, lows, highs, color=colour, alpha=0.1, linewidth=0)


def _colours(result: Result) -> list[Any]:
    """Black for the baseline, and one of its own for each of up to twenty others."""
    from matplotlib import colormaps

    palette = colormaps["tab10" if len(result.curves) <= 11 else "tab20"]
    others = iter(range(len(result.curves)))
    return [
        "black" if name == BASELINE else palette(next(others) % palette.N) for name in result.curves
    ]
