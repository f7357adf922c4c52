"""The exception tree is the one that its docstring draws."""

import inspect
import re

from ml_backend import errors
from ml_backend.errors import BrushloopError


def drawn():
    """Class → parent, as the docstring's tree has them."""
    parents, path = {}, []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"    ([│ ]*)(?:[├└]── )?([A-Z]\w+)", line)
        if not found or line.strip().startswith("A message"):
            continue
        depth = 0 if line.strip() == "BrushloopError" else len(found[1]) // 4 + 1
        del path[depth:]
        parents[found[2]] = path[-1] if path else "Exception"
        path.append(found[2])
    return parents


def test_the_drawing_is_the_tree():
    """Every class is drawn, below its one parent, and nothing else is."""
    actual = {
        name: member.__bases__[0].__name__
        for name, member in inspect.getmembers(errors, inspect.isclass)
    }
    assert drawn() == actual
    assert all(
        len(member.__bases__) == 1 for _, member in inspect.getmembers(errors, inspect.isclass)
    )


def test_one_root_catches_all():
    """Whatever is raised on purpose is a BrushloopError, and says what it is for."""
    for _, member in inspect.getmembers(errors, inspect.isclass):
        assert issubclass(member, BrushloopError)
        assert member.__doc__
