"""Blobs: one suite over a folder and a bucket, then what only a folder must survive."""

import contextlib
import errno
import os
import resource
import signal
import stat
import subprocess
import sys
import time
import uuid
from pathlib import Path

import fsspec
import pytest
from fsspec.implementations.memory import MemoryFileSystem
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.errors import NotFound, StoreError
from ml_backend.store.blobs import Blobs, check_key, local_folder, natural_order

BAD_KEYS = [
    "",
    "/etc/passwd",
    "..",
    "../outside",
    "a/../../outside",
    "a/./b",
    "a//b",
    "a/",
    ".hidden",
    "a/.hidden",
    "a\\..\\b",
    "nul\0byte",
    "line\nbreak",
    "x" * 201,
    "é" * 101,
    "lone\ud800surrogate",
]


class FullFileSystem(MemoryFileSystem):
    """A bucket that refuses to store anything."""

    protocol = "full"
    store = {}  # noqa: RUF012  (the parent's way to share its content)

    def pipe_file(self, path, value, mode="overwrite", **kwargs):  # noqa: ARG002
        """Fail as a full disk does."""
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


fsspec.register_implementation("full", FullFileSystem, clobber=True)


@pytest.fixture(params=["path", "url", "memory", "s3"])
def blobs(request, tmp_path):
    """Every kind of place; the folder's name needs quoting in a URL."""
    if request.param == "s3":
        return Blobs(f"{request.getfixturevalue('bucket')}/home of 100% äpfel #1")
    folder = tmp_path / "home of 100% äpfel #1"
    urls = {
        "path": str(folder),
        "url": folder.as_uri(),
        "memory": f"memory://{uuid.uuid4().hex}",
    }
    return Blobs(urls[request.param])


class TestEveryPlace:
    """What holds for a folder and for a bucket alike."""

    def test_reads_what_was_written(self, blobs):
        """Bytes come back as they went in, also none and also under odd names."""
        for key, data in {"a/b/c.bin": b"\x00\xff", "empty": b"", "a/ä b [1]*?.png": b"x"}.items():
            blobs.write(key, data)
            assert blobs.read(key) == data
            assert blobs.exists(key)
            assert blobs.local_path(key).read_bytes() == data

    def test_replaces(self, blobs):
        """A second write replaces the first, also for a file that was already at hand."""
        blobs.write("k", b"old")
        assert blobs.local_path("k").read_bytes() == b"old"
        blobs.write("k", b"newer")
        assert blobs.read("k") == b"newer"
        assert blobs.local_path("k").read_bytes() == b"newer"

    def test_a_missing_key_is_named(self, blobs):
        """Reading what is not there raises NotFound with the key; asking and deleting do not."""
        blobs.write("folder/key", b"")
        for key in ("nothing", "folder", "folder/key/below"):
            assert not blobs.exists(key)
            with pytest.raises(NotFound, match=key):
                blobs.read(key)
            with pytest.raises(NotFound, match=key):
                blobs.local_path(key)
        blobs.delete("nothing")

    def test_deletes(self, blobs):
        """A deleted key is gone, its neighbours stay."""
        blobs.write("a/1", b"1")
        blobs.write("a/2", b"2")
        blobs.delete("a/1")
        assert not blobs.exists("a/1")
        assert blobs.list() == ["a/2"]

    def test_deleting_never_takes_a_folder(self, blobs):
        """A key that is a folder, or looks like a pattern, takes nothing with it."""
        blobs.write("a/1", b"1")
        blobs.delete("*")
        with contextlib.suppress(StoreError):
            blobs.delete("a")
        assert blobs.read("a/1") == b"1"

    def test_lists_by_folder(self, blobs):
        """A prefix means a folder: `models/1` does not list `models/10`."""
        keys = ["models/1/a", "models/1/b/c", "models/10/a", "z"]
        for key in reversed(keys):
            blobs.write(key, b"")
        assert blobs.list() == keys
        assert blobs.list("models/1") == blobs.list("models/1/") == keys[:2]
        assert blobs.list("absent") == []

    @pytest.mark.parametrize("key", BAD_KEYS)
    def test_no_key_leaves_the_root(self, blobs, key):
        """Keys that could mean another place are refused by every method."""
        for call in (blobs.read, blobs.exists, blobs.delete, blobs.local_path):
            with pytest.raises(StoreError, match="key"):
                call(key)
        with pytest.raises(StoreError, match="key"):
            blobs.write(key, b"")
        if key.strip("/"):
            with pytest.raises(StoreError, match="key"):
                blobs.list(key.rstrip("/") + "/..")


def test_every_implementation_is_in_the_suite(blobs):
    """The suite holds a folder or an fsspec file system, nothing is tested through a stand-in."""
    assert type(blobs._place).__name__ in {"_Folder", "_Bucket"}


@settings(deadline=None)
@given(st.text())
def test_a_key_that_passes_stays_inside(tmp_path_factory, key):
    """Whatever text comes in, either it is refused or it stays below the root."""
    root = tmp_path_factory.getbasetemp()
    try:
        check_key(key)
    except StoreError:
        return
    assert Path(os.path.normpath(root / key)).is_relative_to(root)
    assert Path(os.path.normpath(root / key)) != root


@settings(deadline=None)
@given(st.lists(st.integers(0, 200), unique=True))
def test_natural_order(numbers):
    """Names sort by their numbers' values."""
    names = [f"v{n}" for n in numbers]
    assert sorted(names, key=natural_order) == [f"v{n}" for n in sorted(numbers)]


def test_local_folder(tmp_path):
    """Paths and file URLs mean folders, quoting undone; other URLs do not."""
    odd = tmp_path / "a b%20#?"
    assert local_folder(odd.as_uri()) == local_folder(str(odd)) == odd
    assert local_folder("relative") == Path.cwd() / "relative"
    assert local_folder("s3://bucket/x") is None


def test_an_unknown_protocol_is_explained():
    """A URL nobody can serve raises StoreError with the way out."""
    with pytest.raises(StoreError, match=r"nosuch.*install"):
        Blobs("nosuch://bucket")


def test_a_bucket_that_does_not_exist(s3):  # noqa: ARG001  (the server that is asked)
    """What is written to no bucket is told by the bucket's name, as is its list."""
    blobs = Blobs("s3://no-such-bucket/brushloop")
    for call in (lambda: blobs.write("a", b""), blobs.list):
        with pytest.raises(StoreError, match="no bucket 'no-such-bucket'; create it"):
            call()


def test_another_machine_writes_to_the_bucket(s3, bucket):
    """What others write, replace and delete in a bucket is seen at once, also by copies of it."""
    blobs = Blobs(f"{bucket}/brushloop")
    blobs.write("a/1", b"old")
    assert blobs.local_path("a/1").read_bytes() == b"old"
    s3.put(f"{bucket}/brushloop/a/1", b"new bytes")
    s3.put(f"{bucket}/brushloop/a/2", b"two")
    assert blobs.local_path("a/1").read_bytes() == blobs.read("a/1") == b"new bytes"
    assert blobs.list("a") == ["a/1", "a/2"]
    blobs.delete("a/2")
    assert s3.objects(f"{bucket}/brushloop") == {"a/1": b"new bytes"}


def test_a_full_bucket():
    """No space in a bucket is a StoreError that says so."""
    with pytest.raises(StoreError, match="no space is left"):
        Blobs("full://bucket").write("a", b"x")


@contextlib.contextmanager
def small_files_only():
    """The kernel refuses files above 4 kB as a full disk does: in the middle of a write.

    Around the write alone: the limit holds for the whole process, and pytest's own output may
    be a file longer than that.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_write_that_fails_halfway_changes_nothing(tmp_path):
    """When the kernel stops a write, the old bytes stay and no temporary is left."""
    blobs = Blobs(tmp_path)
    blobs.write("a", b"old")
    with small_files_only(), pytest.raises(StoreError, match="no space is left"):
        blobs.write("a", bytes(10_000))
    assert blobs.read("a") == b"old"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_a_disk_that_is_full_at_the_sync(tmp_path, monkeypatch):
    """File systems that allocate late report a full disk at fsync: the same promise."""
    blobs = Blobs(tmp_path)
    blobs.write("a", b"old")

    def full(handle):  # noqa: ARG001
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match="no space is left"):
            blobs.write("a", b"new")
    assert blobs.read("a") == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_synced_before_renamed_before_the_folder_is_synced(tmp_path, monkeypatch):
    """The order that survives a power cut: file, name, folder."""
    blobs = Blobs(tmp_path)
    calls = []
    fsync, rename = os.fsync, Path.replace

    def note_sync(handle):
        calls.append("folder" if stat.S_ISDIR(os.fstat(handle).st_mode) else "file")
        fsync(handle)

    def note_rename(path, target):
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(Path, "replace", note_rename)
    blobs.write("a", b"x")
    assert calls == ["file", "rename", "folder"]


KILLED = """
import os, sys
from pathlib import Path
from ml_backend.store.blobs import Blobs
Path.replace = lambda *a: os.kill(os.getpid(), 9)
Blobs(sys.argv[1]).write("m/card", b"new")
"""


def test_a_writer_killed_before_the_rename(tmp_path):
    """After kill -9 the old bytes are read; what it left is invisible, and cleared a day later."""
    blobs = Blobs(tmp_path)
    blobs.write("m/card", b"old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], check=False)
    assert done.returncode == -signal.SIGKILL
    [left] = [path for path in (tmp_path / "m").iterdir() if path.name != "card"]
    assert left.read_bytes() == b"new"
    assert blobs.read("m/card") == b"old"
    assert blobs.list() == ["m/card"]
    assert left.exists()  # it might still be in the making
    yesterday = time.time() - 25 * 3600
    os.utime(left, (yesterday, yesterday))
    assert blobs.list() == ["m/card"]
    assert not left.exists()


def test_no_right_to_write_is_explained(tmp_path, monkeypatch):
    """A place that refuses is a StoreError that names the remedy."""

    def refuse(*args, **kwargs):  # noqa: ARG001
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(StoreError, match="the right to write"):
        Blobs(tmp_path).write("a", b"")


def test_a_folder_is_no_key(tmp_path):
    """A key that is a folder is neither overwritten nor deleted."""
    blobs = Blobs(tmp_path)
    blobs.write("a/b", b"")
    for call in (lambda: blobs.write("a", b""), lambda: blobs.delete("a")):
        with pytest.raises(StoreError, match="is a folder"):
            call()
    blobs.delete("a/b/c")
    assert blobs.exists("a/b")
