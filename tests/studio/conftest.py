"""A studio room of one's own: a client and a fresh project in the real Label Studio."""

import itertools
from collections.abc import Iterator

import pytest
from support.label_studio import LabelStudio
from support.tasks import LABEL_CONFIG

from ml_backend.studio.client import Studio
from ml_backend.studio.models import ProjectInfo

_numbers = itertools.count(1)


@pytest.fixture
def studio(label_studio: LabelStudio) -> Iterator[Studio]:
    """A client with a personal access token, as users of today's Label Studio have it."""
    with Studio(label_studio.url, label_studio.personal_token) as client:
        yield client


@pytest.fixture
def project(studio: Studio) -> ProjectInfo:
    """A new, empty project with two brush labels."""
    return studio.create_project(f"test {next(_numbers)}", LABEL_CONFIG)
