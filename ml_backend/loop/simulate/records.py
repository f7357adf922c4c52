"""What a simulation keeps: its plan, and one small file for each training.

    simulation.json               what was asked, and of which images
    tiles.csv                     the pool: what each tile shows
    units/<arm>/<seed>-<n>.json   a training on the tiles of n rounds, and how good it is
    units/<arm>/<seed>-<n>.npz    what that network says of the pool: the next choice's grounds

Files are written whole, the `.npz` first, so that a `.json` says that its training is done.
"""

import csv
import io
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from ml_backend import __version__
from ml_backend.errors import ConfigError, NotFound, StoreError
from ml_backend.loop.simulate.material import Material
from ml_backend.loop.simulate.plan import Plan, Unit
from ml_backend.store.blobs import Blobs
from ml_backend.store.rows import Numbers

PLAN = "simulation.json"
TILES = "tiles.csv"


@dataclass(frozen=True)
class Record:
    """One training: what it learned from, what that cost, and the IoU on the test set.

    `iou` is that of all pixels together; `iou_by_image` the mean of the test images' own, over
    those that show an object or are said to (nan in records of versions that did not look at it).
    `chosen`: ids of the tiles of this round, all tiles for the controls. `tiles`, `images`,
    `foreground` (pixels) and `objects` count everything learned from so far; `images` are source
    images. `lift`: how far the mean score of the round's tiles lies above the pool's, None
    without a model. `mode`: what computed it.
    """

    arm: str
    seed: int
    round: int
    chosen: tuple[int, ...]
    tiles: int
    images: int
    foreground: int
    objects: int
    steps: int
    iou: float
    iou_by_label: tuple[float | None, ...]
    dice: float
    accuracy: float
    lift: float | None
    seconds: float
    mode: str
    iou_by_image: float = float("nan")


@dataclass(frozen=True)
class Scored:
    """What a network says of the pool: every score by its name, and embeddings."""

    names: tuple[str, ...]
    values_NS: NDArray[np.float64]  # noqa: N815
    embeddings_ND: NDArray[np.float16]  # noqa: N815

    def row(self, tile_id: int) -> Numbers:
        """The scores of one tile by their names."""
        return dict(zip(self.names, self.values_NS[tile_id].tolist(), strict=True))


class Records:
    """The folder of one simulation. Methods raise `StoreError` where it cannot be used."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._files = Blobs(folder)

    def begin(self, plan: Plan, material: Material, encoder: str | None = None) -> None:
        """Keep what is asked, or find that the folder belongs to the same question.

        More strategies, seeds or rounds are the same question. `encoder`: the digest of a file of
        weights that networks start from. Raises `ConfigError` that names what differs.
        """
        asked: dict[str, Any] = {"identity": plan.identity, "masks": material.fingerprint}
        if encoder is not None:
            asked["encoder"] = encoder
        if self._files.exists(PLAN):
            kept = self._json(PLAN)
            before = {key: kept.get(key) for key in asked}
            if differing := sorted(_differing(before, asked)):
                raise ConfigError(
                    f"{self.folder} holds another simulation (other {', '.join(differing)}): "
                    "choose another --out, or give what it was begun with"
                )
        elif self._files.list():
            raise ConfigError(f"{self.folder} holds other files: choose an empty --out")
        else:
            self._files.write(TILES, _tiles_csv(material))
        facts = {"brushloop": __version__, "plan": plan.model_dump(mode="json")}
        self._files.write(PLAN, (json.dumps(asked | facts, indent=1) + "\n").encode())

    def plan(self) -> tuple[Plan, str]:
        """The plan that was kept, and the fingerprint of its images and masks."""
        kept = self._json(PLAN)
        try:
            return Plan.model_validate(kept["plan"]), str(kept["masks"])
        except (KeyError, ValidationError):
            raise _damaged(self.folder / PLAN) from None

    def has(self, unit: Unit) -> bool:
        """Whether a training is done."""
        return self._files.exists(f"{unit.key}.json")

    def count(self, units: Iterable[Unit]) -> int:
        """How many of these are done, by one look at the folder."""
        kept = set(self._files.list("units"))
        return sum(f"{unit.key}.json" in kept for unit in units)

    def read(self, unit: Unit) -> Record:
        """What came of a training. Raises `NotFound`."""
        data = self._json(f"{unit.key}.json")
        try:
            lists = {key: tuple(data[key]) for key in ("chosen", "iou_by_label")}
            return Record(**data | lists)
        except (KeyError, TypeError):
            raise _damaged(self.folder / f"{unit.key}.json") from None

    def write(self, unit: Unit, record: Record, scored: Scored | None = None) -> None:
        """Keep what came of a training."""
        if scored is not None:
            file = io.BytesIO()
            np.savez_compressed(
                file,
                names=np.array(scored.names),
                values=scored.values_NS,
                embeddings=scored.embeddings_ND,
            )
            self._files.write(f"{unit.key}.npz", file.getvalue())
        self._files.write(f"{unit.key}.json", (json.dumps(asdict(record)) + "\n").encode())

    def scored(self, unit: Unit) -> Scored:
        """What the network of a training says of the pool."""
        try:
            with np.load(io.BytesIO(self._files.read(f"{unit.key}.npz"))) as arrays:
                names = tuple(str(name) for name in arrays["names"])
                return Scored(names, arrays["values"], arrays["embeddings"])
        except (ValueError, KeyError, OSError, EOFError):
            raise _damaged(self.folder / f"{unit.key}.npz") from None

    def publish(self, name: str, data: bytes) -> Path:
        """Write a file of the report, whole."""
        self._files.write(name, data)
        return self.folder / name

    def _json(self, key: str) -> dict[str, Any]:
        data: Any = None
        try:
            data = json.loads(self._files.read(key))
        except NotFound:
            raise
        except ValueError:
            pass
        if not isinstance(data, dict):
            raise _damaged(self.folder / key)
        return data


def _differing(before: dict[str, Any], now: dict[str, Any], path: str = "") -> set[str]:
    """Paths of the values that differ."""
    found: set[str] = set()
    for key in before.keys() | now.keys():
        old, new = before.get(key), now.get(key)
        name = key if path in {"", "identity"} else f"{path}.{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found |= _differing(old, new, name)
        elif old != new:
            found.add(name)
    return found


def _damaged(path: Path) -> StoreError:
    return StoreError(f"{path} is damaged: delete it, and the same command makes it again")


def _tiles_csv(material: Material) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "image", "x", "y", "width", "height", "foreground_px", "objects"])
    for tile in material.tiles:
        table.writerow(
            [tile.id, tile.image.name, tile.x, tile.y, tile.width, tile.height,
             material.foreground_N[tile.id], material.objects_N[tile.id]]
        )  # fmt: skip
    return text.getvalue().encode()
