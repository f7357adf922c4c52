"""Names that people have become names that every file system, format and browser takes."""

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.store.blobs import check_key
from ml_backend.store.names import page_name, safe_name, safe_names

LATIN_1 = os.fsdecode(b"caf\xe9.tif")
CHANGED = {
    "a\\b.png": "a_b.png",
    "a\nb.png": "a_b.png",
    "C:/x.png": "C_/x.png",
    "C:x.png": "C_x.png",
    "Screenshot 10.00\u202fAM.png": "Screenshot 10.00 AM.png",
    "a\u3000b.png": "a b.png",
    "a\u200db.png": "ab.png",
    LATIN_1: "café.tif",
    ".hidden.png": "_hidden.png",
    "../up.png": "__/up.png",
    "a//b.png": "a/_/b.png",
    "con.png": "_con.png",
    " a .png ": "a .png",
    "a?.png": "a_.png",
    "a\x7f.png": "a_.png",
}


@pytest.mark.parametrize(("name", "safe"), CHANGED.items())
def test_what_some_place_refuses_is_replaced(name, safe):
    """Each kind of letter that some file system, key or export refuses has its safe form."""
    assert safe_name(name) == safe


@pytest.mark.parametrize(
    "name", ["a/b.png", "Größe 2 (1).tif", "Gro\u0308ße.png", "细胞/图.png", "x"]
)
def test_safe_names_stay_as_they_are(name):
    """Letters of any script, spaces, brackets and decomposed accents are kept."""
    assert safe_name(name) == name


def test_long_names_are_cut_and_stay_distinct():
    """270 bytes of Chinese letters keep their beginning and ending, and two do not meet."""
    first, second = ("细" * 90 + tail + ".png" for tail in "ab")
    assert safe_name(first) != safe_name(second)
    assert safe_name(first).startswith("细" * 30)
    assert safe_name(first).endswith(".png")
    assert len(safe_name(first).encode()) <= 180


def test_names_that_would_meet_get_a_hash():
    """The name that was safe keeps it, the others are told apart."""
    names = safe_names(["a\\b.png", "a_b.png", "a:b.png"])
    assert names[1] == "a_b.png"
    assert len(set(names)) == 3
    assert all(name.startswith("a_b") and name.endswith(".png") for name in names)


def test_accents_composed_in_two_ways_are_two_names():
    """On a file system that composes accents they would be one: the decomposed one is marked."""
    composed, decomposed = safe_names(["é.png", "e\u0301.png"])
    assert composed == "é.png"
    assert decomposed.startswith("e\u0301-")


@pytest.mark.parametrize(
    ("name", "page", "pages", "named"),
    [
        ("a/stack.tif", 6, 20, "a/stack_p07.tif"),
        ("x.ome.tif", 0, 9, "x_p1.ome.tif"),
        ("a.b/c", 11, 165, "a.b/c_p012"),
    ],
)
def test_a_page_is_named_by_its_number(name, page, pages, named):
    """Numbers count from 1 and sort as text."""
    assert page_name(name, page, pages) == named


@given(st.text(st.characters(exclude_characters="\0"), min_size=1, max_size=300))
@settings(deadline=None)
def test_every_text_becomes_a_key(name):
    """Whatever a name holds, its safe form is a key of the store, and is safe itself."""
    safe = safe_name(name)
    assert check_key(safe) == safe
    assert safe_name(safe) == safe
