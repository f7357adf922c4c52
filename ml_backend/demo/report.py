"""What a demo leaves behind: a table, a picture of the learning curve, and a JSON report."""

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from ml_backend import __version__
from ml_backend.demo.drive import RoundResult
from ml_backend.loop.export import Export


def table_of(results: Sequence[RoundResult]) -> Table:
    """One row a round, for the terminal; narrow enough for 80 columns."""
    table = Table(title="What the rounds brought", box=box.SIMPLE, padding=(0, 1, 0, 0))
    heads = ("round", "tiles", "model", "IoU", "Dice", "as is", "shown", "sync", "train",
             "score", "push")  # fmt: skip
    for head in heads:
        table.add_column(head, justify="left" if head == "model" else "right")
    for row in results:
        gate = "" if row.decision == "promoted" else f" {row.decision}"
        seconds = [f"{row.seconds[key]:.0f}" for key in ("sync", "train", "score", "push")]
        table.add_row(
            str(row.round),
            str(row.labelled),
            row.model_version + gate,
            _number(row.val_iou),
            _number(row.val_dice),
            f"{row.accepted}/{row.submitted}",
            _number(row.mean_prediction_dice),
            *seconds,
        )
    table.caption = (
        "IoU, Dice: of the model that serves after the round, all on the last round's validation "
        "tiles. as is: predictions accepted unchanged. shown: mean Dice of prediction to "
        "submission. The last four: seconds."
    )
    return table


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def draw_curve(results: Sequence[RoundResult], path: Path) -> Path:
    """Draw validation IoU and Dice and the share accepted over the labelled tiles, as PNG."""
    from matplotlib.figure import Figure  # slow to import, and only the demo draws

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    labelled = [row.labelled for row in results]
    for name, values in (
        ("validation IoU", [row.val_iou for row in results]),
        ("validation Dice", [row.val_dice for row in results]),
        ("Dice of prediction to submission", [row.mean_prediction_dice for row in results]),
        ("share accepted unchanged", [row.accepted / max(1, row.submitted) for row in results]),
    ):
        points = [(x, y) for x, y in zip(labelled, values, strict=True) if y is not None]
        axes.plot([x for x, _ in points], [y for _, y in points], marker="o", label=name)
    axes.set(xlabel="labelled tiles", ylim=(0, 1), title="Learning curve")
    axes.set_xticks(labelled)
    axes.grid(alpha=0.3)
    axes.legend(loc="best", fontsize="small")
    figure.savefig(path, dpi=120)
    return path


def report_of(
    results: Sequence[RoundResult], exported: Export, *, project_id: int, seed: int, curve: Path
) -> dict[str, Any]:
    """Collect the report; paths are absolute."""
    return {
        "rounds": [asdict(row) for row in results],
        "export": {
            "png_dir": str(exported.written["png"].path),
            "coco_json": str(exported.written["coco"].path),
            "images": exported.images,
        },
        "curve_png": str(curve),
        "project_id": project_id,
        "seed": seed,
        "package_version": __version__,
    }


def write_report(report: dict[str, Any], path: Path) -> None:
    """Write the report whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
