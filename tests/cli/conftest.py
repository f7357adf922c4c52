"""A house that every command meets, and an environment without settings."""

import sys

import pytest
from support.house import open_house

from ml_backend.loop.context import Context
from ml_backend.settings import Settings


@pytest.fixture(autouse=True)
def _bare_environment(monkeypatch, tmp_path):
    """No setting of the machine reaches these tests; relative paths are harmless."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"BRUSHLOOP_{name.upper()}", raising=False)
    monkeypatch.setattr(sys, "argv", ["brushloop"])
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def house(tmp_path, monkeypatch):
    """Give a house whose Label Studio every command meets."""
    house = open_house(tmp_path)
    monkeypatch.setattr(Context, "studio", house.studio)
    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("BRUSHLOOP_THREADS", "1")
    yield house
    house.catalog.close()
