"""Who may call."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.errors import ConfigError
from ml_backend.settings import Settings
from ml_backend.web.app import create_app
from ml_backend.web.auth import Gate

from .conftest import BASIC, SECRET
from .fakes import FakeJobs, FakeService

EVENT = {"action": "ANNOTATION_CREATED", "project": {"id": 3}}
TRAIN = {"action": "START_TRAINING", "project": {"id": 3}}


@pytest.mark.parametrize("missing", ["password", "webhook_secret"])
@pytest.mark.parametrize("value", [None, ""])
def test_no_secret_no_service(settings, missing, value):
    """Without a secret nothing starts, and the message names the variable and the way out."""
    given_values = settings.model_dump() | {missing: value}
    with pytest.raises(ConfigError, match=rf"BRUSHLOOP_{missing.upper()}.*brushloop up"):
        create_app(Settings(**given_values), jobs=FakeJobs(), service=FakeService())


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/setup"),
        ("POST", "/predict"),
        ("POST", "/webhook"),
        ("GET", "/versions"),
        ("GET", "/metrics"),
        ("GET", "/docs"),
    ],
)
def test_everything_is_closed(client, method, path):
    """Strangers get 401 and are told how to authenticate, on unknown paths too."""
    for auth in (None, (BASIC[0], "wrong"), ("wrong", "wrong")):
        answer = client.request(method, path, auth=auth)
        assert answer.status_code == 401
        assert answer.headers["www-authenticate"].startswith("Basic ")


def test_health_is_open(client):
    """Label Studio and containers may ask for health without a password."""
    assert client.get("/health").json() == {"status": "UP"}


def test_events_need_the_secret_header(studio, jobs):
    """The password does not authenticate events, the secret header does."""
    assert studio.post("/webhook", json=EVENT).status_code == 401
    wrong = {"X-Brushloop-Secret": "wrong"}
    assert studio.post("/webhook", json=EVENT, headers=wrong).status_code == 401
    assert jobs.requested == []
    assert studio.post("/webhook", json=EVENT, headers=SECRET).status_code == 200


def test_training_takes_either(client, jobs):
    """START_TRAINING comes with the password, from scripts perhaps with the header."""
    password = (BASIC[0].encode(), BASIC[1].encode())
    assert client.post("/webhook", json=TRAIN, headers=SECRET).status_code == 201
    assert client.post("/webhook", json=TRAIN, auth=password).status_code == 201
    assert len(jobs.requested) == 4


def test_the_secret_header_opens_nothing_else(client):
    """Only the webhook knows the header."""
    assert client.get("/versions", headers=SECRET).status_code == 401


@given(st.text(st.characters(max_codepoint=255, exclude_characters="\r\n\0"), max_size=40))
def test_garbled_headers_are_wrong(text):
    """No header breaks the comparison."""
    gate = Gate(b"user", b"password", b"secret")
    packed = base64.b64encode(text.encode()).decode()
    for value in (text, f"Basic {text}", f"Basic {packed}"):
        assert not gate.basic({"authorization": value})
    assert gate.event({"X-Brushloop-Secret": text}) == (text == "secret")


def test_secrets_are_not_shown(settings):
    """A gate in a traceback or a log shows no secret."""
    assert BASIC[1] not in repr(Gate.from_settings(settings))
