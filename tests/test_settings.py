"""The process's settings: environment over the home's own file, and secrets that stay secret."""

import ast
from pathlib import Path

import pytest
from pydantic import ValidationError

from ml_backend.errors import ConfigError
from ml_backend.settings import ENV_FILE, Settings, load_settings

PACKAGE = Path(__file__).parents[1] / "ml_backend"


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """No setting of the machine reaches these tests."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BRUSHLOOP_{name.upper()}", raising=False)
    monkeypatch.chdir(tmp_path)


def write_env(home: Path, *lines: str):
    """Leave a home folder's own settings."""
    home.mkdir(exist_ok=True)
    (home / ENV_FILE).write_text("\n".join(lines) + "\n")


def test_the_homes_own_file_is_read(tmp_path: Path):
    """What `brushloop up` left there counts, comments and all."""
    write_env(
        tmp_path, "# left by up", "BRUSHLOOP_PORT=1234", "BRUSHLOOP_LABEL_STUDIO_URL='http://x'"
    )
    settings = load_settings(home=tmp_path)
    assert (settings.home, settings.port) == (tmp_path, 1234)
    assert settings.label_studio_url == "http://x"


def test_the_environment_wins_and_options_win_over_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """File < environment < command line; an option that was not given counts for nothing."""
    write_env(tmp_path, "BRUSHLOOP_PORT=1", "BRUSHLOOP_USER=file")
    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path))
    assert (load_settings().port, load_settings().user) == (1, "file")
    monkeypatch.setenv("BRUSHLOOP_PORT", "2")
    assert (load_settings(home=None).port, load_settings().user) == (2, "file")
    assert load_settings(port=3).port == 3


def test_the_home_that_is_given_decides_whose_file_is_read(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    """`--home` beats `BRUSHLOOP_HOME`, also for the file."""
    write_env(tmp_path / "one", "BRUSHLOOP_PORT=1")
    write_env(tmp_path / "two", "BRUSHLOOP_PORT=2")
    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path / "one"))
    assert load_settings(home=tmp_path / "two").port == 2


def test_a_stranger_in_the_file_does_no_harm(tmp_path: Path):
    """Lines of other programs, or of a later release, are passed over."""
    write_env(tmp_path, "OTHER=1", "BRUSHLOOP_FUTURE=2", "BRUSHLOOP_PORT=5")
    assert load_settings(home=tmp_path).port == 5


def test_defaults_follow_the_home(tmp_path: Path):
    """Catalog and files lie in the home folder unless said otherwise."""
    settings = load_settings(home=tmp_path)
    assert settings.catalog_url == f"sqlite:///{tmp_path}/catalog.sqlite3"
    assert settings.blob_url == tmp_path.as_uri()
    assert settings.public_url == "http://127.0.0.1:9090"
    other = load_settings(
        home=tmp_path,
        database_url="postgresql://x/y",
        backend_url="https://b/",
        storage_url="s3://z",
    )
    assert (other.catalog_url, other.blob_url) == ("postgresql://x/y", "s3://z")
    assert other.public_url == "https://b"


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", "ninety"), ("port", "70000"), ("threads", "0"), ("log_level", "loud")],
)
def test_a_bad_value_is_named_and_not_shown(monkeypatch: pytest.MonkeyPatch, name: str, value: str):
    """The variable's name tells where to look; its value may be a secret in the wrong place."""
    monkeypatch.setenv(f"BRUSHLOOP_{name.upper()}", value)
    with pytest.raises(ConfigError, match=f"BRUSHLOOP_{name.upper()}: ") as caught:
        load_settings()
    assert value not in str(caught.value)


def test_secrets_stay_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """Neither repr nor str nor errors show tokens and passwords."""
    for name in ("LABEL_STUDIO_API_KEY", "PASSWORD", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"BRUSHLOOP_{name}", f"hush-{name}")
    settings = load_settings(home=tmp_path)
    assert "hush" not in f"{settings!r} {settings} {settings.model_dump()}"
    assert settings.password is not None
    assert settings.password.get_secret_value() == "hush-PASSWORD"
    monkeypatch.setenv("BRUSHLOOP_PORT", "x")
    with pytest.raises(ConfigError) as caught:
        load_settings()
    assert "hush" not in str(caught.value)


def test_settings_are_frozen(tmp_path: Path):
    """Nobody changes what others read."""
    with pytest.raises(ValidationError, match="frozen"):
        load_settings(home=tmp_path).port = 1


def test_nobody_else_reads_the_environment():
    """`os.environ` and `os.getenv` stand in settings.py only, as its docstring says."""
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv"}:
                assert path.name == "settings.py", f"{path}:{node.lineno}"
