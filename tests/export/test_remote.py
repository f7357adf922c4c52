"""Exports to fsspec addresses: the index says what is whole, foreign objects are never touched."""

import json
from uuid import uuid4

import fsspec
import pytest
from export_cases import CONFIG, item
from fsspec.implementations.memory import MemoryFileSystem

from ml_backend.errors import StoreError
from ml_backend.export import write_items
from ml_backend.export.remote import INDEX, upload


@pytest.fixture
def place():
    """An empty folder of the memory file system."""
    return fsspec.filesystem("memory"), f"/export-{uuid4().hex}"


def made(folder, names, value=1):
    """An export of some images, as PNG and COCO."""
    write_items(["png", "coco"], [item(f"{name}.tif", [[value]]) for name in names], folder, CONFIG)
    return folder


def files_at(place):
    """Every file and its bytes, but for the index."""
    memory, root = place
    found = {path.removeprefix(f"{root}/"): memory.cat_file(path) for path in memory.find(root)}
    found.pop(INDEX, None)
    return found


def files_in(folder):
    """Every file and its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def index_at(place):
    """What the index says."""
    memory, root = place
    return json.loads(memory.cat_file(f"{root}/{INDEX}"))


def test_what_is_uploaded_is_what_was_written(place, tmp_path):
    """Every file has its bytes, and the index names them all."""
    upload(*place, made(tmp_path, "ab"), ["png", "coco.json"])
    assert files_at(place) == files_in(tmp_path)
    assert index_at(place)["complete"]
    assert set(index_at(place)["files"]) == set(files_in(tmp_path))


def test_a_later_export_replaces_the_earlier_one(place, tmp_path):
    """Files that it lacks go, those of other formats and people's own stay."""
    memory, root = place
    upload(*place, made(tmp_path / "1", "ab"), ["png", "coco.json"])
    memory.pipe(f"{root}/png/mine.txt", b"mine")
    upload(*place, made(tmp_path / "2", "bc"), ["png"])
    names = {"png/b.png", "png/c.png", "png/classes.json", "png/mine.txt", "coco.json"}
    assert set(files_at(place)) == names
    assert files_at(place)["coco.json"] == files_in(tmp_path / "1")["coco.json"]
    assert set(index_at(place)["files"]) == names - {"png/mine.txt"}


class _Cut(MemoryFileSystem):
    """Breaks at the n-th upload."""

    cachable = False
    left = 0

    def put_file(self, *arguments, **options):
        if self.left == 0:
            raise OSError("the line is down")
        self.left -= 1
        super().put_file(*arguments, **options)


@pytest.mark.parametrize("after", range(3))
def test_an_upload_that_was_cut_off_is_seen_and_carried_on_with(place, tmp_path, after):
    """The index says that it is not whole; afterwards everything is what it should be."""
    upload(*place, made(tmp_path / "1", "ab"), ["png", "coco.json"])
    cut = _Cut()
    cut.left = after
    folder = made(tmp_path / "2", "bc", 2)
    with pytest.raises(StoreError, match="same command carries on"):
        upload(cut, place[1], folder, ["png", "coco.json"])
    assert not index_at(place)["complete"]
    back = made(tmp_path / "3", "ab")  # the first again: nothing of the second may be left
    upload(*place, back, ["png", "coco.json"])
    assert files_at(place) == files_in(back)
    assert index_at(place) == {"complete": True, "changing": [], "files": index_at(place)["files"]}


def test_tables_come_after_the_files_that_they_name(place, tmp_path):
    """A reader who finds a new table finds its files."""
    order = []

    class Noted(MemoryFileSystem):
        cachable = False

        def put_file(self, lpath, rpath, **options):
            order.append(rpath.rsplit("/", 1)[-1])
            super().put_file(lpath, rpath, **options)

    upload(Noted(), place[1], made(tmp_path, "ab"), ["png", "coco.json"])
    assert order == ["a.png", "b.png", "coco.json", "classes.json"]


def test_what_is_there_already_is_not_uploaded_again(place, tmp_path):
    """Only files whose bytes are others."""
    upload(*place, made(tmp_path / "1", "ab"), ["png", "coco.json"])
    cut = _Cut()
    cut.left = 0
    upload(cut, place[1], made(tmp_path / "2", "ab"), ["png", "coco.json"])
