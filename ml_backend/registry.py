"""Name → function, one registry for each family (strategies, losses, scores, …)."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from ml_backend.errors import UnknownName

T = TypeVar("T")


class Registry(Generic[T]):
    """The members of one family by name. A duplicate raises, an unknown name lists the choices."""

    def __init__(self, family: str) -> None:
        self.family = family
        self._members: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator: file the decorated member under `name`."""

        def file(member: T) -> T:
            if name in self._members:
                raise ValueError(f"{self.family} {name!r} is registered twice")
            self._members[name] = member
            return member

        return file

    def __getitem__(self, name: str) -> T:
        try:
            return self._members[name]
        except KeyError:
            choices = ", ".join(sorted(self._members))
            raise UnknownName(f"unknown {self.family} {name!r}; choose one of: {choices}") from None

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._members))

    def __len__(self) -> int:
        return len(self._members)
