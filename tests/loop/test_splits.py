"""The split: single images by blocks, stacks as one source, a single stack divided once."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml_backend.loop.splits import Page, split_of, split_pages


def stack(name, count, role="pool"):
    """The pages of a stack, undecided."""
    return [Page(f"{name}_{page:03}", role, name, page) for page in range(count)]


def sides_of(split, pages):
    """The sides of some pages, in their order."""
    return [split[page.name] for page in pages]


@given(
    share=st.sampled_from([0.5, 0.25, 0.2, 0.1]), seed=st.integers(0, 10), blocks=st.integers(1, 20)
)
def test_the_split_keeps_its_share(share, seed, blocks):
    """Every block of 1/share images has exactly one for validation."""
    count = round(1 / share) * blocks
    sides = [split_of(ordinal, share, seed) for ordinal in range(count)]
    assert sides.count("val") == blocks


def test_a_single_stack_is_divided_at_its_end():
    """165 sections: the last 33 validate, and only two neighbours stand apart."""
    pages = stack("epfl", 165)
    assert sides_of(split_pages(pages, 0.2, 0), pages) == ["train"] * 132 + ["val"] * 33


def test_of_several_stacks_each_is_whole():
    """Of three alike one validates; of two the smaller one."""
    three = [*stack("a", 20), *stack("b", 20), *stack("c", 20)]
    split = split_pages(three, 0.2, 0)
    assert sides_of(split, three) == ["train"] * 40 + ["val"] * 20
    two = [*stack("a", 22), *stack("b", 20)]
    assert sides_of(split_pages(two, 0.2, 0), two) == ["train"] * 22 + ["val"] * 20


def test_a_large_stack_beside_few_images_is_divided():
    """Three thumbnails on any side are no validation of 165 sections."""
    pages = [*stack("large", 165), Page("a", "pool"), Page("b", "pool"), Page("c", "pool")]
    split = split_pages(pages, 0.2, 0)
    assert sides_of(split, pages[:165]) == ["train"] * 132 + ["val"] * 33


def test_pages_with_masks_have_a_validation_side_of_their_own():
    """Half of a stack has masks: its last ones validate, and the last of those without."""
    pages = stack("a", 20)
    pages = [replace(page, role="source" if page.page < 10 else "pool") for page in pages]
    sides = sides_of(split_pages(pages, 0.2, 0), pages)
    assert [number for number, side in enumerate(sides) if side == "val"] == [8, 9, 18, 19]


def test_what_was_decided_stays_and_later_pages_follow():
    """More pages of a stack stand with their nearest neighbour, other stacks change nothing."""
    pages = stack("a", 10)
    split = split_pages(pages[::2], 0.2, 0)
    known = [replace(page, split=split.get(page.name)) for page in pages]
    after = split_pages([*known, *stack("b", 4), Page("x", "pool")], 0.2, 0)
    assert {name: after[name] for name in split} == split
    assert sides_of(after, pages[7:]) == ["train", "val", "val"]


@given(
    sizes=st.lists(st.integers(2, 60), min_size=1, max_size=6),
    singles=st.integers(0, 30),
    share=st.sampled_from([0.5, 0.2, 0.1]),
    seed=st.integers(0, 5),
)
def test_every_pool_with_a_stack_has_both_sides(sizes, singles, share, seed):
    """Whatever the sizes: both sides have pages, and all but one stack are on one side."""
    stacks = [stack(f"s{number}", size) for number, size in enumerate(sizes)]
    pages = [page for members in stacks for page in members]
    split = split_pages([*pages, *(Page(f"i{n}", "pool") for n in range(singles))], share, seed)
    assert set(split.values()) == {"train", "val"}
    assert sum(len(set(sides_of(split, members))) > 1 for members in stacks) <= 1


@pytest.mark.parametrize("role", ["pool", "source"])
def test_single_images_go_as_before(role):
    """Without stacks the split is the one that earlier versions made."""
    pages = [Page(str(number), role) for number in range(12)]
    assert sides_of(split_pages(pages, 0.2, 3), pages) == [split_of(n, 0.2, 3) for n in range(12)]
