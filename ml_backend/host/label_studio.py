"""A Label Studio server of our own: its command, its environment, its health, its tokens."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx

from ml_backend.errors import HostError
from ml_backend.host.processes import Child, Processes
from ml_backend.host.secrets import LocalSecrets


@dataclass(frozen=True)
class LabelStudioServer:
    """One server over `data_dir`. A second start over the same folder finds everything there.

    `local_files_root` is the folder below which Label Studio may serve files by itself.
    `browser_url`: the address at which people reach it, if a proxy has it another one.
    """

    executable: Path
    data_dir: Path
    port: int
    secrets: LocalSecrets
    local_files_root: Path
    host: str = "127.0.0.1"
    name: str = "label-studio"
    browser_url: str = ""

    @property
    def url(self) -> str:
        """Address without a trailing slash."""
        return f"http://{self.host}:{self.port}"

    @property
    def database(self) -> Path:
        """The SQLite file with everything that Label Studio knows."""
        return self.data_dir / "label_studio.sqlite3"

    @property
    def empty_database(self) -> Path:
        """Where `scripts/install.sh` leaves a migrated database that nobody has used."""
        return self.executable.parent.parent / "empty.sqlite3"

    @property
    def environment(self) -> Mapping[str, str]:
        """What makes the start unattended, private and able to reach a backend on this machine.

        The prefix shields the server from variables such as DEBUG or HOST that were meant for
        others: Label Studio reads the bare name when the prefixed one is absent.
        """
        values = {
            "ALLOW_ORGANIZATION_WEBHOOKS": "false",
            "BASE_DATA_DIR": str(self.data_dir.absolute()),
            "COLLECT_ANALYTICS": "0",
            "DATABASE_NAME": str(self.database.absolute()),
            "DEBUG": "false",
            "DJANGO_DB": "sqlite",
            "ENABLE_LEGACY_API_TOKEN": "true",
            "FRONTEND_SENTRY_DSN": "",
            "HOST": self.browser_url,
            "LATEST_VERSION_CHECK": "0",
            "LOCAL_FILES_DOCUMENT_ROOT": str(self.local_files_root.absolute()),
            "LOCAL_FILES_SERVING_ENABLED": "true",
            "ML_BLOCK_LOCAL_IP": "false",
            "PASSWORD": self.secrets.studio_password,
            "SENTRY_DSN": "",
            "SSRF_PROTECTION_ENABLED": "false",
            "USERNAME": self.secrets.studio_email,
            "USER_TOKEN": self.secrets.studio_token,
        }
        return {f"LABEL_STUDIO_{name}": value for name, value in values.items()}

    def child(self) -> Child:
        """The process, for `Processes.start`. Raises `HostError` if it is not installed."""
        if not self.executable.is_file():
            raise HostError(
                f"Label Studio is not at {self.executable}; `bash scripts/install.sh` installs it"
            )
        return Child(
            name=self.name,
            command=(
                str(self.executable.absolute()),
                "start",
                "--no-browser",
                "--port",
                str(self.port),
                "--internal-host",
                self.host,
            ),
            environment=self.environment,
        )

    def healthy(self) -> bool:
        """Tell whether the server answers `GET /health`."""
        try:
            # trust_env: a proxy of the environment is not for this machine's own address
            return httpx.get(f"{self.url}/health", timeout=5, trust_env=False).is_success
        except httpx.HTTPError:
            return False

    def start(
        self,
        processes: Processes,
        *,
        timeout: float = 300.0,
        progress: Callable[[float], None] = lambda _: None,
    ) -> None:
        """Start under `processes` (which stops it) and wait until healthy.

        A folder without a database gets a copy of the empty one, which spares it a minute of
        migrations; where there is none to copy, Label Studio makes its own. `progress` is told
        the seconds waited. Raises `HostError` with the end of the log.
        """
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if not self.database.exists() and self.empty_database.is_file():
            part = self.database.with_suffix(".part")
            shutil.copyfile(self.empty_database, part)
            part.replace(self.database)
        processes.start(self.child())
        processes.wait_ready(self.name, self.healthy, timeout=timeout, progress=progress)

    def personal_token(self) -> str:
        """Make a new personal access token (a JWT refresh token) of the local user."""
        try:
            answer = httpx.post(
                f"{self.url}/api/token/",
                headers={"Authorization": f"Token {self.secrets.studio_token}"},
                timeout=30,
                trust_env=False,
            ).raise_for_status()
            return str(answer.json()["token"])
        except (httpx.HTTPError, KeyError, ValueError) as error:
            raise HostError(f"{self.url} made no personal token: {type(error).__name__}") from error
