"""`brushloop demo` as a user runs it: a process that ends with a report and leaves nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import yaml
from PIL import Image
from support.sections import SECTIONS, Sections, read_sections

from ml_backend.demo.annotator import ACCEPT_DICE
from ml_backend.loop.context import open_context
from ml_backend.loop.masks import mean_dice
from ml_backend.settings import load_settings

from .conftest import QUICK
from .test_loop import assert_exports_agree

pytestmark = [pytest.mark.studio, pytest.mark.timeout(1500)]

# Nobody looks at how good these models are.
SHORT = {"steps": 40, "epochs": 2, "batch_size": 4, "patch": 128}
ROUND_KEYS = {
    "round", "labelled", "model_version", "decision", "val_iou", "val_dice", "accepted",
    "submitted", "mean_prediction_dice", "seconds", "candidate_iou", "serving",
}  # fmt: skip


def start(home: Path, studio: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `brushloop` with a quick recipe, in a session of its own."""
    recipe = home.parent / "quick.yaml"
    changes = {"loop": {"retrain_every": None, "auto_select": True}, "training": SHORT}
    recipe.write_text(yaml.safe_dump(QUICK | changes), encoding="utf-8")
    command = [sys.executable, "-m", "ml_backend.cli", *arguments]
    options = ["--home", str(home), "--recipe", str(recipe), "--label-studio", str(studio)]
    environment = {name: value for name, value in os.environ.items() if "BRUSHLOOP" not in name}
    return subprocess.Popen(
        [*command, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=environment,
        start_new_session=True,
    )


def left_behind(home: Path) -> list[str]:
    """Command lines of processes that still belong to this home folder."""
    found = []
    for process in psutil.process_iter():
        try:
            mine = str(home) in " ".join(process.cmdline()) or str(home) in str(process.environ())
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if mine and process.pid != os.getpid():
            found.append(" ".join(process.cmdline()))
    return found


@dataclass(frozen=True)
class Played:
    """A demo that has ended."""

    home: Path
    report: Path
    returncode: int
    output: str


@pytest.fixture(scope="module")
def sections(tmp_path_factory: pytest.TempPathFactory) -> Sections:
    """Twenty sections whose masks are known."""
    return read_sections(tmp_path_factory.mktemp("sections"))


def play(folder: Path, studio: Path, images: Path, masks: Path) -> Played:
    """Play two rounds of the demo, from nothing."""
    home, report = folder / "home", folder / "report.json"
    process = start(
        home, studio, "demo", "--rounds", "2", "--report", str(report),
        "--images", str(images), "--masks", str(masks), "--label", "plankton",
    )  # fmt: skip
    output, _ = process.communicate(timeout=1400)
    return Played(home, report, process.returncode, output)


@pytest.fixture(scope="module")
def played(
    studio_executable: Path, tmp_path_factory: pytest.TempPathFactory, sections: Sections
) -> Played:
    """A demo of the sections as single files."""
    folder = tmp_path_factory.mktemp("demo")
    return play(folder, studio_executable, *sections.write_files(folder))


@pytest.fixture(scope="module")
def played_stack(
    studio_executable: Path, tmp_path_factory: pytest.TempPathFactory, sections: Sections
) -> Played:
    """A demo of the sections as one file, with one file of masks."""
    folder = tmp_path_factory.mktemp("stack-demo")
    return play(folder, studio_executable, *sections.write_stack(folder))


def test_the_demo_plays_every_round_and_reports_it(played: Played) -> None:
    """Two rounds: exit 0, every key of the report, masks that agree, no process left."""
    assert played.returncode == 0, played.output[-3000:]
    assert left_behind(played.home) == []
    data = json.loads(played.report.read_text(encoding="utf-8"))
    assert [row["round"] for row in data["rounds"]] == [1, 2]
    for row in data["rounds"]:
        assert set(row) == ROUND_KEYS
        assert row["submitted"] == 6
        assert row["decision"] in ("promoted", "rejected")
        assert set(row["seconds"]) == {"sync", "train", "score", "push"}
        assert row["seconds"]["train"] > 0
    assert data["rounds"][0]["mean_prediction_dice"] is None  # there was no model yet
    assert 0 <= data["rounds"][1]["mean_prediction_dice"] <= 1
    assert data["rounds"][1]["labelled"] == 12
    assert {"project_id", "seed", "package_version"} <= set(data)
    folder = Path(data["export"]["png_dir"]).parent
    assert_exports_agree(folder)
    assert data["export"]["images"] == len(list((folder / "png").rglob("*.png")))
    assert Path(data["curve_png"]).stat().st_size > 5000


def test_a_stack_ends_as_its_sections_do(
    played: Played, played_stack: Played, sections: Sections
) -> None:
    """One file of 20 pages: the same rounds, names and sizes, and what was painted is exact."""
    assert played_stack.returncode == 0, played_stack.output[-3000:]
    assert left_behind(played_stack.home) == []
    exports = []
    for demo in (played, played_stack):
        data = json.loads(demo.report.read_text(encoding="utf-8"))
        assert [row["labelled"] for row in data["rounds"]] == [6, 12]
        folder = Path(data["export"]["png_dir"])
        assert_exports_agree(folder.parent)
        exports.append({path.stem: np.array(Image.open(path)) for path in folder.rglob("*.png")})
        with open_context(load_settings(home=demo.home)) as context:
            painted = context.catalog.work.labelled(data["project_id"])
            assert len(painted) == 12
            for item in painted:
                mask = exports[-1][Path(item.tile.image.name).stem] > 0
                truth = sections.truth(item.tile.image.name)
                assert mean_dice(mask.astype(np.uint8), truth.astype(np.uint8)) >= ACCEPT_DICE
            splits = {image.split for image in context.catalog.pool.images(data["project_id"])}
            assert splits == {"train", "val"}
    assert len(exports[0]) == SECTIONS
    sizes = [{name: mask.shape for name, mask in export.items()} for export in exports]
    assert sizes[0] == sizes[1]


def test_a_second_start_finds_it_and_ctrl_c_stops_everything(
    studio_executable: Path, played: Played
) -> None:
    """`up` over a used home shows the same project at once; Ctrl-C ends all that it started."""
    process = start(played.home, studio_executable, "up")
    lines: list[str] = []
    assert process.stdout is not None
    for line in process.stdout:
        lines.append(line)
        if "Ctrl-C stops everything" in line:
            break
    assert process.poll() is None, "".join(lines[-30:])
    assert any("/projects/1/data" in line for line in lines), "".join(lines[-30:])
    assert not any("pool" in line for line in lines), "the address came after the pool was filled"
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=120)
    assert process.returncode == 0
    deadline = time.monotonic() + 20
    while left := left_behind(played.home):
        assert time.monotonic() < deadline, f"left behind: {left}"
        time.sleep(0.5)
