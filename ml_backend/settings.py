"""The process: `BRUSHLOOP_*` environment → one frozen `Settings`, read once at the edge.

No other module reads the environment. What belongs to one project stands in its
recipe (`recipe/`); what belongs to the machine or the deployment stands here.
"""

import logging
import os
from functools import cached_property
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from ml_backend.errors import ConfigError

ENV_FILE = "brushloop.env"


def prefer(variable: str, value: str) -> None:
    """Set what a library reads from the environment, before it is imported; the user's wins."""
    os.environ.setdefault(variable, value)


def decree(variable: str, value: str) -> None:
    """Set what a library reads from the environment of this process, whatever it was."""
    os.environ[variable] = value


class Settings(BaseSettings):
    """What one process of Brushloop needs to know of its surroundings."""

    model_config = SettingsConfigDict(env_prefix="BRUSHLOOP_", frozen=True, extra="ignore")

    home: Path = Field(
        Path("brushloop-data"),
        description="Folder for the catalog, models, masks, images, exports and embedded Redis.",
    )
    database_url: str | None = Field(
        None,
        description="SQLAlchemy URL of the catalog; by default SQLite in the home folder.",
    )
    storage_url: str | None = Field(
        None,
        description="fsspec URL for images, masks and models; by default the home folder.",
    )
    redis_url: str | None = Field(
        None,
        description="Redis for the jobs; by default the embedded one that `brushloop up` starts.",
    )
    label_studio_url: str | None = Field(
        None, description="Address of Label Studio as this process reaches it."
    )
    label_studio_browser_url: str | None = Field(
        None,
        description="Address at which people reach Label Studio; by default what it says itself.",
    )
    label_studio_ca: Path | None = Field(
        None,
        description="PEM file of certificates to trust for Label Studio besides the usual ones.",
    )
    label_studio_api_key: SecretStr | None = Field(
        None, description="Token of a Label Studio user, personal or legacy."
    )
    host: str = Field("127.0.0.1", description="Address on which the backend listens.")
    port: int = Field(9090, ge=0, le=65535, description="Port on which the backend listens.")
    backend_url: str | None = Field(
        None,
        description="Address of the backend as Label Studio reaches it; by default host and port.",
    )
    user: str = Field("brushloop", description="User name of the backend's basic authentication.")
    password: SecretStr | None = Field(
        None, description="Password of the backend's basic authentication; required to serve."
    )
    webhook_secret: SecretStr | None = Field(
        None, description="Value of the header that authenticates events; required to serve."
    )
    device: str = Field("auto", description="Torch device: auto, cpu, cuda, cuda:1, mps.")
    precision: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto",
        description="Number format of networks; auto is the quickest here, measured once.",
    )
    threads: int | None = Field(
        None, ge=1, description="Processor threads for torch; by default all cores."
    )
    processes: int | None = Field(
        None,
        ge=1,
        description="Processes of one training; by default one for each CUDA device, else one.",
    )
    track: str | None = Field(
        None, description="Where epochs go besides the catalog: tensorboard, mlflow, or both."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe message that is logged."
    )

    @cached_property
    def catalog_url(self) -> str:
        """The SQLAlchemy URL of the catalog."""
        return self.database_url or f"sqlite:///{self.home.absolute() / 'catalog.sqlite3'}"

    @cached_property
    def blob_url(self) -> str:
        """The fsspec URL under which images, masks and models are kept."""
        return self.storage_url or self.home.absolute().as_uri()

    @cached_property
    def machine_code(self) -> Path:
        """The folder where compiled code is kept from one start to the next."""
        return self.home.absolute() / "cache" / "numba"

    @cached_property
    def public_url(self) -> str:
        """The backend's address as Label Studio reaches it, without a trailing slash."""
        return (self.backend_url or f"http://{self.host}:{self.port}").rstrip("/")


def load_settings(**overrides: object) -> Settings:
    """Read the environment once; `overrides` (from command-line options) win.

    `brushloop up` leaves what the other commands need to know in the home folder's
    `brushloop.env`; the environment wins over that file. Raises `ConfigError` that names
    each variable that cannot be used, never its value.
    """
    given = {key: value for key, value in overrides.items() if value is not None}
    try:
        home = Settings(**given).home  # type: ignore[arg-type]
        return Settings(_env_file=home / ENV_FILE, **given)  # type: ignore[arg-type]
    except ValidationError as error:
        faults = "; ".join(
            f"BRUSHLOOP_{'_'.join(str(part) for part in fault['loc']).upper()}: {fault['msg']}"
            for fault in error.errors()
        )
        raise ConfigError(f"the environment cannot be used: {faults}") from None


def start_logging(settings: Settings) -> None:
    """Log to standard error from `log_level` on, one line a message."""
    logging.basicConfig(
        level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs addresses, signed ones too
