"""On which side of the split each image stands: decided once, a stack as one source."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ml_backend.store.collection import SourceImage

Split = Literal["train", "val"]


@dataclass(frozen=True)
class Page:
    """An image as far as the split goes.

    `stack` None: it is a source by itself. `page`: its place in the stack. `split` None: open.
    """

    name: str
    role: str
    stack: str | None = None
    page: int = 0
    split: Split | None = None


def split_of(ordinal: int, share: float, seed: int) -> Split:
    """Decide the side of the n-th source image.

    Of every block of 1/share images one is drawn for validation, so that the share holds
    from the first block on, whatever order the images come in.
    """
    block = max(2, round(1 / share))
    drawn = np.random.default_rng([seed, ordinal // block]).integers(block)
    return "val" if ordinal % block == drawn else "train"


def split_pages(pages: Sequence[Page], share: float, seed: int) -> dict[str, Split]:
    """Give each page its side, by name; those that have one keep it.

    Single images go as `split_of` says, in their order, for each role. A stack goes to one side
    as a whole: to the one that brings the share of validation closer to `share`. Where less than
    half of it would be left so, the stack that mends it best is moved over; where none can without
    taking more than half of all, as where there is a single stack, the largest one is divided: its
    last pages are for validation, so that two neighbours at most stand on different sides. A stack
    counts for the role `source` if any of its pages has it. Pages that come later stand with the
    nearest page of their stack.
    """
    board = _Board(share)
    ordinals: Counter[str] = Counter()
    stacks: dict[str, list[Page]] = defaultdict(list)
    for page in pages:
        if page.stack is not None:
            stacks[page.stack].append(page)
            continue
        board.put(page, page.split or split_of(ordinals[page.role], share, seed))
        ordinals[page.role] += 1
    fresh: dict[str, list[list[Page]]] = defaultdict(list)
    for members in stacks.values():
        decided = [page for page in members if page.split is not None]
        for page in members if decided else ():
            board.put(page, page.split or _nearest(page, decided).split or "train")
        if not decided:
            roles = {page.role for page in members}
            fresh["source" if "source" in roles else "pool"].append(members)
    for role, new in fresh.items():
        board.place(role, new)
    return board.sides


def _nearest(page: Page, others: Sequence[Page]) -> Page:
    return min(others, key=lambda other: abs(other.page - page.page))


def split_images(images: Sequence[SourceImage], share: float, seed: int) -> dict[str, Split]:
    """Give each image of a collection its side, by name, as a project would."""
    pages = [Page(image.name, "source", image.stack, image.page) for image in images]
    return split_pages(pages, share, seed)


@dataclass
class _Board:
    """Sides so far, and how many pages each role has on them."""

    share: float
    sides: dict[str, Split] = field(default_factory=dict)
    total: Counter[str] = field(default_factory=Counter)
    val: Counter[str] = field(default_factory=Counter)

    def put(self, page: Page, side: Split, role: str | None = None) -> None:
        """Put a page on a side, counted for a role."""
        self.sides[page.name] = side
        self.total[role or page.role] += 1
        self.val[role or page.role] += side == "val"

    def place(self, role: str, stacks: Sequence[list[Page]]) -> None:
        """Place new stacks of a role."""
        for members in stacks:
            self._put_all(role, members, self._closer(role, len(members)))
        lacking = self.share / 2 * self.total[role]
        training = [members for members in stacks if self.sides[members[0].name] == "train"]
        if self.val[role] < lacking and training:
            best = min(training, key=lambda members: self._distance(role, len(members)))
            if self.val[role] + len(best) <= self.total[role] / 2:
                self._move(role, best)
                training.remove(best)
        if self.val[role] < lacking and training:
            self._divide(role, max(training, key=len))

    def _closer(self, role: str, count: int) -> Split:
        """The side on which `count` more pages bring validation closer to its share."""
        total = self.total[role] + count
        stays = abs(self.val[role] / total - self.share)
        return "val" if abs((self.val[role] + count) / total - self.share) < stays else "train"

    def _distance(self, role: str, count: int) -> float:
        return abs((self.val[role] + count) / self.total[role] - self.share)

    def _put_all(self, role: str, members: Sequence[Page], side: Split) -> None:
        for page in members:
            self.put(page, side, role)

    def _move(self, role: str, members: Sequence[Page]) -> None:
        for page in members:
            self.sides[page.name] = "val"
        self.val[role] += len(members)

    def _divide(self, role: str, members: Sequence[Page]) -> None:
        """Move the last pages of a stack, for each role among them."""
        by_role: Mapping[str, list[Page]] = defaultdict(list)
        for page in sorted(members, key=lambda page: page.page):
            by_role[page.role].append(page)
        for pages in by_role.values():
            count = min(math.ceil(self.share * len(pages)), len(pages) - 1)
            self._move(role, pages[len(pages) - count :] if count else [])
