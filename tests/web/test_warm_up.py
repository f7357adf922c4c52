"""No request waits for a compiler: the backend has its machine code before it listens."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from support.house import open_house

from ml_backend.store.rows import Task

TASK = 90_001
FIRST_PREDICT = """
import json, sys
from pathlib import Path
from fastapi.testclient import TestClient
from numba.core import event
from pydantic import SecretStr
from ml_backend.settings import Settings
from ml_backend.web.app import create_app

home, project = Path(sys.argv[1]), int(sys.argv[2])
secrets = {"password": SecretStr("secret"), "webhook_secret": SecretStr("hidden")}
settings = Settings(home=home, threads=1, device="cpu", precision="float32", **secrets)

class Jobs:
    def counts(self):
        return {}
    def workers(self):
        return 0

app = create_app(settings, jobs=Jobs())
codec = sys.modules["ml_backend.masks._compiled"]
functions = (codec.walk_blocks, codec.write_stream)
before = [list(function.signatures) for function in functions]
with TestClient(app) as client, event.install_recorder("numba:compile") as compiled:
    body = {"project": project, "tasks": [{"id": int(sys.argv[3]), "data": {}}]}
    answer = client.post("/predict", json=body, auth=("brushloop", "secret"))
after = [list(function.signatures) for function in functions]
regions = answer.json()["results"][0]["result"]
streams = [region["value"]["rle"] for region in regions]
print(json.dumps([len(compiled.buffer), len(before[0]), before == after, len(streams)]))
"""


@pytest.fixture
def house(tmp_path):
    """Give a house with a model and a task that it has not predicted."""
    house = open_house(tmp_path)
    house.recipe({"training.steps": 40})
    house.fill(12)
    house.labelled_round()
    house.step("train")
    tile = house.catalog.pool.unasked(house.project_id)[0]
    house.catalog.work.save_tasks(house.project_id, [Task(TASK, tile.id, "")])
    yield house
    house.catalog.close()


def test_the_first_prediction_compiles_nothing(house):
    """A fresh process answers its first /predict with regions and compiles nothing meanwhile."""
    words = [house.context.settings.home, house.project_id, TASK]
    done = subprocess.run(
        [sys.executable, "-c", FIRST_PREDICT, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    compiled, signatures, same, streams = json.loads(done.stdout.splitlines()[-1])
    assert (compiled, signatures, same) == (0, 1, True)
    assert streams >= 1
    assert list((Path(house.context.settings.home) / "cache/numba").rglob("*.nbi"))
