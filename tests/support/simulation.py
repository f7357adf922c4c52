"""Folders and plans for simulations of seconds."""

from PIL import Image as Picture

from ml_backend.loop.simulate.material import read_material
from ml_backend.loop.simulate.plan import Plan, Source, settle
from ml_backend.loop.simulate.records import Records
from ml_backend.loop.simulate.run import Bench
from ml_backend.recipe import parse_recipe
from ml_backend.settings import Settings

from .house import TINY, save_picture

QUICK = TINY | {
    "network": {"encoder": "tu-test_resnet", "depth": 3, "decoder_width": 4},
    "training": TINY["training"] | {"steps": 2, "epochs": 1, "learning_rate": 0.01},
    "scoring": {"passes": "single"},
    "selection": {"batch": 2, "first": "random"},
    "pool": {"tile": 32},
}


def make_folders(folder, count=6, side=64):
    """Pictures of `side` px and their masks, 0 and 255: four tiles each with the usual side."""
    masks = folder / "masks"
    masks.mkdir(parents=True)
    for number in range(count):
        mask = save_picture(folder / "images" / f"{number}.png", number, side)
        Picture.fromarray(mask * 255).save(masks / f"{number}.png")
    return folder / "images", masks


def source_of(folder, **changes):
    """The source of such a folder, divided in two."""
    folders = {"images": folder / "images", "masks": folder / "masks"}
    return Source(**folders, test_share=0.34, **changes)


def open_simulation(folder, out, **changes):
    """A bench over the folder: its plan is settled and kept."""
    options = {"strategies": ("random", "top"), "seeds": 1, "rounds": 2, "longer": 1}
    plan = Plan(
        **{"source": source_of(folder), "recipe": parse_recipe(QUICK), **options, **changes}
    )
    material = read_material(plan.source, plan.recipe)
    plan = settle(plan, len(material.tiles), batch=2)
    records = Records(out)
    records.begin(plan, material)
    return Bench(plan, material, records, Settings(home=out, device="cpu", threads=1))
