"""Simulations by recipes that set labels aside, let them overlap, or ask what there is not."""

import hashlib

import numpy as np
import pytest
from PIL import Image as Picture
from support.house import picture, save_picture
from support.simulation import QUICK, source_of

from ml_backend.errors import ConfigError, WeightsUnavailable
from ml_backend.host.simulate import simulate
from ml_backend.learning.networks import build_network
from ml_backend.learning.state import to_arrays
from ml_backend.loop.context import silent
from ml_backend.loop.simulate.fit import check, fetch_encoder
from ml_backend.loop.simulate.material import read_material
from ml_backend.loop.simulate.plan import Part, Plan, Unit, settle, start_of
from ml_backend.loop.simulate.records import Records
from ml_backend.loop.simulate.run import Bench, run_part
from ml_backend.recipe import parse_recipe
from ml_backend.settings import Settings

SIDE = 64
PARTS = {"cell": np.s_[:, :], "nucleus": np.s_[: SIDE // 2, :], "dirt": np.s_[:, : SIDE // 4]}
"""Where each label lies of a picture's square; they lie over one another."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four pictures with a folder of masks for each label."""
    folder = tmp_path_factory.mktemp("pictures")
    for number in range(4):
        save_picture(folder / "images" / f"{number}.png", number, SIDE)
        for name in PARTS:
            path = folder / "masks" / name / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Picture.fromarray(plane_of(name, number) * np.uint8(255)).save(path)
    return folder


def plane_of(name, number):
    """The pixels of a label."""
    inside = np.zeros((SIDE, SIDE), bool)
    inside[PARTS[name]] = True
    return inside & (picture(number, SIDE)[1] > 0)


def plan_of(folder, recipe=None, labels=tuple(PARTS), **options):
    """A plan over the folder by a recipe of seconds and what it changes."""
    parsed = parse_recipe(QUICK | (recipe or {}))
    options = {"strategies": ("random", "top"), "seeds": 1, "rounds": 1, "longer": 1} | options
    return Plan(source=source_of(folder, labels=labels), recipe=parsed, **options)


def test_labels_that_overlap_are_simulated_as_a_project_learns_them(folder, tmp_path):
    """Set maps go in, each label has an IoU and scores of its own, objects are counted by label."""
    plan = plan_of(folder, {"labels": {"ignore": ["dirt"]}})
    material = read_material(plan.source, plan.recipe)
    assert material.overlapping
    assert material.labels == ("cell", "nucleus")
    masks = np.stack([sample.load()[1] for sample in material.samples])
    assert {0, 2, 4 | 2, 255} >= set(np.unique(masks).tolist()) > {0, 255}
    assert (4 | 2) in masks
    assert material.objects_N.max() == 2  # a cell and the nucleus in it
    plan = settle(plan, len(material.tiles), batch=2)
    records = Records(tmp_path / "out")
    records.begin(plan, material)
    bench = Bench(plan, material, records, Settings(home=tmp_path, device="cpu", threads=1))
    for part in ("start", "curve"):
        run_part(bench, Part(part, "top" * (part == "curve"), 0), silent)
    record = records.read(Unit("top", 0, 1))
    assert len(record.iou_by_label) == 2
    assert {"class:1", "class:2"} <= set(records.scored(start_of(0)).names)
    assert "class:3" not in records.scored(start_of(0)).names


def test_ignored_pixels_neither_count_nor_judge(folder):
    """Whatever is dirt is unknown on both sides, and no labelled pixel of the pool."""
    plan = plan_of(folder, {"labels": {"ignore": ["dirt"], "overlap": "exclusive"}})
    material = read_material(plan.source, plan.recipe)
    assert not material.overlapping
    labelled = 0
    for sample in (*material.samples, *material.test):
        mask = sample.load()[1]
        labelled += int(np.count_nonzero((mask > 0) & (mask < 255)))
        assert set(np.unique(mask).tolist()) <= {0, 1, 2, 255}
    learned = sum(
        int((plane_of("cell", number) & ~plane_of("dirt", number)).sum()) for number in range(4)
    )
    assert labelled == learned > material.foreground_N.sum()


def test_a_background_label_is_background_and_the_rest_unknown(folder):
    """As where people annotate in part: nothing is learned of what they did not paint."""
    rule = {"background": ["dirt"], "unpainted": "unknown", "overlap": "exclusive"}
    plan = plan_of(folder, {"labels": rule, "pool": {"tile": None}})
    material = read_material(plan.source, plan.recipe)
    for sample in (*material.samples, *material.test):
        number = int(sample.name.split(".")[0])
        mask = sample.load()[1]
        np.testing.assert_array_equal(mask == 0, plane_of("dirt", number))
        np.testing.assert_array_equal(mask == 255, ~plane_of("cell", number))


@pytest.mark.parametrize(
    ("recipe", "told"),
    [
        ({"labels": {"ignore": ["dust"]}}, r"labels\.ignore names 'dust'.*--label"),
        ({"labels": {"unpainted": "unknown"}}, r"labels\.unpainted: unknown"),
        ({"network": {"encoder_weights": "byol"}}, r"network\.encoder_weights byol .*a file"),
        ({"network": {"encoder_weights": "p7-v3"}}, r"network\.encoder_weights p7-v3 "),
        ({"scoring": {"weights": {"dust": 2}}}, r"scoring\.weights names 'dust'"),
        ({"training": {"class_weights": {"dust": 2}}}, r"training\.class_weights names 'dust'"),
    ],
)
def test_what_cannot_be_simulated_is_refused_before_anything_is_read(
    folder, tmp_path, recipe, told
):
    """The key, the reason and a way out, and no folder of results is begun."""
    plan = plan_of(folder, recipe)
    with pytest.raises(ConfigError, match=told):
        check(plan)
    with pytest.raises(ConfigError, match=told):
        simulate(plan, tmp_path / "out", Settings(home=tmp_path), progress=silent, say=pytest.fail)
    assert not (tmp_path / "out" / "simulation.json").exists()


def test_encoder_weights_are_those_of_the_file_or_nothing_is_trained(folder, tmp_path):
    """A file that cannot be had is said at once; another one of its name is another question."""
    from safetensors.numpy import save_file

    path = tmp_path / "encoder.safetensors"
    plan = plan_of(folder, {"network": QUICK["network"] | {"encoder_weights": str(path)}})
    with pytest.raises(WeightsUnavailable, match=r"encoder\.safetensors cannot be read"):
        fetch_encoder(plan.recipe.network)
    bare = parse_recipe(QUICK).network
    material = read_material(plan.source, plan.recipe)
    plan, records = settle(plan, len(material.tiles), batch=2), Records(tmp_path / "out")
    for seed in (1, 2):
        save_file(to_arrays(build_network(bare, 1, seed=seed).encoder.state_dict()), path)
        digest = fetch_encoder(plan.recipe.network)
        assert digest == hashlib.sha256(path.read_bytes()).hexdigest()
        if seed == 1:
            records.begin(plan, material, digest)
            records.begin(plan, material, digest)
    with pytest.raises(ConfigError, match="other encoder"):
        records.begin(plan, material, digest)
    assert fetch_encoder(bare) is None
