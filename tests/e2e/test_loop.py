"""The loop in a real Label Studio: what people do there, and what comes of it."""

import os
import signal
import time
from collections.abc import Callable, Collection
from pathlib import Path

import httpx
import numpy as np
import psutil
import pytest

from ml_backend.demo.truths import MaskTruths
from ml_backend.host.doctor import examine
from ml_backend.host.up import Running
from ml_backend.jobs.queues import Jobs
from ml_backend.loop.context import Context
from ml_backend.loop.export import export
from ml_backend.loop.masks import load_mask
from ml_backend.masks.regions import decode_results, encode_results
from ml_backend.store.rows import Task

pytestmark = [pytest.mark.studio, pytest.mark.timeout(900)]


def wait(ready: Callable[[], object], what: str, seconds: float = 240) -> None:
    """Wait until `ready()`; fail with `what` did not happen."""
    deadline = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < deadline, f"{what} did not happen within {seconds} s"
        time.sleep(0.3)


def open_task(
    context: Context, house: Running, split: str = "train", besides: Collection[int] = ()
) -> Task:
    """Find a pushed task of this side of the split; ask for another batch when none is open.

    `besides`: tasks whose answers the catalog may not know yet.
    """
    work = context.catalog.work
    for _ in range(3):
        tasks = work.tasks(house.project.id, open_only=True)
        tiles = context.catalog.pool.by_ids(task.tile_id for task in tasks if task.tile_id)
        for task in tasks:
            is_wanted = task.tile_id and tiles[task.tile_id].image.split == split
            if is_wanted and task.id not in besides:
                return task
        jobs = Jobs(house.settings, patient=True)
        before = len(context.catalog.rounds.all(house.project.id))
        jobs.request("select", house.project.id)
        wait(
            lambda before=before: (
                len(context.catalog.rounds.all(house.project.id)) > before
                and context.catalog.rounds.all(house.project.id)[-1].state == "pushed"
            ),
            "another batch",
        )
    raise AssertionError(f"no open {split} task")


def submit_truth(context: Context, house: Running, task: Task) -> np.ndarray:
    """Submit the true mask of a task as a brush region, as a person would; returns it."""
    truths = MaskTruths(house.pictures.images, house.pictures.truths)
    truth = truths(context.studio.get_task(task.id).data)
    config = context.labels(house.project)
    context.studio.create_annotation(task.id, encode_results(truth, config))
    return truth


def test_the_first_batch_does_not_wait_for_the_first_training(
    context: Context, house: Running
) -> None:
    """Tasks were there before the model that learns from the masks that came with images."""
    runs = context.catalog.models.runs(house.project.id)
    pushed = next(run for run in runs if run.step == "select" and run.report.get("pushed"))
    trained = next(run for run in runs if run.step == "train" and run.state == "done")
    assert pushed.id < trained.id
    assert context.catalog.rounds.all(house.project.id)[0].model is None


def test_pushed_tasks_show_the_models_brush_labels(context: Context, house: Running) -> None:
    """Every task of the first batch carries the current model's prediction, ready to correct."""
    current = context.catalog.models.current(house.project.id)
    config = context.labels(house.project)
    tasks = context.catalog.work.tasks(house.project.id)
    assert len(tasks) >= 6
    painted = 0
    for task in tasks[:6]:
        info = context.studio.get_task(task.id)
        shown = [row for row in info.predictions if row["model_version"].startswith("p")]
        assert shown, f"task {task.id} has no prediction"
        assert 0 <= shown[0]["score"] <= 1
        tile = context.catalog.pool.tile(task.tile_id)
        decoded = decode_results(shown[0]["result"], config, tile.height, tile.width)
        painted += bool((decoded.label_map > 0).any())
    assert painted >= 3, "the model that learned from clean samples sees nothing on noisy ones"
    assert context.studio.get_project(house.project.id).model_version.startswith(
        current.version.split("-")[0]
    )


def test_an_annotation_becomes_a_mask_a_model_and_new_predictions(
    context: Context, house: Running
) -> None:
    """Submit → webhook → sync → training → gate → version in Label Studio, without a command."""
    project_id = house.project.id
    before = len([m for m in context.catalog.models.all(project_id) if m.card])
    masks = {}
    for split in ("train", "val"):
        task = open_task(context, house, split)
        masks[task.id] = submit_truth(context, house, task)
    labelled = context.catalog.work.labelled
    wait(
        lambda: {a.task_id for a in context.catalog.work.annotations(project_id)} >= set(masks),
        "the webhook's sync",
    )
    by_tile = {item.tile.id: item for item in labelled(project_id)}
    for task_id, mask in masks.items():
        item = by_tile[context.catalog.work.task(task_id).tile_id]
        assert np.array_equal(load_mask(context.blobs, item.mask), mask)
    wait(
        lambda: len([m for m in context.catalog.models.all(project_id) if m.card]) > before,
        "the training that the annotations set off",
    )
    newest = [m for m in context.catalog.models.all(project_id) if m.card][-1]
    gate = context.catalog.models.gates(project_id)[-1]
    assert gate.decision in ("promoted", "rejected")
    assert newest.status == ("current" if gate.decision == "promoted" else "rejected")
    assert gate.numbers["candidate"]["iou"] is not None
    current = context.catalog.models.current(project_id)
    wait(
        lambda: context.studio.get_project(project_id).model_version == current.version,
        "the new version in Label Studio",
    )


def test_label_studio_asks_the_backend_and_gets_the_current_model(
    context: Context, house: Running
) -> None:
    """`/predict` through Label Studio's own path answers with the current version's regions."""
    task = open_task(context, house)
    info = context.studio.get_task(task.id)
    secrets = house.secrets
    answer = httpx.post(
        f"{house.settings.public_url}/predict",
        json={
            "tasks": [{"id": info.id, "data": info.data}],
            "project": f"{house.project.id}.1",
            "label_config": context.studio.get_project(house.project.id).label_config,
            "params": {},
        },
        auth=(secrets.user, secrets.password),
        timeout=60,
        trust_env=False,
    )
    assert answer.status_code == 200
    (result,) = answer.json()["results"]
    assert result["model_version"] == context.catalog.models.current(house.project.id).version
    config = context.labels(house.project)
    tile = context.catalog.pool.tile(task.tile_id)
    decode_results(result["result"], config, tile.height, tile.width)


def test_a_deleted_annotation_leaves_the_data(context: Context, house: Running) -> None:
    """What a person deletes in Label Studio is no longer learned from."""
    project_id = house.project.id
    task = open_task(context, house)
    submit_truth(context, house, task)
    tile = task.tile_id

    def labelled() -> set[int]:
        return {item.tile.id for item in context.catalog.work.labelled(project_id)}

    wait(lambda: tile in labelled(), "the sync")
    (row,) = [a for a in context.catalog.work.annotations(project_id) if a.task_id == task.id]
    headers = {"Authorization": f"Token {house.secrets.studio_token}"}
    url = f"{house.studio_url}/api/annotations/{row.id}/"
    httpx.delete(url, headers=headers, timeout=30, trust_env=False).raise_for_status()
    wait(lambda: tile not in labelled(), "the sync of the deletion")


def test_a_killed_worker_loses_nothing(context: Context, house: Running) -> None:
    """Kill -9 in the middle of a training: it is finished later, and only then judged."""
    project_id = house.project.id
    wait(lambda: not _busy(house), "the end of earlier jobs")
    before = [m.version for m in context.catalog.models.all(project_id) if m.card]
    answered: list[int] = []
    for split in ("train", "train", "val"):  # one of them may have been learned and deleted
        task = open_task(context, house, split, answered)
        submit_truth(context, house, task)
        answered.append(task.id)
    wait(lambda: _running(house, "train"), "the training")
    serving = context.catalog.models.current(project_id)
    worker = _worker_process()
    os.kill(worker.pid, signal.SIGKILL)
    assert context.catalog.models.current(project_id) == serving, "a half-trained model is served"
    deadline = time.monotonic() + 300
    while [m.version for m in context.catalog.models.all(project_id) if m.card] == before:
        house.tend()  # what `brushloop up` does all the time
        assert time.monotonic() < deadline, "the training was not carried on"
        time.sleep(0.3)
    newest = [m for m in context.catalog.models.all(project_id) if m.card][-1]
    labelled = context.catalog.work.labelled(project_id)
    assert {f"{item.tile.id}:{item.mask}" for item in labelled} == set(newest.card["masks"])


def _busy(house: Running) -> bool:
    views = Jobs(house.settings, patient=True).overview(house.project.id)
    return any(view.state in ("queued", "running") for view in views)


def _running(house: Running, step: str) -> bool:
    views = Jobs(house.settings, patient=True).overview(house.project.id)
    return any(view.step == step and view.state == "running" for view in views)


def _worker_process() -> psutil.Process:
    mine = [
        process
        for process in psutil.Process().children(recursive=True)
        if process.cmdline()[-1:] == ["worker"]
    ]
    return mine[0]


def test_the_doctor_finds_everything_well(context: Context) -> None:
    """Both directions, the secret header and the labels are as they must be."""
    wrong = [finding for finding in examine(context) if not finding.well]
    assert wrong == []


def test_exports_agree_with_each_other_and_with_people(
    context: Context, house: Running, tmp_path: Path
) -> None:
    """COCO decodes to the PNGs, and the PNGs hold what people painted."""
    submit_truth(context, house, open_task(context, house))
    wait(lambda: context.catalog.work.labelled(house.project.id), "the sync")
    done = export(context, house.project.id, tmp_path, progress=lambda *_: None)
    assert_exports_agree(tmp_path)
    assert done.images == len(list((tmp_path / "png").rglob("*.png")))


def assert_exports_agree(folder: Path) -> None:
    """Decode every COCO image with pycocotools and compare it with its PNG."""
    from PIL import Image
    from pycocotools.coco import COCO

    coco = COCO(folder / "coco.json")
    assert coco.imgs
    for image_id, image in coco.imgs.items():
        png = np.array(Image.open(folder / "png" / Path(image["file_name"]).with_suffix(".png")))
        painted = np.zeros_like(png)
        for row in coco.loadAnns(coco.getAnnIds(image_id)):
            mask = coco.annToMask(row).astype(bool)
            assert row["area"] == mask.sum()
            painted[mask] = row["category_id"]
        assert np.array_equal(painted, png), image["file_name"]
