"""The catalog's tables. `SCHEMA_VERSION` moves when a table changes, and `UPGRADES` says how.

Ids of projects, tasks and annotations are Label Studio's own; a catalog belongs to one
Label Studio. Times are ISO-8601 in UTC, as Label Studio writes them, so that text order
is time order.
"""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 4

UPGRADES = {
    2: (
        "ALTER TABLE projects ADD COLUMN compared INTEGER NOT NULL DEFAULT 0",
        "ALTER TABLE predictions ADD COLUMN key VARCHAR(80) NOT NULL DEFAULT ''",
        "ALTER TABLE annotations ADD COLUMN corrected INTEGER",
    ),
    3: (
        "ALTER TABLE images ADD COLUMN stack TEXT",
        "ALTER TABLE images ADD COLUMN frame JSON",
        "ALTER TABLE images ADD COLUMN original TEXT",
    ),
}
"""What makes a catalog of one version one of the next; new tables and indexes make themselves."""

metadata = MetaData()


def _project() -> Column[int]:
    return Column("project_id", ForeignKey("projects.id"), nullable=False, index=True)


meta = Table("meta", metadata, Column("version", Integer, nullable=False))

projects = Table(
    "projects",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("title", Text, nullable=False),
    Column("label_config", Text, nullable=False),
    Column("recipe", JSON, nullable=False),
    # everything up to here has been pulled; Label Studio's clock, not ours
    Column("cursor", String(40)),
    # up to this task the whole index was last compared, whatever the cursor says
    Column("compared", Integer, nullable=False, server_default="0"),
    Column("reading", JSON(none_as_null=True)),  # with what the annotations were made into masks
    Column("created_at", String(40), nullable=False),
)

sites = Table(
    "sites",
    metadata,
    Column("project_id", ForeignKey("projects.id"), primary_key=True),
    Column("browser_url", Text),  # where people reach Label Studio, as it was found out last
    Column("state", String(8)),  # missing: Label Studio has it no more; leaving: being forgotten
    Column("since", String(40)),  # of the state
)

images = Table(
    "images",
    metadata,
    Column("id", Integer, primary_key=True),
    _project(),
    Column("name", Text, nullable=False),
    Column("uri", Text, nullable=False),
    Column("sha256", String(64), nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    Column("role", String(8), nullable=False),  # pool: asked about; source: came with its mask
    Column("split", String(8), nullable=False),  # train or val, decided once
    Column("status", String(12), nullable=False),  # ready or quarantined
    Column("reason", Text),
    Column("mask", Text),  # key of a source image's mask
    Column("stack", Text),  # name of the file of which it is a page among several
    Column("frame", JSON(none_as_null=True)),  # what of its file it is, see `frames.py`
    Column("original", Text),  # the file's own name where that is not safe, see `names.py`
    UniqueConstraint("project_id", "name"),
)

tiles = Table(
    "tiles",
    metadata,
    Column("id", Integer, primary_key=True),
    _project(),
    Column("image_id", ForeignKey("images.id"), nullable=False),
    Column("x", Integer, nullable=False),
    Column("y", Integer, nullable=False),
    Column("width", Integer, nullable=False),
    Column("height", Integer, nullable=False),
    UniqueConstraint("image_id", "x", "y", "width", "height"),
)

rounds = Table(
    "rounds",
    metadata,
    Column("id", Integer, primary_key=True),
    _project(),
    Column("number", Integer, nullable=False),
    Column("strategy", String(40), nullable=False),
    Column("seed", Integer, nullable=False),
    Column("model", String(80)),  # None: chosen before there was a model
    Column("settings", JSON, nullable=False),
    Column("pool_size", Integer, nullable=False),
    Column("pool_mean", Float),
    Column("batch_mean", Float),
    Column("state", String(8), nullable=False),  # chosen, then pushed
    Column("created_at", String(40), nullable=False),
    UniqueConstraint("project_id", "number"),
)

round_tiles = Table(
    "round_tiles",
    metadata,
    Column("round_id", ForeignKey("rounds.id"), primary_key=True),
    Column("tile_id", ForeignKey("tiles.id"), primary_key=True),
    Column("rank", Integer, nullable=False),
    Column("score", Float),
    Column("why", String(8), nullable=False),  # strategy or audit
)

tasks = Table(
    "tasks",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _project(),
    Column("tile_id", ForeignKey("tiles.id")),  # None: not fetched yet, or unusable, see reason
    Column("round_id", ForeignKey("rounds.id")),
    Column("uri", Text, nullable=False),
    Column("updated_at", String(40)),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("reason", Text),
)

annotations = Table(
    "annotations",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    _project(),
    Column("task_id", ForeignKey("tasks.id"), nullable=False, index=True),
    Column("mask", Text),  # None: cancelled or unusable
    Column("usable", Boolean, nullable=False),
    Column("reason", Text),
    Column("cancelled", Boolean, nullable=False),
    Column("ground_truth", Boolean, nullable=False),
    Column("author", Integer),
    Column("lead_time", Float),
    Column("parent_prediction", Integer),
    Column("shown_model", String(80)),  # the version of the prediction that the person saw
    Column("shown_dice", Float),  # Dice of that prediction to the submission
    Column("corrected", Integer),  # known pixels of the submission that it had otherwise
    Column("created_at", String(40), nullable=False),
    Column("updated_at", String(40), nullable=False),
    Column("deleted", Boolean, nullable=False, default=False),
    Column("reading", String(16), nullable=False),  # the key of the project's reading at the time
    Column("asides", Text),  # types of its results that are no regions
)

merges = Table(
    "merges",
    metadata,
    Column("inputs", String(64), primary_key=True),  # of the masks, the labels and the rule
    _project(),
    Column("mask", Text, nullable=False),
)

exports = Table(
    "exports",
    metadata,
    Column("image_id", ForeignKey("images.id"), primary_key=True),
    _project(),
    Column("state", String(64), nullable=False),  # of its mask when it was exported last
)

models = Table(
    "models",
    metadata,
    Column("version", String(80), primary_key=True),
    _project(),
    Column("number", Integer, nullable=False),
    Column("status", String(12), nullable=False),  # candidate, current, archived, rejected
    Column("parent", String(80)),
    Column("fingerprint", String(64), nullable=False),  # of the data it learned from
    Column("card", JSON, nullable=False),
    Column("created_at", String(40), nullable=False),
    UniqueConstraint("project_id", "number"),
)

gates = Table(
    "gates",
    metadata,
    Column("id", Integer, primary_key=True),
    _project(),
    Column("candidate", String(80), nullable=False),
    Column("current", String(80)),
    Column("decision", String(12), nullable=False),  # promoted, rejected, rollback, by hand
    Column("numbers", JSON, nullable=False),
    Column("created_at", String(40), nullable=False),
)

runs = Table(
    "runs",
    metadata,
    Column("id", Integer, primary_key=True),
    _project(),
    Column("step", String(12), nullable=False),
    Column("state", String(8), nullable=False),  # running, done, failed
    Column("seconds", Float),
    Column("report", JSON, nullable=False),
    Column("started_at", String(40), nullable=False),
)

epochs = Table(
    "epochs",
    metadata,
    Column("model", String(80), primary_key=True),
    Column("epoch", Integer, primary_key=True),
    Column("numbers", JSON, nullable=False),
)

scores = Table(
    "scores",
    metadata,
    Column("tile_id", ForeignKey("tiles.id"), primary_key=True),
    Column("model", String(80), primary_key=True),
    Column("passes", String(40), primary_key=True),  # how they were made, `Scoring.key`
    Column("numbers", JSON, nullable=False),  # "entropy:mean" → float, …
)

embeddings = Table(
    "embeddings",
    metadata,
    Column("tile_id", ForeignKey("tiles.id"), primary_key=True),
    Column("source", String(80), primary_key=True),  # a model's version, or what looks otherwise
    Column("vector", LargeBinary, nullable=False),  # float16, little-endian
)

predictions = Table(
    "predictions",
    metadata,
    Column("tile_id", ForeignKey("tiles.id"), primary_key=True),
    Column("model", String(80), primary_key=True),
    Column("score", Float, nullable=False),  # confidence, 0..1
    Column("result", LargeBinary, nullable=False),  # zlib of the JSON list of regions
    Column("shown", Boolean, nullable=False),  # whether Label Studio has it as a prediction
    Column("note", Text),  # what of it people do not see, and why
    Column("key", String(80), nullable=False),  # the recipe that it was made by
)

Index("tasks_open", tasks.c.project_id, tasks.c.deleted)
Index("annotations_project", annotations.c.project_id, annotations.c.deleted)
Index("tasks_tile", tasks.c.tile_id)
Index("round_tiles_tile", round_tiles.c.tile_id)
Index("images_content", images.c.project_id, images.c.sha256)
Index("images_role", images.c.project_id, images.c.role)
