"""What every step of the loop is handed: settings, catalog, files and Label Studio."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml_backend.errors import ConfigError, ImageUnreadable
from ml_backend.hours import utc_clock
from ml_backend.loop.labels import labels_of
from ml_backend.masks.labels import LabelConfig
from ml_backend.settings import Settings
from ml_backend.store.blobs import Blobs
from ml_backend.store.catalog import Catalog
from ml_backend.store.images import ImageSource
from ml_backend.store.rows import Image, Project, Tile
from ml_backend.studio.client import Studio

Progress = Callable[[int, int, str], None]


def silent(_done: int, _total: int, _text: str) -> None:
    """Report progress to nobody."""


@dataclass(frozen=True)
class Report:
    """How a step ended: a line for people, numbers for the record, steps to request next."""

    summary: str
    numbers: dict[str, Any] = field(default_factory=dict)
    follow: tuple[str, ...] = ()


@dataclass(frozen=True)
class Context:
    """The surroundings of a step."""

    settings: Settings
    catalog: Catalog
    blobs: Blobs
    images: ImageSource
    sleep: Callable[[float], None] = time.sleep  # seconds
    now: Callable[[], datetime] = utc_clock

    @cached_property
    def studio(self) -> Studio:
        """Label Studio. Raises `ConfigError` when the settings do not say where it is."""
        url, key = self.settings.label_studio_url, self.settings.label_studio_api_key
        if not url or key is None:
            missing = "BRUSHLOOP_LABEL_STUDIO_URL" if not url else "BRUSHLOOP_LABEL_STUDIO_API_KEY"
            raise ConfigError(f"{missing} is not set: this step talks to Label Studio")
        settings = self.settings
        return Studio(
            url,
            key.get_secret_value(),
            ca=settings.label_studio_ca,
            browser_url=settings.label_studio_browser_url,
        )

    def whole(self, image: Image) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of a source image. Raises `ImageUnreadable`."""
        pixels = self.images.pixels(image.uri, frame=image.frame)
        if pixels.shape[:2] != (image.height, image.width):
            raise ImageUnreadable(
                f"{image.uri} is {pixels.shape[1]} x {pixels.shape[0]} px, but it was added "
                f"with {image.width} x {image.height}: put the former file back"
            )
        return pixels

    def pixels(self, tile: Tile) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 of a tile. Raises `ImageUnreadable`."""
        return self.whole(tile.image)[tile.y : tile.y + tile.height, tile.x : tile.x + tile.width]

    def labels(self, project: Project) -> LabelConfig:
        """Give the labels that are learned, as `labels_of` does."""
        return labels_of(project)


@contextmanager
def open_context(settings: Settings) -> Iterator[Context]:
    """Open the catalog and the storage for one step, and close them afterwards."""
    blobs = Blobs(settings.blob_url)
    catalog = Catalog(settings.catalog_url)
    try:
        yield Context(settings, catalog, blobs, ImageSource(blobs))
    finally:
        catalog.close()
