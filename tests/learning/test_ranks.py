"""Training over several real processes: the same result, and none of them left behind."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from ml_backend.errors import ConfigError, LearningError
from ml_backend.learning import ranks
from ml_backend.learning.handover import pack, unpack
from ml_backend.learning.job import Job
from ml_backend.learning.ranks import how_many
from ml_backend.learning.references import Reference, References
from ml_backend.learning.training import train

# Read by every process at its start: normalises each patch by itself, so that a network does not
# depend on which patches it sees at a time, and fails to allocate for more than one of them.
_EDGE = """
import ml_backend.learning
import torch

class Norm(torch.nn.GroupNorm):
    def __init__(self, channels, **options):
        super().__init__(1, channels)

    def forward(self, x):
        if self.training and len(x) > LIMIT:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return super().forward(x)

torch.nn.BatchNorm2d = Norm
"""


class _KilledError(Exception):
    """Stands in for a kill."""


@pytest.fixture
def edge(monkeypatch, tmp_path):
    """Install the edge in this process and in those that it starts: function of the limit."""

    def install(limit):
        folder = tmp_path / "edge"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(f"LIMIT = {limit}\n{_EDGE}")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), *filter(None, sys.path)]))
        here = {"LIMIT": 99}
        monkeypatch.setattr(torch.nn, "BatchNorm2d", torch.nn.BatchNorm2d)  # undone afterwards
        exec(_EDGE, here)

    return install


def _children():
    return [
        process for process in psutil.Process().children(recursive=True)
        if "ml_backend.learning.rank" in " ".join(process.cmdline())
    ]  # fmt: skip


def test_two_processes_come_to_what_one_does(recipe, discs, tmp_path, edge):
    """Halved for want of memory, killed and taken up again: to what bfloat16 rounds.

    Epochs are heard as they end, and no process outlives the training.
    """
    edge(1)
    path = tmp_path / "runs" / "state.safetensors"
    chosen = recipe(batch_size=4, steps=4, epochs=2, augmentation="specialized")
    pool = [Reference(f"pool-{i}", lambda i=i: discs(1, first=60 + i)[0].load()[0])
            for i in range(3)]  # fmt: skip

    def go(processes, **options):
        return train(
            discs(3), discs(2, first=50), recipe=chosen, classes=1, pool=pool,
            processes=processes, **options,
        )  # fmt: skip

    def kill(record):
        heard.append(record)
        raise _KilledError

    heard = []
    with pytest.raises(_KilledError):
        go(2, checkpoint=path, on_epoch=kill)
    assert _children() == []
    two = go(2, checkpoint=path, on_epoch=heard.append)
    assert [record.epoch for record in heard] == [1, 2]
    assert heard == two.epochs
    assert [(row.processes, row.at_once) for row in two.epochs] == [(2, 1)] * 2
    assert _children() == []
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    one = go(1)
    assert one.best_epoch == two.best_epoch
    for row, other in zip(one.epochs, two.epochs, strict=True):
        assert row.train_loss == pytest.approx(other.train_loss, rel=0.01)
        assert row.val_loss == pytest.approx(other.val_loss, rel=0.01)
    # Adam's steps are as long as the rate whatever the gradient, so tiny ones may differ
    far = torch.cat([(one.state[n] - two.state[n]).abs().flatten().float() for n in one.state])
    assert far.median() < 1e-4
    assert far.max() < 4 * 1e-3


def test_what_is_handed_over_is_what_is_taken(recipe, discs, tmp_path):
    """Samples, names, weights, first weights and looks, by a file and JSON alone."""
    chosen = recipe(augmentation="specialized")
    pool = [Reference(f"pool-{i}", lambda i=i: discs(1, first=60 + i)[0].load()[0])
            for i in range(3)]  # fmt: skip
    state = {"a": torch.arange(6.0).reshape(2, 3), "counter": torch.tensor(7)}
    job = Job(discs(2), discs(1, first=9), chosen, 1, ("cell",), pool, state)
    with (tmp_path / "file").open("w+b") as file:
        taken = unpack(pack(job, file), file.fileno())
    assert (taken.recipe, taken.classes, taken.labels) == (job.recipe, 1, ("cell",))
    for ours, theirs in ((job.train, taken.train), (job.val, taken.val)):
        assert [(s.name, s.weight) for s in ours] == [(s.name, s.weight) for s in theirs]
        for one, other in zip(ours, theirs, strict=True):
            for array, same in zip(one.load(), other.load(), strict=True):
                np.testing.assert_array_equal(array, same)
    assert [one.name for one in taken.pool] == [one.name for one in pool]
    looks = [References(p, 48, chosen.training.seed, s) for p, s in
             ((pool, None), (taken.pool, taken.small))]  # fmt: skip
    drawn = [look.draw(np.random.default_rng(1), (90.0, 40.0)) for look in looks]
    np.testing.assert_array_equal(*drawn)
    assert taken.initial.keys() == state.keys()
    for name, value in state.items():
        assert torch.equal(taken.initial[name], value)
        assert taken.initial[name].dtype == value.dtype


_PARENT = """
import sys; sys.path.insert(0, sys.argv[1])
import ml_backend.learning
import torch; torch.set_num_threads(1)
from pathlib import Path
from conftest import draw_discs
from ml_backend.learning.data import Sample
from ml_backend.learning.training import train
from ml_backend.recipe import parse_recipe
samples = [Sample(f"discs-{s}", lambda s=s: draw_discs(s)) for s in range(2)]
train(samples, [], recipe=parse_recipe(eval(sys.argv[2])), classes=1, processes=2,
      checkpoint=Path(sys.argv[3]), on_epoch=lambda record: print(record.epoch, flush=True))
"""


def test_a_killed_parent_leaves_no_process_behind(recipe, tmp_path):
    """Kill -9 of whoever started the training: the others notice, end, and leave no file."""
    endless = repr(recipe(steps=10**5, epochs=10**5).model_dump())
    path = tmp_path / "runs" / "state.safetensors"
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT, str(Path(__file__).parent), endless, str(path)],
        stdout=subprocess.PIPE,
    )
    try:
        assert parent.stdout.readline() == b"1\n"
        members = psutil.Process(parent.pid).children(recursive=True)
        assert len(members) == 2
    finally:
        parent.kill()
        parent.communicate()
    _, alive = psutil.wait_procs(members, timeout=30)
    assert alive == []
    assert {file.name for file in path.parent.iterdir()} <= {path.name, f"{path.name}.partial"}


def _members(*codes):
    """Processes that are heard as ranks are, made of Python code over `mouth`."""
    members = []
    for rank, code in enumerate(codes):
        ear, mouth = os.pipe()
        text = f"import os, sys, json, time; mouth = {mouth}\n{code}"
        process = subprocess.Popen(
            [sys.executable, "-c", text], stdin=subprocess.PIPE, pass_fds=(mouth,)
        )
        os.close(mouth)
        members.append(ranks._Member(rank, process, ear))
    return members


@pytest.mark.parametrize(
    ("codes", "error", "words"),
    [
        (['os.write(mouth, b\'{"error": "ConfigError", "text": "no such loss"}\\n\')'],
         ConfigError, "no such loss"),
        (["os.kill(os.getpid(), 9)", "time.sleep(60)"], LearningError, "1 of 2.*SIGKILL"),
        # who waits for a dead one fails in its turn, and may be heard first
        (["time.sleep(60)",
          'os.write(mouth, b\'{"error": "RuntimeError", "text": "peer"}\\n\'); time.sleep(60)',
          "os.kill(os.getpid(), 9)"], LearningError, "3 of 3.*SIGKILL"),
        (['os.write(mouth, b\'{"error": "ZeroDivisionError", "text": "bug"}\\n\'); time.sleep(60)'],
         RuntimeError, "process 1 of 1 .*ZeroDivisionError: bug"),
    ],
)  # fmt: skip
def test_how_a_process_ends_is_told(codes, error, words):
    """Errors raised on purpose keep their kind; a killed process is named, whoever complains."""
    members = _members(*codes)
    try:
        with pytest.raises(error, match=words):
            ranks._heard(members, lambda _record: None)
    finally:
        for member in members:
            member.process.kill()
            member.process.communicate()
            os.close(member.ear)


@pytest.mark.parametrize(
    ("asked", "batch", "found"),
    [(None, 8, 1), (1, 8, 1), (2, 8, 2), (3, 8, 2), (4, 6, 3), (5, 7, 1)],
)
def test_shares_are_equal(asked, batch, found):
    """On a processor only when asked, and never more than divide the batch."""
    assert how_many("cpu", asked, batch) == found


def test_there_are_as_many_processes_as_devices(monkeypatch):
    """One a CUDA device where none is named; asking for more than there are is refused."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert how_many("auto", None, 8) == how_many("cuda", None, 8) == 4
    assert how_many("cuda:1", None, 8) == how_many("auto", 1, 8) == 1
    assert how_many("auto", None, 6) == 3
    with pytest.raises(ConfigError, match=r"BRUSHLOOP_PROCESSES is 8.*4 device"):
        how_many("cuda", 8, 8)
