"""Which images of a pool to ask for next: every strategy by its name."""

from ml_backend.selection import ranked as ranked  # noqa: PLC0414  files its strategies
from ml_backend.selection import spread as spread  # noqa: PLC0414  files its strategies
from ml_backend.selection.choosing import NEEDS, STRATEGIES, Pool, Strategy, lift

__all__ = ["NEEDS", "STRATEGIES", "Pool", "Strategy", "lift"]
