"""The passwords and tokens of one home folder, made once and kept in a file of mode 0600."""

import secrets
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ml_backend.errors import HostError
from ml_backend.host.files import read_json, write_json


@dataclass(frozen=True)
class LocalSecrets:
    """What Brushloop and the Label Studio it starts know each other by."""

    user: str
    password: str = field(repr=False)
    webhook_secret: str = field(repr=False)
    studio_email: str
    studio_password: str = field(repr=False)
    studio_token: str = field(repr=False)  # 40 hex characters: Label Studio's legacy token


def _generate() -> LocalSecrets:
    return LocalSecrets(
        user="brushloop",
        password=secrets.token_urlsafe(24),
        webhook_secret=secrets.token_urlsafe(32),
        studio_email="annotator@brushloop.local",
        studio_password=secrets.token_urlsafe(12),
        studio_token=secrets.token_hex(20),
    )


def local_secrets(home: Path) -> LocalSecrets:
    """Return the secrets of `home`, generating `home/secrets.json` the first time.

    Raises `HostError` when the file is damaged. It is never replaced on its own, because Label
    Studio's database knows the old password and token.
    """
    path = home / "secrets.json"
    data = read_json(path)
    if data is None:
        made = _generate()
        write_json(path, asdict(made))
        return made
    names = [entry.name for entry in fields(LocalSecrets)]
    missing = [name for name in names if not isinstance(data.get(name), str)]
    if missing:
        raise HostError(f"{path} lacks {', '.join(missing)}; restore it from a backup")
    path.chmod(0o600)
    return LocalSecrets(**{name: str(data[name]) for name in names})
