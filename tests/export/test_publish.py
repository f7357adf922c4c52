"""Whole or not at all, whatever the file system does."""

import fcntl
import os
from pathlib import Path

import pytest
from export_cases import CONFIG, item, written

from ml_backend.errors import StoreError
from ml_backend.export import stage as stage_module
from ml_backend.export import write_items
from ml_backend.export.publish import publish
from ml_backend.export.stage import ROOM


def _names(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    """Files that the new export no longer has are gone; other formats and files stay."""
    (tmp_path / "mine.txt").touch()
    written("manifest", [item("a.tif", [[1]])], tmp_path, CONFIG)
    for names in (("a", "b"), ("b", "c")):
        written("png", [item(f"{name}.tif", [[1]]) for name in names], tmp_path, CONFIG)
    assert _names(tmp_path) == [
        *("manifest.csv", "mine.txt", "png", "png/b.png", "png/c.png", "png/classes.json"),
    ]
    assert (tmp_path / "png").stat().st_mode & 0o500 == 0o500


def test_readers_see_the_earlier_export_until_all_is_complete(tmp_path):
    """Nothing in the folder changes, in no format, before the last image is written."""
    write_items(["png", "coco"], [item("a.tif", [[1]])], tmp_path, CONFIG)
    before = {path: (tmp_path / path).read_bytes() for path in ("png/a.png", "coco.json")}

    def items():
        for name in ("a", "b", "c"):
            assert {path: (tmp_path / path).read_bytes() for path in before} == before
            assert not (tmp_path / "png/b.png").exists()
            yield item(f"{name}.tif", [[2, 1]])

    write_items(["png", "coco"], items(), tmp_path, CONFIG)
    assert (tmp_path / "png/b.png").exists()


def test_a_refused_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    """If the new folder cannot take the place, the earlier one is put back; repeating mends it."""
    written("png", [item("old.tif", [[1]])], tmp_path, CONFIG)
    rename = Path.rename

    def refuse(path, target):
        if path.parent.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(StoreError, match=r"export to .*: Permission denied; .* is whole"):
        written("png", [item("new.tif", [[1]])], tmp_path, CONFIG)
    assert _names(tmp_path / "png") == ["classes.json", "old.png"]
    monkeypatch.undo()
    written("png", [item("newer.tif", [[1]])], tmp_path, CONFIG)
    assert _names(tmp_path) == ["png", "png/classes.json", "png/newer.png"]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """An error of the system while writing becomes a StoreError, and the old file stays."""
    (tmp_path / "coco.json").write_text("old")

    def items():
        yield item("a.tif", [[1]])
        raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device"):
        written("coco", items(), tmp_path, CONFIG)
    assert _names(tmp_path) == ["coco.json"]
    assert (tmp_path / "coco.json").read_text() == "old"


def test_a_folder_made_meanwhile_is_replaced_too(tmp_path):
    """Where publishing is ended later, what somebody put into its place does not hinder it."""
    for place in ("new/png/new", "former/png/old", "out/png/theirs"):
        (tmp_path / place).parent.mkdir(parents=True)
        (tmp_path / place).touch()
    publish(tmp_path / "new", tmp_path / "former", tmp_path / "out")
    assert _names(tmp_path / "out") == ["png", "png/new"]


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_publishing_that_was_cut_off_is_ended_first(tmp_path, monkeypatch, moved):
    """Killed between two renames, the next export brings the rest of the finished one."""
    items = [item("a.tif", [[1]])]
    write_items(["png", "coco", "manifest"], items, tmp_path, CONFIG)
    seen = []

    def cut_off(fresh, _former, folder):
        for entry in sorted(fresh.iterdir())[:moved]:
            entry.replace(folder / entry.name)
            seen.append(entry.name)
        raise KeyboardInterrupt

    monkeypatch.setattr(stage_module, "publish", cut_off)
    with pytest.raises(KeyboardInterrupt):
        write_items(["png", "coco", "manifest"], [item("b.tif", [[2]])], tmp_path, CONFIG)
    assert len(seen) == moved
    monkeypatch.undo()
    written("npz", [item("c.tif", [[2]])], tmp_path, CONFIG)
    assert _names(tmp_path / "png") == ["b.png", "classes.json"]
    assert '"b.tif"' in (tmp_path / "coco.json").read_text()
    assert "b.tif" in (tmp_path / "manifest.csv").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {
        *("coco.json", "manifest.csv", "npz", "png"),
    }


def test_one_export_into_a_folder_at_a_time(tmp_path):
    """A second one is refused in words and disturbs nothing; another folder is free."""
    written("png", [item("a.tif", [[1]])], tmp_path, CONFIG)
    other = os.open(tmp_path, os.O_RDONLY)
    try:
        fcntl.flock(other, fcntl.LOCK_EX)
        with pytest.raises(StoreError, match=r"another export into .* is under way"):
            written("png", [item("b.tif", [[1]])], tmp_path, CONFIG)
        written("png", [item("b.tif", [[1]])], tmp_path / "other", CONFIG)
    finally:
        os.close(other)
    assert _names(tmp_path / "png") == ["a.png", "classes.json"]
    assert not (tmp_path / ROOM).exists()
