"""An export that was killed carries on: no finished image again, and the same bytes."""

import csv
import os
import signal
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from export_cases import CONFIG, item, ring_with_dot
from hypothesis import given, settings
from hypothesis import strategies as st

from ml_backend.errors import DataError, StoreError
from ml_backend.export import EXPORTERS, Planned, write
from ml_backend.export.stage import ROOM
from ml_backend.masks.labels import LabelConfig
from ml_backend.masks.task_image import TaskImage

FORMATS = list(EXPORTERS)
# Names that meet, masks with holes, unknown pixels, none: whatever a format counts or notes
NAMES = ["b/ring.tif", "a.tif", "a.png", "A.jpg", "c/d/empty.tif", "c/val.tif"]


def planned(names=NAMES, loaded=None, fatal=None, change=""):
    """Images of these names; `loaded` hears of each that is loaded, `fatal` cannot be."""
    for place, name in enumerate(names):

        def load(name=name, place=place):
            if loaded is not None:
                loaded.append(name)
            if name == fatal:
                raise StoreError(f"the place of {name} is gone")
            pixels = np.roll(ring_with_dot(), place) if "empty" not in name else np.zeros((3, 4))
            if name == "a.png":
                pixels[0] = 255
            if name == change:
                pixels[-1] = 1
            return item(name, pixels, split="val" if "val" in name else "train")

        yield Planned(name, f"{name} {name == change}", load)


def contents(folder):
    """Every file and folder below `folder`, with its bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def said(reports):
    """What reports say, apart from places."""
    return {
        name: (report.images, report.regions, report.by_source, report.notes)
        for name, report in reports.items()
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """What an export without interruption writes, and what it reports."""
    folder = tmp_path_factory.mktemp("whole")
    reports = write(FORMATS, planned(), folder, CONFIG)
    return contents(folder), said(reports)


@pytest.mark.parametrize("stop", NAMES)
def test_it_carries_on_where_it_stopped(whole, tmp_path, stop):
    """Whichever image it broke at: those before are not loaded again; bytes and reports agree."""
    files, expected = whole
    loaded = []
    with pytest.raises(StoreError, match="is gone"):
        write(FORMATS, planned(fatal=stop), tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir() if path.name != ROOM] == []
    reports = write(FORMATS, planned(loaded=loaded), tmp_path, CONFIG)
    assert loaded == NAMES[NAMES.index(stop) :]
    assert contents(tmp_path) == files
    assert said(reports) == expected


KILLED = """
import os, random, signal, sys
sys.path.insert(0, sys.argv[1])
from pathlib import Path
from test_resume import CONFIG, FORMATS, planned, write
folder, at_risk = Path(sys.argv[2]), float(sys.argv[3])

def export(name, last):
    lines = 0
    def trace(frame, event, argument):
        nonlocal lines
        lines += event == "line"
        if lines == last:
            os.kill(os.getpid(), signal.SIGKILL)
        return trace if Path(frame.f_code.co_filename).parent.name == "export" else None
    sys.settrace(trace)
    write(FORMATS, planned(), folder / name, CONFIG, at_risk=at_risk)
    sys.settrace(None)
    return lines

total = export("count", None)
# anywhere among the images, and in the lines that publish, the last 50
for spot in [*random.Random(0).choices(range(1, total), k=2), *range(total - 46, total, 15)]:
    child = os.fork()
    if not child:
        export(str(spot), spot)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
"""


@pytest.mark.parametrize("at_risk", [0, 1e9])
def test_killed_anywhere_it_carries_on(whole, tmp_path, at_risk):
    """SIGKILL at any line of the export publishes no half; repeated, it gives the same bytes."""
    files, _ = whole
    words = [sys.executable, "-c", KILLED, str(Path(__file__).parent), str(tmp_path), str(at_risk)]
    one_thread = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    subprocess.run(words, check=True, env=one_thread)
    folders = [folder for folder in tmp_path.iterdir() if folder.name != "count"]
    assert len(folders) == 6
    for folder in folders:
        there = {path: data for path, data in contents(folder).items() if ROOM not in path}
        assert there.items() <= files.items()
        write(FORMATS, planned(), folder, CONFIG)
        assert contents(folder) == files, folder.name


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_changed_in_between_is_done_again(data, tmp_path_factory):
    """Images added, removed or changed between interruptions: as if exported afresh."""
    plans = st.lists(st.sampled_from(NAMES), unique=True, min_size=1).map(sorted)
    formats = data.draw(st.lists(st.sampled_from(FORMATS), unique=True, min_size=1, max_size=3))
    there, afresh = tmp_path_factory.mktemp("there"), tmp_path_factory.mktemp("afresh")
    finished = []
    for _ in range(data.draw(st.integers(1, 2))):
        names = data.draw(plans)
        stop = data.draw(st.sampled_from(names))
        try:
            write(formats, planned(names, fatal=stop), there, CONFIG)
            finished = []  # it was finished the first time: all is published
        except StoreError:
            finished = names[: names.index(stop)]
    names = data.draw(plans)
    change = data.draw(st.sampled_from(["", *names]))
    loaded = []
    write(formats, planned(names, loaded, change=change), there, CONFIG)
    write(formats, planned(names, change=change), afresh, CONFIG)
    assert contents(there) == contents(afresh)
    pairs = list(zip(finished, names, strict=False))
    same = next((k for k, (a, b) in enumerate(pairs) if a != b or b == change), len(pairs))
    assert loaded == names[same:]


def test_interrupted_twice_with_a_change_between(tmp_path):
    """What was finished before the change and no longer holds is forgotten for good."""
    for names in (NAMES[:4], [*NAMES[:1], *NAMES[3:]]):
        with pytest.raises(StoreError):
            write(["png", "coco"], planned(names, fatal=names[-1]), tmp_path, CONFIG)
    loaded = []
    write(["png", "coco"], planned(names, loaded), tmp_path, CONFIG)
    assert loaded == names[-1:]


def test_a_kill_costs_no_finished_image(tmp_path):
    """With nothing at risk, a process killed while it loads an image has kept those before."""
    code = """if True:
        import os, signal, sys
        sys.path.insert(0, sys.argv[1])
        from pathlib import Path
        from test_resume import CONFIG, NAMES, planned, write
        class Loaded(list):
            def append(self, name):
                if name == NAMES[3]:
                    os.kill(os.getpid(), signal.SIGKILL)
        write(["png", "coco"], planned(loaded=Loaded()), Path(sys.argv[2]), CONFIG, at_risk=0)
    """
    words = [sys.executable, "-c", code, str(Path(__file__).parent), str(tmp_path)]
    assert subprocess.run(words, check=False).returncode == -signal.SIGKILL
    loaded = []
    write(["png", "coco"], planned(loaded=loaded), tmp_path, CONFIG)
    assert loaded == NAMES[3:]


def test_another_labeling_config_begins_afresh(tmp_path):
    """Nothing is taken over when labels, or the formats, are others."""
    with pytest.raises(StoreError):
        write(["png"], planned(fatal="a.png"), tmp_path, CONFIG)
    loaded = []
    other = LabelConfig("brush", "image", TaskImage(), CONFIG.labels[::-1])
    write(["png"], planned(loaded=loaded), tmp_path, other)
    assert loaded == NAMES


def test_a_journal_that_was_cut_off_is_read_as_far_as_it_goes(whole, tmp_path):
    """A last line that is not whole counts as not written."""
    files, _ = whole
    with pytest.raises(StoreError):
        write(FORMATS, planned(fatal=NAMES[3]), tmp_path, CONFIG)
    journal = tmp_path / ROOM / "journal"
    journal.write_bytes(journal.read_bytes()[:-7])
    loaded = []
    write(FORMATS, planned(loaded=loaded), tmp_path, CONFIG)
    assert loaded == NAMES[2:]
    assert contents(tmp_path) == files


def test_nothing_finished_leaves_nothing(tmp_path):
    """An export that fails at its first image leaves no room behind."""
    with pytest.raises(StoreError):
        write(["png"], planned(fatal=NAMES[0]), tmp_path, CONFIG)
    assert not list(tmp_path.iterdir())


def test_progress_counts_what_was_finished_before(tmp_path):
    """Whoever waits sees the export go on, not begin again."""
    with pytest.raises(StoreError):
        write(["png"], planned(fatal=NAMES[4]), tmp_path, CONFIG)
    told = []
    write(["png"], planned(), tmp_path, CONFIG, told=told.append)
    assert told == [5, 6]


def test_an_image_whose_mask_is_gone_is_left_out(tmp_path):
    """The others are written and it is told; carried on with, it is still left out and told."""

    def some(broken, fatal=None):
        for one in planned(fatal=fatal):
            load = partial(_gone, one.name) if one.name == broken else one.load
            yield replace(one, load=load)

    told = []
    rest = [one for one in NAMES if one != NAMES[1]]
    with pytest.raises(StoreError):
        write(FORMATS, some(NAMES[1], fatal=NAMES[3]), tmp_path, CONFIG)
    report = write(
        FORMATS, some(NAMES[1]), tmp_path, CONFIG, left_out=lambda *problem: told.append(problem)
    )["png"]
    assert report.images == len(rest)
    assert told == [(NAMES[1], "its mask is gone")]


def test_nothing_is_published_where_no_mask_can_be_had(tmp_path):
    """The reason is raised, and what stood there stays."""
    lost = [replace(one, load=partial(_gone, one.name)) for one in planned()]
    with pytest.raises(DataError, match="is gone"):
        write(FORMATS, lost, tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir() if path.name != ROOM] == []


def _gone(_name):
    raise DataError("its mask is gone")


def test_own_names_survive_an_interruption(tmp_path):
    """`names.csv` has a line for each image that is called otherwise than its file."""

    def pages(fatal=None):
        for one in planned(fatal=fatal):
            yield replace(one, load=partial(_paged, one.load))

    with pytest.raises(StoreError):
        write(FORMATS, pages(fatal=NAMES[3]), tmp_path, CONFIG)
    write(FORMATS, pages(), tmp_path, CONFIG)
    with (tmp_path / "names.csv").open(encoding="utf-8", newline="") as file:
        head, *rows = csv.reader(file)
    assert head == ["image", "file", "page"]
    assert rows == [[name, "s.tif", "3"] for name in NAMES]


def _paged(load):
    return replace(load(), file="s.tif", page=3)
