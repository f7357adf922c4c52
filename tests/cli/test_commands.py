"""The command line: quick help, one-line errors, and every step without a worker."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest
import typer
from PIL import Image
from support.commands import complaint, run
from support.house import open_house, save_picture

from ml_backend.cli import app
from ml_backend.masks.labels import make_label_config

ROOT = Path(__file__).parents[2]


def commands(command, path=()):
    """Every command that does something, as the words that name it."""
    children = getattr(command, "commands", None)
    if children is None:
        yield path
        return
    for name, child in children.items():
        yield from commands(child, (*path, name))


COMMANDS = list(commands(typer.main.get_command(app)))


def test_help_is_quick_and_knows_no_torch():
    """`--help` imports neither torch nor anything that takes long."""
    code = (
        "import sys\n"
        "sys.argv = ['brushloop', '--help']\n"
        "from ml_backend.cli import main\n"
        "try:\n    main()\n"
        "finally:\n"
        "    slow = {'torch', 'numpy', 'sqlalchemy', 'cv2', 'fastapi', 'rq', 'httpx'}\n"
        "    print('SLOW', sorted(slow & set(sys.modules)))\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert "SLOW []" in done.stdout
    assert "pool" in done.stdout
    assert time.monotonic() - began < 20  # half a second on a machine that is not busy


def test_all_commands_are_there():
    """The commands that the documentation promises, and no others."""
    expected = (
        "up serve worker schedule connect sync pretrain train select predict export models status "
        "runs tune effort simulate"
    )
    assert {" ".join(words) for words in COMMANDS} == {
        *expected.split(),
        "augment-sheet",
        "bootstrap",
        "doctor",
        "forget",
        "inspect",
        "demo",
        "pool add",
    }


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_every_command_explains_itself(words):
    """`--help` says what it does and shows an example that starts with the command."""
    output = run(*words, "--help")
    assert re.search(r"Examples?:\s+(\w+=\S+ )?brushloop ", output)
    assert f"brushloop {' '.join(words)}" in output


def test_an_error_is_one_line_without_a_traceback(tmp_path):
    """A real process ends with exit code 1 and one line on its standard error."""
    done = subprocess.run(
        [sys.executable, "-m", "ml_backend.cli", "sync", "--here", "--project", "3"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "BRUSHLOOP_HOME": str(tmp_path)},
    )
    assert done.returncode == 1
    assert done.stderr.startswith("brushloop: project 3 is not known here: connect it with")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("train", "--here"), "there are: none yet"),
        (("models", "--promote", "p1-v1"), "there are: none yet"),
        (("export", "out"), "there are: none yet"),
        (("pool", "add", "nowhere"), "there are: none yet"),
        (("connect", "--project", "3"), "BRUSHLOOP_PASSWORD"),
        (("connect", "--project", "3", "--recipe", "none.yaml"), "recipe none.yaml"),
        (("up", "--tile", "7"), "pool.tile"),
    ],
)
def test_mistakes_are_answered_in_one_line(words, expected):
    """An empty home, a missing setting, a missing file, an impossible value."""
    assert expected in complaint(*words)


def test_a_bad_setting_is_named(monkeypatch):
    """An environment that cannot be used is said before anything is done."""
    monkeypatch.setenv("BRUSHLOOP_PORT", "many")
    assert "BRUSHLOOP_PORT" in complaint("status")
    assert not Path("brushloop-data").exists()


@pytest.mark.parametrize("step", ["sync", "select", "predict", "train"])
def test_steps_without_label_studio_say_what_is_missing(tmp_path, monkeypatch, step):
    """A home that knows no Label Studio names the variable; no half-done work stays."""
    house = open_house(tmp_path)
    house.fill(4)
    house.catalog.close()
    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path / "home"))
    if step == "predict":
        assert "no model yet" in run(step, "--here")
    elif step == "train":
        assert "submit some annotations in Label Studio" in complaint(step, "--here")
    else:
        assert "BRUSHLOOP_LABEL_STUDIO_URL is not set" in complaint(step, "--here")
        monkeypatch.setenv("BRUSHLOOP_LABEL_STUDIO_URL", "http://127.0.0.1:1")
        assert "BRUSHLOOP_LABEL_STUDIO_API_KEY is not set" in complaint(step, "--here")
        monkeypatch.setenv("BRUSHLOOP_LABEL_STUDIO_API_KEY", "0" * 40)
        assert "127.0.0.1:1" in complaint(step, "--here")


def test_a_round_by_hand(house):
    """Pool, select, sync, train, predict, models, status and export, one after another."""
    for number in range(8):
        save_picture(house.images / f"{number}.png", number)
    (house.images / "bad.png").write_bytes(b"nothing")
    (house.images / "scan.dcm").write_bytes(b"a scanner's own")
    output = run("pool", "add", str(house.images))
    assert "8 images, 8 tiles to ask about, 0 images with masks" in output
    assert "set aside 1: bad.png" in output
    assert "round 1: 4 tasks pushed" in run("select", "--here")
    (record,) = house.catalog.rounds.all(house.project_id)
    left_out = {"set_aside": 1, "passed_over": 1, "unpaired": 0, "warnings": 0}
    pool = record.settings["pool"]
    assert {kind: pool[kind] for kind in left_out} == left_out
    house.answer_open()
    assert "4 new annotations" in run("sync", "--here")
    assert "0 new annotations" in run("sync", "--all", "--here")
    version = f"p{house.project_id}-v1"
    assert f"{version} promoted" in run("train", "--here")
    assert f"{version} shown on 0 open tasks" in run("predict", "--here")
    assert version in run("models")
    status = run("status")
    assert "labelled 4" in status
    assert "bad.png" in status
    assert "last pool add: passed over 1: " in status
    assert "scan.dcm" in status
    assert "png: 8 images" in run("export", "out", "--format", "png")
    assert Path("out/png/0.png").exists()
    assert not Path("out/coco.json").exists()


def test_a_batch_is_looked_at_before_it_is_pushed(house):
    """`--dry-run` prints and draws it, without a worker and without Label Studio."""
    house.fill(8)
    output = run("select", "--dry-run", "--sheet", "next.png")
    assert "nothing is pushed" in output
    assert "audit: drawn at random" in output
    assert "look at next.png" in output
    assert Path("next.png").read_bytes().startswith(b"\x89PNG")
    assert house.catalog.rounds.all(house.project_id) == []
    assert house.studio.tasks == {}
    assert "add --dry-run" in complaint("select", "--sheet", "next.png")
    script = [sys.executable, str(ROOT / "scripts" / "select_batch.py"), "--dry-run"]
    done = subprocess.run(
        script,
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert "look at select-sheet.png" in done.stdout


def test_status_says_what_cannot_be_used_and_where(house, monkeypatch):
    """Links to the tasks, labels that went, tiles that wait for more people, the rest in a line."""
    house.fill(4)
    run("select", "--here")
    tasks = sorted(house.studio.tasks)
    choice = {"id": "c", "type": "choices", "from_name": "q", "value": {"choices": ["good"]}}
    for task in tasks[:2]:
        tile = house.catalog.pool.tile(house.studio.tasks[task]["data"]["tile"])
        house.studio.create_annotation(task, [*house.regions(house.truth(tile)), choice])
    house.recipe({"loop.annotators": "consensus"})
    run("sync", "--here")
    status = run("status")
    assert "2 tiles do not have answers of 2 people yet" in status
    assert "2 annotations also hold what is no region and was left out: choices" in status
    assert "http://" not in status
    monkeypatch.setenv("BRUSHLOOP_LABEL_STUDIO_BROWSER_URL", "https://people.test/ls/")
    config = make_label_config(["nucleus"])
    house.studio.projects[house.project_id]["label_config"] = config
    assert "labels that came: nucleus" in run("sync", "--here")
    status = run("status")
    assert "labels that went or were renamed: cell" in status
    for task in tasks[:2]:
        assert f"(https://people.test/ls/projects/{house.project_id}/data?task={task})" in status


def test_connecting_says_what_a_recipe_changes(house, monkeypatch, tmp_path):
    """Labels that are read otherwise, and names that the project has not."""
    for name in ("PASSWORD", "WEBHOOK_SECRET"):
        monkeypatch.setenv(f"BRUSHLOOP_{name}", "correct-horse")
    words = ("connect", "--project", str(house.project_id))
    assert "labels:" not in run(*words)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("labels: {unpainted: unknown}")
    assert "unpainted pixels: unknown" in run(*words, "--recipe", str(recipe))
    recipe.write_text("labels: {ignore: [ghost]}")
    line = complaint(*words, "--recipe", str(recipe))
    assert "labels.ignore names 'ghost'" in line
    assert "has the labels cell" in line


def test_rolling_back_without_a_past_is_refused(house):
    """`models` changes nothing when it cannot."""
    version = f"p{house.project_id}-v1"
    assert "no earlier model" in complaint("models", "--roll-back")
    assert "it has: none yet" in complaint("models", "--promote", version)


def test_several_projects_must_be_told_apart(house):
    """The complaint lists them; `--project` chooses."""
    house.catalog.projects.save(77, title="Other", label_config=house.project.label_config)
    line = complaint("sync", "--here")
    assert "77 (Other)" in line
    assert "no model yet" in run("predict", "--here", "--project", "77")


def test_a_bad_mask_value_is_said(house):
    """`--mask-values` that cannot be read names what was given."""
    save_picture(house.images / "0.png", 0)
    line = complaint("pool", "add", str(house.images), "--mask-values", "red=cell")
    assert "red=cell" in line


def test_export_refuses_what_is_not_there(house):
    """Unknown formats, sources, policies and splits list the choices, moments show an example."""
    house.fill(2)
    for option, value, choices in (
        ("--source", "me", "people, model, both"),
        ("--format", "gif", "png_classes"),
        ("--annotators", "me", "latest, all, consensus"),
        ("--split", "test", "train, val, all"),
        ("--changed-since", "noon", "2026-03-01"),
    ):
        assert choices in complaint("export", "out", option, value)
    assert not Path("out").exists()


def test_export_takes_what_was_asked_for(house):
    """Split, policy and the last export choose the images."""
    house.fill(8)
    house.labelled_round()
    options = ("--format", "manifest", "--annotators", "all", "--changed-since", "last")
    images = house.catalog.pool.images(house.project_id)
    sides = {image.name: image.split for image in images}
    answered = [task["data"]["name"] for task in house.studio.tasks.values()]
    for split in ("train", "val"):
        count = [sides[name] for name in answered].count(split)
        assert f"manifest: {count} images" in run("export", split, "--split", split, *options)
    assert "manifest: 0 images" in run("export", "out", *options)
    lines = Path("train/manifest.csv").read_text().splitlines()[1:]
    assert {line.split(",")[0] for line in lines} == {
        name for name in answered if sides[name] == "train"
    }
    assert "people, model, both" in complaint("export", "out", "--source", "me")


def test_an_augmentation_is_looked_at(tmp_path):
    """Without a project or a home: folders in, a picture out."""
    masks = tmp_path / "masks"
    masks.mkdir()
    for number in range(3):
        mask = save_picture(tmp_path / "images" / f"{number}.png", number)
        Image.fromarray(mask * 255).save(masks / f"{number}.png")
    words = ("augment-sheet", "--images", "images", "--masks", "masks", "--out", "sheet.png")
    output = run(*words, "--augmentation", "domain", "--rows", "2", "--columns", "3")
    assert "domain on 2 images" in output
    with Image.open("sheet.png") as sheet:
        assert sheet.size[0] > 4 * 192
    (tmp_path / "images" / "1.png").write_bytes(b"nothing")
    assert "set aside 1: 1.png" in run(*words, "--rows", "3")
    assert "elastic" in complaint(*words, "--augmentation", "mixup")
    assert not Path("brushloop-data").exists()


def test_masks_are_bootstrapped(tmp_path):
    """Folder in, masks out, the next command said; a second time nothing is touched."""
    for number in range(3):
        save_picture(tmp_path / "images" / f"{number}.png", number)
    Image.new("RGB", (32, 32), (9, 9, 9)).save("images/even.png")
    output = run("bootstrap", "images", "masks", "--method", "otsu")
    assert "3 masks written, 0 left as they were, 1 images without any object" in output
    assert "set aside 1: nothing is found in it: even.png" in output
    assert "brushloop pool add images --masks masks" in output
    assert Path("bootstrap-sheet.png").exists()
    assert "0 masks written, 3 left" in run("bootstrap", "images", "masks", "--sheet", "again.png")
    assert "hysteresis, local, otsu" in complaint("bootstrap", "images", "m", "--method", "canny")
    assert not Path("m").exists()


def test_the_script_of_a_pull_shows_examples():
    """`scripts/sync.py --help` is that of the command, with ways to call it."""
    command = [sys.executable, str(ROOT / "scripts/sync.py"), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert "Usage: brushloop sync [OPTIONS]" in done.stdout
    for way in ("brushloop sync --all", "--here", "python scripts/sync.py"):
        assert way in done.stdout
