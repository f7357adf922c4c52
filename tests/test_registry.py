"""The registry: a duplicate raises, an unknown name lists the choices."""

import pytest

from ml_backend.errors import ConfigError, UnknownName
from ml_backend.registry import Registry


def test_members_are_found_by_name_and_listed_in_order():
    """Registering returns the member, so that it decorates; names come sorted."""
    family: Registry[object] = Registry("fruit")
    assert family.register("pear")(int) is int
    family.register("apple")(str)
    assert (family["pear"], family["apple"]) == (int, str)
    assert list(family) == ["apple", "pear"]
    assert len(family) == 2


def test_an_unknown_name_lists_the_choices():
    """The message says the family, the name and what there is."""
    family: Registry[object] = Registry("fruit")
    family.register("pear")(1)
    with pytest.raises(UnknownName, match="unknown fruit 'plum'; choose one of: pear"):
        family["plum"]
    assert issubclass(UnknownName, ConfigError)


def test_a_duplicate_raises_and_changes_nothing():
    """Two members of one name are a mistake of the programmer."""
    family: Registry[object] = Registry("fruit")
    family.register("pear")(1)
    with pytest.raises(ValueError, match="'pear' is registered twice"):
        family.register("pear")(2)
    assert family["pear"] == 1
