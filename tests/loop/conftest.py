"""Houses for the tests of the loop."""

import pytest
from support.house import open_house


@pytest.fixture
def house(tmp_path):
    """Give an empty house with one label."""
    house = open_house(tmp_path)
    yield house
    house.catalog.close()


@pytest.fixture
def two_labels(tmp_path):
    """Give an empty house with two labels."""
    house = open_house(tmp_path, ("cell", "nucleus"))
    yield house
    house.catalog.close()
