"""Files of folders and buckets are found by their endings; whatever is not taken is told."""

import os
from pathlib import Path

import fsspec
import pytest

from ml_backend.errors import DataError, NotFound, StoreError
from ml_backend.store.blobs import local_folder
from ml_backend.store.listing import list_files, shown
from ml_backend.store.summary import Summary

LATIN_1 = b"caf\xe9.png"


@pytest.fixture
def scans(tmp_path):
    """A folder with images of a few names."""
    for name in (
        "b/2.png",
        "b/10.png",
        "a.TIF",
        "notes.txt",
        ".DS_Store",
        ".cache/x.png",
        "README",
    ):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    return tmp_path


def told(summary):
    """What was passed over: detail → names."""
    return {group.detail: group.names for group in summary.groups("passed_over")}


def test_images_come_in_natural_order(scans):
    """2 before 10, sub-folders by name, and their sizes are known."""
    files = list_files(scans)
    assert [file.name for file in files] == ["a.TIF", "b/2.png", "b/10.png"]
    assert [file.size for file in files] == [5, 7, 8]
    assert files[1].uri == str(scans / "b/2.png")
    assert files[1].read() == b"b/2.png"


def test_what_is_passed_over_is_told_by_its_ending(scans):
    """Other endings, hidden files and hidden folders are counted and named."""
    list_files(scans, summary := Summary())
    assert told(summary) == {
        "hidden": [".DS_Store", ".cache/"],
        ".txt files are not read": ["notes.txt"],
        "no ending": ["README"],
    }


def test_links_are_followed_once(scans, tmp_path_factory):
    """A linked folder is listed, a loop and a second way to the same folder are told."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "c.png").write_bytes(b"c")
    (elsewhere / "back").symlink_to(scans)
    (scans / "linked").symlink_to(elsewhere)
    (scans / "again").symlink_to(scans / "b")
    (scans / "gone.png").symlink_to(scans / "nowhere.png")
    (scans / "self.png").symlink_to(scans / "self.png")
    files = list_files(scans, summary := Summary())
    assert [file.name for file in files] == ["a.TIF", "b/2.png", "b/10.png", "linked/c.png"]
    assert told(summary)["a link to a folder that is listed already"] == ["again/", "linked/back/"]
    assert "gone.png" in told(summary)["a link to nothing"]
    assert any("self.png" in names for names in told(summary).values())


def test_a_name_that_is_not_utf_8_has_an_address_that_is(tmp_path):
    """Its bytes come back from the address, and it can be read by it."""
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + LATIN_1)).write_bytes(b"pixels")
    (file,) = list_files(tmp_path)
    assert os.fsencode(file.name) == LATIN_1
    assert file.uri.encode().endswith(b"caf%E9.png")
    assert local_folder(file.uri).read_bytes() == file.read() == b"pixels"
    assert shown(file.name) == "caf\\udce9.png"


def test_a_folder_that_cannot_be_opened_is_told(scans, monkeypatch):
    """The others are listed; the folder that was asked for itself is an error."""
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files = list_files(scans, summary := Summary())
    assert [file.name for file in files] == ["a.TIF"]
    assert told(summary)["a folder that cannot be opened (Permission denied)"] == ["b/"]
    with pytest.raises(StoreError, match="cannot be listed: Permission denied"):
        list_files(scans / "b")


def test_a_single_file_is_listed(scans):
    """A stack may be given by itself, here or in a bucket."""
    assert [file.name for file in list_files(scans / "a.TIF")] == ["a.TIF"]
    fsspec.filesystem("memory").pipe("/single/a.tif", b"1")
    assert [file.name for file in list_files("memory://single/a.tif")] == ["a.tif"]


def test_a_bucket_is_listed_as_a_folder_is():
    """Names, order, addresses, bytes, what is passed over: as in a folder, odd names included."""
    memory = fsspec.filesystem("memory")
    names = ["b/2.png", "b/10.png", "a::1.png", "notes.txt", "a?b#.png", ".x/h.png"]
    memory.pipe({f"/odd/{name}": name.encode() for name in names})
    files = list_files("memory://odd", summary := Summary())
    assert [file.name for file in files] == ["a::1.png", "a?b#.png", "b/2.png", "b/10.png"]
    assert [file.read().decode() for file in files] == [file.name for file in files]
    assert files[3].uri == "memory:///odd/b/10.png"
    assert told(summary) == {".txt files are not read": ["notes.txt"], "hidden": [".x/h.png"]}


@pytest.mark.parametrize("address", ["memory://nothing-here", "/nothing/here"])
def test_nothing_there_is_said(address):
    """An address of nothing is an error that names it."""
    with pytest.raises(NotFound, match="nothing"):
        list_files(address)


def test_an_unknown_protocol_is_said():
    """The message names the package that is missing."""
    with pytest.raises(StoreError, match="install the fsspec package"):
        list_files("nonsense://bucket/scans")


def test_a_file_that_went_away_is_named(scans):
    """Reading says which file, and why."""
    file = list_files(scans)[0]
    (scans / "a.TIF").unlink()
    with pytest.raises(DataError, match=r"a\.TIF cannot be read: No such file"):
        file.read()
