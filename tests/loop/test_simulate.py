"""Simulations of seconds: every strategy, the same numbers anywhere, carried on after a kill."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from support.simulation import QUICK, make_folders, open_simulation, source_of

from ml_backend.errors import ConfigError, DataError, NothingToLearn, StoreError, UnknownName
from ml_backend.learning.evaluation import evaluate
from ml_backend.loop.context import silent
from ml_backend.loop.simulate import run
from ml_backend.loop.simulate.choices import choose_next, first_tiles
from ml_backend.loop.simulate.figures import collect
from ml_backend.loop.simulate.likeness import likeness_of
from ml_backend.loop.simulate.material import read_material
from ml_backend.loop.simulate.networks import recipe_of
from ml_backend.loop.simulate.plan import (
    Part,
    Unit,
    all_units,
    ask,
    parts_of,
    settle,
    small_recipe,
    start_of,
)
from ml_backend.loop.simulate.report import write_report
from ml_backend.loop.simulate.run import open_bench, run_part
from ml_backend.recipe import Recipe, load_recipe, parse_recipe
from ml_backend.selection.strategies import STRATEGIES
from ml_backend.selection.uncertainty import Passes, score_image

PLAY = """
import sys
from pathlib import Path
from support.simulation import open_simulation
from ml_backend.loop.context import silent
from ml_backend.loop.simulate.plan import parts_of
from ml_backend.loop.simulate.run import run_part
bench = open_simulation(Path(sys.argv[1]), Path(sys.argv[2]))
for stage in parts_of(bench.plan):
    for part in stage:
        run_part(bench, part, lambda *_: print("progress", flush=True))
"""
TESTS = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Give six pictures with masks: four tiles each."""
    folder = tmp_path_factory.mktemp("pictures")
    make_folders(folder)
    return folder


@pytest.fixture(scope="module")
def played(folder, tmp_path_factory):
    """Give a simulation of two strategies that has been played to its end."""
    bench = open_simulation(folder, tmp_path_factory.mktemp("played"))
    play(bench)
    return bench


def play(bench):
    """Do all parts."""
    for stage in parts_of(bench.plan):
        for part in stage:
            run_part(bench, part, silent)


def read(source, tile=32):
    """The material of a source, in tiles of this side or whole."""
    return read_material(source, Recipe().changed({"pool.tile": tile}))


def numbers(out):
    """Everything that is kept of the trainings, but how long they took."""
    rows = {}
    for path in sorted(Path(out, "units").rglob("*.json")):
        row = json.loads(path.read_text())
        del row["seconds"]
        rows[path.relative_to(out).as_posix()] = row
    return rows


def test_a_curve_spends_a_batch_a_round(played):
    """Disjoint rounds of the pool, costs that add up, and one start for all strategies."""
    material, records = played.material, played.records
    start = records.read(start_of(0))
    for name in played.plan.strategies:
        known = list(start.chosen)
        for number in (1, 2):
            record = records.read(Unit(name, 0, number))
            assert len(record.chosen) == 2
            assert not set(known) & set(record.chosen)
            known += record.chosen
            assert record.tiles == len(known) == 2 + 2 * number
            assert record.foreground == material.foreground_N[known].sum()
            assert record.objects == material.objects_N[known].sum()
            assert record.images == len({material.tiles[tile].image.id for tile in known})
            assert 0 <= record.iou <= 1
    ceiling = records.read(Unit("ceiling-x1", 0, 0))
    assert ceiling.tiles == len(material.tiles)


def test_test_images_are_never_learned_from(played):
    """No tile of the pool is cut from an image that judges."""
    learned = {tile.image.name for tile in played.material.tiles}
    judging = {sample.name.split(" ")[0] for sample in played.material.test}
    assert len(learned) == 4
    assert len(judging) == 2
    assert not learned & judging


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_every_strategy_can_be_simulated(played, name):
    """Whatever is registered chooses from what is known, the same twice, nothing twice."""
    start = played.records.read(start_of(0))
    scored = played.records.scored(start_of(0))
    asked = (played.plan, played.material, Unit(name, 0, 1), scored, start.chosen)
    tiles, lift = choose_next(*asked)
    assert len(set(tiles)) == len(tiles) == 2
    assert not set(tiles) & set(start.chosen)
    assert np.isfinite(lift)
    assert choose_next(*asked) == (tiles, lift)


def test_top_takes_the_most_uncertain_tiles(played):
    """The scores that are kept are those that the choice goes by."""
    start = played.records.read(start_of(0))
    scored = played.records.scored(start_of(0))
    free = [tile.id for tile in played.material.tiles if tile.id not in start.chosen]
    best = sorted(free, key=lambda tile: -scored.row(tile)["entropy:mean"])[:2]
    assert list(played.records.read(Unit("top", 0, 1)).chosen) == best


def test_strategies_are_paired(folder, tmp_path):
    """The same tiles in the same round give the same network, whoever chose them."""
    bench = open_simulation(folder, tmp_path)
    known, chosen = [0, 1, 2, 3, 4], [7, 9]
    rows = []
    for unit in (Unit("random", 0, 1), Unit("top", 0, 1), Unit("top", 0, 2), Unit("top", 1, 1)):
        run._train(bench, unit, chosen, known)
        row = bench.records.read(unit)
        rows.append((row.iou, row.dice, row.accuracy))
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]
    assert rows[0] != rows[3]


def test_killed_and_carried_on_by_another_process(folder, played, tmp_path):
    """What a killed process left is kept, the rest is added, and all is as if done in one go."""
    out = tmp_path / "out"
    command = [sys.executable, "-c", PLAY, str(folder), str(out)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), *sys.path])}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as process:
        for _ in range(3):  # a start is done, a round begun
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    done = numbers(out)
    assert 0 < len(done) < len(numbers(played.records.folder))
    before = {path: path.stat().st_mtime_ns for path in (out / "units").rglob("*.json")}
    play(open_simulation(folder, out))
    assert numbers(out) == numbers(played.records.folder)
    assert all(path.stat().st_mtime_ns == time for path, time in before.items())


def test_an_image_counts_as_much_as_any_other(played):
    """By images: the mean of their own IoU, each from all its tiles, and curves go by it."""
    material, unit = played.material, start_of(0)
    record = played.records.read(unit)
    recipe = recipe_of(played.plan, start_of(0), 1)
    predictor = played.trainer.network(record.chosen, recipe)
    hits, either = np.zeros((2, len(material.test)))
    names = [sample.name.split(" ")[0] for sample in material.test]

    def count(tile, found, truth):
        hits[tile] = np.sum((found == 1) & (truth == 1))
        either[tile] = np.sum((found == 1) | (truth == 1))

    evaluate(predictor, material.test, 1, each=count)
    assert len(set(names)) == 2 < len(names)
    of = [np.array([name == image for name in names]) for image in sorted(set(names))]
    ious = [hits[tiles].sum() / either[tiles].sum() for tiles in of if either[tiles].sum()]
    assert record.iou_by_image == pytest.approx(np.mean(ious))
    assert record.iou == pytest.approx(hits.sum() / either.sum())
    judged = played.plan.model_copy(update={"judged_by": "images"})
    result = collect(judged, played.records, likeness_of(material))
    rows = [played.records.read(Unit("top", 0, number)).iou_by_image for number in (1, 2)]
    assert result.curves["top"].iou.tolist() == [[record.iou_by_image, *rows]]
    ceiling = played.records.read(Unit("ceiling-x1", 0, 0)).iou_by_image
    assert result.controls["ceiling-x1"].tolist() == [ceiling]


def test_an_ensemble_scores_and_the_network_itself_is_judged(folder, played, tmp_path):
    """Siblings learn from tiles drawn again; the curve is the network's own, as without them."""
    scoring = {"passes": "ensemble", "members": 3, "score": "bald", "member_share": 0.5}
    bench = open_simulation(folder, tmp_path, recipe=parse_recipe(QUICK | {"scoring": scoring}))
    run_part(bench, Part("start", "", 0), silent)
    record, scored = bench.records.read(start_of(0)), bench.records.scored(start_of(0))
    assert record.iou == played.records.read(start_of(0)).iou
    recipe = recipe_of(bench.plan, start_of(0), 1)
    siblings = bench.trainer.siblings(record.chosen, recipe)
    models = [bench.trainer.network(record.chosen, recipe), *siblings]
    image = bench.material.samples[0].load()[0]
    passes = [next(model.see_many([(image, ())])).probs_TCHW for model in models]
    assert len({probs_1CHW.tobytes() for probs_1CHW in passes}) == 3
    expected = score_image(Passes(np.concatenate(passes), None, recipe.scoring.top_share))
    assert scored.row(0)["bald:mean"] == pytest.approx(expected["bald:mean"], rel=1e-4)
    assert scored.row(0)["bald:mean"] > 0


def test_records_of_a_version_that_judged_by_pixels_alone_are_read(played):
    """They have no IoU by image: not a number, not damaged."""
    path = played.records.folder / f"{start_of(0).key}.json"
    text = path.read_text()
    row = json.loads(text)
    del row["iou_by_image"]
    try:
        path.write_text(json.dumps(row))
        assert np.isnan(played.records.read(start_of(0)).iou_by_image)
    finally:
        path.write_text(text)


def test_a_start_of_some_of_each_kind(tmp_path):
    """By `selection.first`, as a project begins: of dark, bright and red tiles one each."""
    images, _ = make_folders(tmp_path, 9)
    looks = {str(number): ("black", "white", "red")[number % 3] for number in range(9)}
    for number, look in looks.items():
        Picture.new("RGB", (64, 64), look).save(images / f"{number}.png")
    bench = open_simulation(tmp_path, tmp_path / "out", start=3)
    recipe = bench.plan.recipe.changed({"selection.first": "clusters"})
    bench = replace(bench, plan=bench.plan.model_copy(update={"recipe": recipe}))
    kinds = [looks[tile.image.name[0]] for tile in bench.material.tiles]
    assert kinds.count("black") > 1 < kinds.count("red")
    drawn = [first_tiles(bench.plan, bench.material, seed) for seed in range(5)]
    assert all({kinds[tile] for tile in tiles} == {"black", "white", "red"} for tiles in drawn)
    assert first_tiles(bench.plan, bench.material, 0) == drawn[0]
    assert len({tuple(sorted(tiles)) for tiles in drawn}) > 1


def test_a_start_without_objects_gets_one(folder, tmp_path):
    """Whatever the draw, there is something to learn."""
    bench = open_simulation(folder, tmp_path, start=1)
    objects = bench.material.foreground_N
    assert (objects == 0).any()
    for seed in range(20):
        assert objects[first_tiles(bench.plan, bench.material, seed)].any()
    assert len({tuple(first_tiles(bench.plan, bench.material, seed)) for seed in range(20)}) > 5


def test_a_folder_holds_one_question(folder, played, tmp_path):
    """More strategies, seeds and rounds are welcome; another recipe is refused by its key."""
    out = tmp_path / "out"
    open_simulation(folder, out)
    more = open_simulation(folder, out, seeds=2, rounds=3, strategies=("power",))
    assert more.plan.strategies == ("random", "power")
    assert open_bench(more.records, more.settings).plan == more.plan
    other = played.plan.model_copy(
        update={"recipe": played.plan.recipe.changed({"training.steps": 3})}
    )
    with pytest.raises(ConfigError, match=r"other recipe\.training\.steps"):
        more.records.begin(other, played.material)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("do not lose me")
    with pytest.raises(ConfigError, match="holds other files"):
        open_simulation(folder, tmp_path / "full")


def test_later_seeds_stand_for_themselves(folder, tmp_path):
    """Seeds from 1 on: the report reads those alone, and gives what one of all seeds gives."""
    both = open_simulation(folder, tmp_path / "both", seeds=2)
    play(both)
    later = open_simulation(folder, tmp_path / "later", seeds=1, first_seed=1)
    play(later)
    all_rows = numbers(both.records.folder)
    expected = {key: row for key, row in all_rows.items() if row["seed"] == 1}
    assert 0 < len(expected) < len(all_rows)
    assert numbers(later.records.folder) == expected
    write_report(later.plan, later.material, later.records)
    assert "1 seeds from 1 on" in (tmp_path / "later" / "report.md").read_text()
    rows = (tmp_path / "later" / "curves.csv").read_text().splitlines()[1:]
    assert {row.split(",")[1] for row in rows} == {"1"}


def test_changed_images_and_damaged_files_are_said(tmp_path):
    """Masks that changed meanwhile, and records that are none."""
    make_folders(tmp_path / "pictures", 3)
    bench = open_simulation(tmp_path / "pictures", tmp_path / "out", rounds=1)
    run_part(bench, Part("start", "", 0), silent)
    for ending in ("json", "npz"):
        (tmp_path / "out" / f"{start_of(0).key}.{ending}").write_bytes(b"{")
    with pytest.raises(StoreError, match=r"0-0\.json is damaged: delete it"):
        bench.records.read(start_of(0))
    with pytest.raises(StoreError, match=r"0-0\.npz is damaged: delete it"):
        bench.records.scored(start_of(0))
    Picture.new("L", (64, 64), 255).save(tmp_path / "pictures" / "masks" / "0.png")
    with pytest.raises(DataError, match="changed while the simulation ran"):
        open_bench(bench.records, bench.settings)


def test_masks_as_people_have_them(tmp_path):
    """Objects are counted by number where masks number them, else by component."""
    images, masks = make_folders(tmp_path, 4)
    label_map = np.zeros((64, 64), np.uint16)
    label_map[2:10, 2:10], label_map[2:10, 10:20] = 1, 2
    label_map[40:50, 40:50] = 3
    for path in images.iterdir():
        Picture.fromarray(label_map).save(masks / path.name)
    material = read(source_of(tmp_path), 32)
    assert material.objects_N[:4].tolist() == [2, 0, 0, 1]
    assert material.foreground_N[:4].tolist() == [8 * 18, 0, 0, 100]
    for path in images.iterdir():
        Picture.fromarray((label_map > 0).astype(np.uint8) * 255).save(masks / path.name)
    assert read(source_of(tmp_path), 32).objects_N[:4].tolist() == [1, 0, 0, 1]
    assert read(source_of(tmp_path), None).objects_N[:1].tolist() == [2]


def test_which_images_judge(folder, tmp_path):
    """Spread as a project's would be, or the end of a stack; broken images are set aside."""
    last = read(source_of(folder, test_part="last"), None)
    assert [sample.name for sample in last.test] == ["4.png", "5.png"]
    some = read(source_of(folder, most_pool=6, most_test=3), 32)
    assert (len(some.tiles), some.images, len(some.test)) == (6, 4, 3)
    assert [tile.id for tile in some.tiles] == list(range(6))
    images, masks = make_folders(tmp_path, 4)
    (images / "0.png").write_bytes(b"no picture")
    assert [name for name, _ in read(source_of(tmp_path), 32).set_aside] == ["0.png"]
    for path in masks.iterdir():
        Picture.new("L", (64, 64)).save(path)
    with pytest.raises(NothingToLearn, match=r"show an object; 1 images .* the first: 0\.png: "):
        read(source_of(tmp_path), 32)
    shutil.copy(images / "1.png", images / "0.png")
    with pytest.raises(NothingToLearn, match=r"must both show an object$"):
        read(source_of(tmp_path), 32)
    for name in ("1.png", "2.png", "3.png"):
        (masks / name).unlink()
    with pytest.raises(DataError, match="at least two are needed"):
        read(source_of(tmp_path), 32)


def test_a_plan_fits_its_pool(played):
    """Small batches and fewer rounds for small pools; what cannot be is said."""
    plan = played.plan.model_copy(update={"start": None, "rounds": 5})
    assert settle(plan, 1000, batch=None).recipe.selection.batch == 8
    small = settle(plan, 40, batch=None)
    assert (small.recipe.selection.batch, small.start, small.rounds) == (2, 2, 5)
    assert settle(plan, 40, batch=10).rounds == 2
    with pytest.raises(ConfigError, match="too few to choose 10 after a start of 10"):
        settle(plan, 20, batch=10)
    with pytest.raises(UnknownName, match="selection strategy 'best'"):
        ask(played.plan.model_dump() | {"strategies": ("random", "best")})
    with pytest.raises(ConfigError, match=r"source\.test_part"):
        ask(played.plan.model_dump() | {"source": {"test_part": "first"}})
    assert small_recipe(100).training.patch == 96
    assert small_recipe(None) == load_recipe(TESTS.parent / "configs" / "simulate.yaml")


def test_the_report_is_complete_and_repeatable(played):
    """A line for each training, a picture, a text that names every strategy."""
    written = write_report(played.plan, played.material, played.records)
    rows = (written.folder / "curves.csv").read_text().splitlines()
    assert len(rows) == 1 + len(all_units(played.plan))
    assert rows[0].startswith(
        "arm,seed,round,tiles,images,foreground_px,objects,steps,iou,iou_by_image"
    )
    text = (written.folder / "report.md").read_text()
    assert text.count("`top`") == 4
    assert (written.folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert [line.split(":")[0] for line in written.lines] == ["random", "top"]
    assert write_report(played.plan, played.material, played.records) == written
    assert (written.folder / "report.md").read_text() == text
    likeness = likeness_of(played.material)
    result = collect(played.plan, played.records, likeness)
    assert result.baseline.tiles.tolist() == [[2, 4, 6]]
    chosen = [played.records.read(Unit("top", 0, number)).chosen for number in (1, 2)]
    expected = [likeness.repeated(tiles) for tiles in chosen]
    assert result.curves["top"].repeated[0, 1:].tolist() == expected
