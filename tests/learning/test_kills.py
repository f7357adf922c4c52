"""Real processes, killed at any moment: what they come to in the end is what one would have."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

KILLS = 10

# One process imports everything and forks those that train, as the worker does: ten imports of
# torch would take longer than all the trainings. It says JSON on its last line.
_SCRIPT = """
import json, os, signal, sys, time
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import ml_backend.learning
import torch; torch.set_num_threads(1)
import numpy as np
from conftest import draw_discs
from test_training import _digest
from ml_backend.learning.data import Sample
from ml_backend.learning.training import train
from ml_backend.recipe import parse_recipe

recipe, folder, kills, seed = json.loads(sys.argv[2])
samples = [Sample(f"discs-{s}", lambda s=s: draw_discs(s, side=32)) for s in range(3)]

def learn(checkpoint, mouth=None):
    tell = (lambda record: os.write(mouth, b".")) if mouth else (lambda record: None)
    return train(samples[:2], samples[2:], recipe=parse_recipe(recipe), classes=1,
                 checkpoint=checkpoint, on_epoch=tell)

def started(job):
    ear, mouth = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            job(mouth)
        finally:
            os._exit(0)
    os.close(mouth)
    return pid, ear

def result(checkpoint):
    pid, ear = started(lambda mouth: os.write(mouth, json.dumps(
        [_digest((t := learn(checkpoint)).state), [r.train_loss for r in t.epochs]]).encode()))
    text = b""
    while piece := os.read(ear, 65536):
        text += piece
    os.waitpid(pid, 0)
    return json.loads(text)

began = time.monotonic()
undisturbed = result(Path(folder) / "undisturbed.safetensors")
an_epoch = (time.monotonic() - began) / recipe["training"]["epochs"]
rng, path, ends = np.random.default_rng(seed), Path(folder) / "killed.safetensors", []
for _ in range(kills):
    pid, ear = started(lambda mouth: learn(path, mouth))
    for _ in range(rng.integers(0, 3)):
        os.read(ear, 1)
    time.sleep(rng.uniform(0, 1) * an_epoch)
    os.kill(pid, signal.SIGKILL)
    ends.append(os.waitpid(pid, 0)[1])
    os.close(ear)
print(json.dumps([undisturbed, result(path), ends]))
"""


@pytest.mark.skipif(sys.platform == "darwin", reason="system libraries do not survive a fork")
def test_ten_kills_change_nothing(recipe, tmp_path):
    """SIGKILL at ten random moments (seed 4): the same weights to the last bit, the same curve."""
    tiny = recipe(steps=30, epochs=30, batch_size=1, augmentation="affine").model_dump(mode="json")
    task = json.dumps([tiny, str(tmp_path), KILLS, 4])
    answer = subprocess.run(
        [sys.executable, "-c", _SCRIPT, str(Path(__file__).parent), task],
        capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert answer.returncode == 0, answer.stderr
    undisturbed, survivor, ends = json.loads(answer.stdout.splitlines()[-1])
    assert ends == [9] * KILLS
    assert survivor == undisturbed
    assert len(survivor[1]) == 30
