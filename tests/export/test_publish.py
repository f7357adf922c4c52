"""Whole or not at all, whatever the file system does."""

from pathlib import Path

import pytest

from ml_backend.errors import StoreError
from ml_backend.export.publish import staged_file, staged_folder


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    """Files that the new export no longer has are gone, and readers may read the rest."""
    for names in (("a", "b"), ("b", "c")):
        with staged_folder(tmp_path / "out") as fresh:
            for name in names:
                (fresh / name).write_text(name)
            assert not (tmp_path / "out" / "c").exists()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["b", "c"]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert (tmp_path / "out").stat().st_mode & 0o500 == 0o500


def test_a_refused_rename_brings_the_old_folder_back(tmp_path, monkeypatch):
    """If the new folder cannot take the place, the earlier one is put back."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "old").touch()
    rename = Path.rename

    def refuse(path, target):
        if path.name == "new":
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refuse)
    with (
        pytest.raises(StoreError, match=r"out: Permission denied; .* unchanged"),
        staged_folder(tmp_path / "out"),
    ):
        pass
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "old"]


def test_a_full_disk_keeps_the_old_file(tmp_path):
    """An error of the system while writing becomes a StoreError, and the old file stays."""
    (tmp_path / "coco.json").write_text("old")

    def write():
        with staged_file(tmp_path / "coco.json") as parts:
            (parts / "coco.json").write_text("half")
            raise OSError(28, "No space left on device")

    with pytest.raises(StoreError, match="No space left on device"):
        write()
    assert [path.name for path in tmp_path.iterdir()] == ["coco.json"]
    assert (tmp_path / "coco.json").read_text() == "old"
