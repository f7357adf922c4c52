"""`brushloop pretrain`: on a project's pool and on a folder."""

from pathlib import Path

import yaml
from support.commands import complaint, run
from support.house import TINY, save_picture

QUICK = {"steps": 2, "epochs": 2, "batch_size": 2, "patch": 32, "hidden": 8, "projection": 4}


def test_pretrain_on_a_pool_then_on_a_folder(house, tmp_path):
    """Both say what came of it; a second call does nothing; the folder's file can be named."""
    house.fill(4)
    house.recipe({f"pretraining.{key}": value for key, value in QUICK.items()})
    version = f"p{house.project_id}-byol1"
    assert f"{version}: pretrained on 2 images, loss " in run("pretrain", "--here")
    assert f"nothing new since {version}" in run("pretrain", "--here")
    for number in range(2):
        save_picture(tmp_path / "scans" / f"{number}.png", number)
    Path("tiny.yaml").write_text(yaml.safe_dump(TINY | {"pretraining": QUICK}))
    output = run("pretrain", "scans", "--recipe", "tiny.yaml", "--out", "mine")
    assert "mine/weights.safetensors: pretrained on 2 images" in output
    assert Path("mine/weights.safetensors").exists()
    assert "leave out --recipe" in complaint("pretrain", "--recipe", "tiny.yaml")
    assert "is not a folder" in complaint("pretrain", "nowhere")
