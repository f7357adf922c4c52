"""What `benchmark.py learn --out` draws: a chart of all cases, and held-out images side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
from benchmark import Row
from benchmark_learn_data import Material

from ml_backend.masks.sheet import Row as SheetRow
from ml_backend.masks.sheet import contact_sheet, outlined

SHOWN = 4  # images of a case
OURS, OTHER = "#2563eb", "#9ca3af"


def draw_sheet(
    path: Path, title: str, material: Material, maps: Sequence[Sequence[np.ndarray]]
) -> None:
    """Held-out images as they are, with their truth, and with what each side found."""
    rows = []
    for index, sample in list(enumerate(material.test))[:SHOWN]:
        image, truth = sample.load()
        found = [np.zeros_like(truth), truth, *(side[index] for side in maps)]
        text = f"{title}, {sample.name[:40]}: image, truth, ours, other"
        rows.append(SheetRow(text, [outlined(image, label_map) for label_map in found]))
    path.write_bytes(contact_sheet(rows))


def draw_chart(path: Path, rows: Sequence[Row]) -> None:
    """Mean and standard deviation of both sides, a line a case."""
    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 1.2 + 0.55 * len(rows)), dpi=100)
    places = np.arange(len(rows))[::-1]
    for side, name, colour, shift in (
        ("ours", "Brushloop", OURS, 0.17),
        ("other", "plain U-Net, same time", OTHER, -0.17),
    ):
        means, sds = ([row[key] for row in rows] for key in (side, f"{side}_sd"))
        axes.barh(
            places + shift,
            means,
            0.32,
            xerr=sds if any(sds) else None,
            color=colour,
            capsize=2,
            label=name,
        )
    axes.set_yticks(places, [row["case"] for row in rows])
    axes.set_xlim(0, 1)
    axes.set_xlabel("IoU on held-out images; lines: standard deviation of the seeds")
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="upper center", ncols=2, frameon=False)
    figure.tight_layout(rect=(0, 0, 1, 0.93))
    figure.savefig(path)
    plt.close(figure)
