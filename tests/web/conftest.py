"""A backend over fakes, and its client."""

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from ml_backend.settings import Settings
from ml_backend.web.app import create_app

from .fakes import FakeJobs, FakeService

BASIC = ("brushloop", "a pässword:with colon")
SECRET = {"X-Brushloop-Secret": "an event's secret"}


@pytest.fixture
def settings(tmp_path):
    """Give settings that can serve."""
    return Settings(
        home=tmp_path,
        password=SecretStr(BASIC[1]),
        webhook_secret=SecretStr(SECRET["X-Brushloop-Secret"]),
    )


@pytest.fixture
def jobs():
    """Give a fake queue."""
    return FakeJobs()


@pytest.fixture
def service():
    """Give a fake service."""
    return FakeService()


@pytest.fixture
def client(settings, jobs, service):
    """Give a client that knows no secret."""
    with TestClient(create_app(settings, jobs=jobs, service=service)) as client:
        yield client


@pytest.fixture
def studio(client):
    """Give a client with the password that Label Studio was told."""
    client.auth = (BASIC[0].encode(), BASIC[1].encode())
    return client
