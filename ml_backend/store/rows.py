"""The catalog's rows as frozen dataclasses; the columns are explained in `schema.py`."""

from dataclasses import dataclass, field
from typing import Any, Literal

from ml_backend.recipe import Recipe
from ml_backend.store.frames import Frame

Numbers = dict[str, Any]
_PLAIN = Frame()
ModelStatus = Literal["candidate", "current", "archived", "rejected"]


@dataclass(frozen=True)
class Reading:
    """With what a project's annotations were made into masks.

    `key` changes with whatever makes masks differ, and stands in the annotations' rows. `labels`
    and `controls` are those of the labeling config, `aside` the labels that are not learned,
    `former` those that the config once had, `unpainted` what pixels are that nobody painted.
    `changed`: what was noticed last, for people.
    """

    key: str
    labels: tuple[str, ...]
    controls: tuple[str, ...]
    aside: tuple[str, ...] = ()
    former: tuple[str, ...] = ()
    unpainted: str = "background"
    changed: str | None = None


@dataclass(frozen=True)
class Project:
    """A Label Studio project and what it decided.

    `reading` None: nothing has been read yet. `compared`: the task up to which the index was
    last compared as a whole.
    """

    id: int
    title: str
    label_config: str
    recipe: Recipe
    cursor: str | None = None
    reading: Reading | None = None
    compared: int = 0


@dataclass(frozen=True)
class Site:
    """What is known of a project's Label Studio.

    `browser_url`: where people reach it, as it was found out last, if that is not where we do.
    `state`: `missing` since it was seen not to have the project, `leaving` since the project is
    being forgotten here.
    """

    browser_url: str | None = None
    state: Literal["missing", "leaving"] | None = None
    since: str | None = None


@dataclass(frozen=True)
class Image:
    """A source image; `split` is decided once.

    `stack`: the file of which it is a page among several. `frame`: what of the file it is.
    `original`: the file's own name where it is not safe, as `names.original_text` writes it.
    """

    name: str
    uri: str
    sha256: str
    width: int
    height: int
    role: Literal["pool", "source"] = "pool"
    split: Literal["train", "val"] = "train"
    status: Literal["ready", "quarantined"] = "ready"
    reason: str | None = None
    mask: str | None = None
    stack: str | None = None
    frame: Frame = _PLAIN
    original: str | None = None
    id: int = 0


@dataclass(frozen=True)
class Tile:
    """A part of an image (or the whole) that is asked about as one task."""

    id: int
    image: Image
    x: int
    y: int
    width: int
    height: int

    @property
    def whole(self) -> bool:
        """Whether the tile is the whole image."""
        return (self.width, self.height) == (self.image.width, self.image.height)

    @property
    def content(self) -> tuple[str, int, int, int, int]:
        """What it shows: the same for the same part of the same picture under another name."""
        return self.image.sha256, self.x, self.y, self.width, self.height

    @property
    def title(self) -> str:
        """A name for logs, tasks and contact sheets."""
        if self.whole:
            return self.image.name
        return f"{self.image.name} [{self.x},{self.y} {self.width}x{self.height}]"


@dataclass(frozen=True)
class Task:
    """A Label Studio task."""

    id: int
    tile_id: int | None
    uri: str
    round_id: int | None = None
    updated_at: str | None = None
    deleted: bool = False
    reason: str | None = None


@dataclass(frozen=True)
class Annotation:
    """One person's answer to one task.

    `shown_model`: the version whose prediction the person saw, `shown_dice` its Dice to what they
    submitted, `corrected` how many pixels differ. `reading`: the key of the settings it was read
    with; `asides`: types of its results that are
    no regions.
    """

    id: int
    task_id: int
    mask: str | None
    usable: bool
    created_at: str
    updated_at: str
    reason: str | None = None
    cancelled: bool = False
    ground_truth: bool = False
    author: int | None = None
    lead_time: float | None = None
    parent_prediction: int | None = None
    shown_model: str | None = None
    shown_dice: float | None = None
    corrected: int | None = None
    deleted: bool = False
    reading: str = ""
    asides: str | None = None


@dataclass(frozen=True)
class Labelled:
    """A tile with the key of a mask that counts for it.

    `annotation_id`, `author` (Label Studio's user) and `task_id` are None where the mask came
    with the image; where several people's were merged, author and annotation are.
    """

    tile: Tile
    mask: str
    annotation_id: int | None = None
    author: int | None = None
    task_id: int | None = None
    ground_truth: bool = False


@dataclass(frozen=True)
class Model:
    """A version and its card."""

    version: str
    number: int
    status: ModelStatus
    fingerprint: str
    card: Numbers = field(default_factory=dict)
    parent: str | None = None
    created_at: str = ""


@dataclass(frozen=True)
class Gate:
    """One decision of the gate, with its numbers."""

    candidate: str
    current: str | None
    decision: str
    numbers: Numbers
    created_at: str = ""


@dataclass(frozen=True)
class Chosen:
    """A tile in a round."""

    tile_id: int
    score: float | None
    why: Literal["strategy", "audit"]


@dataclass(frozen=True)
class Round:
    """What was chosen, why, and whether Label Studio has it."""

    number: int
    strategy: str
    seed: int
    model: str | None
    settings: Numbers
    pool_size: int
    pool_mean: float | None
    batch_mean: float | None
    state: Literal["chosen", "pushed"]
    chosen: tuple[Chosen, ...]
    id: int = 0
    created_at: str = ""


@dataclass(frozen=True)
class Run:
    """One execution of a step."""

    id: int
    step: str
    state: str
    seconds: float | None
    report: Numbers
    started_at: str


@dataclass(frozen=True)
class Prediction:
    """What a model said about a tile, ready for Label Studio.

    `note`: what of it people do not see, and why. `key`: the recipe that it was made by.
    """

    tile_id: int
    model: str
    score: float
    result: bytes
    shown: bool = False
    note: str | None = None
    key: str = ""
