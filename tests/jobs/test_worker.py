"""Workers: what they do with jobs, with failures and with being killed."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from job_functions import FUNCTION, Report
from jobs_waiting import until
from rq.serializers import JSONSerializer

from ml_backend.errors import JobError
from ml_backend.jobs import recovery, worker
from ml_backend.jobs.queues import RUN_STEP, Jobs
from ml_backend.jobs.recovery import process_mark, running_here
from ml_backend.jobs.redis_server import EmbeddedRedis
from ml_backend.jobs.slots import Claim
from ml_backend.settings import Settings

pytestmark = pytest.mark.integration


def ended(jobs: Jobs, job_id: str) -> bool:
    """Whether the job, or the one in its place, has ended."""
    return jobs.fetch(job_id).state in ("finished", "failed")


def idle(jobs: Jobs) -> bool:
    """Whether a worker waits for jobs, with its signal handlers in place."""
    keys = jobs.connection.keys("rq:worker:*")
    return any(jobs.connection.hget(key, "state") == b"idle" for key in keys)


def horse_of(journal, step="train") -> int:
    """The process that began the step last."""
    begun = [line for line in journal() if line.startswith(f"begin {step}")]
    return int(begun[-1].split()[-1])


def test_a_job_runs_and_its_follower_after_it(any_settings, start_worker, journal):
    """A step's result and what follows it; one line of log for each, with its seconds."""
    jobs = Jobs(any_settings, function=FUNCTION)
    job_id = jobs.request("chain", 4)
    assert start_worker(any_settings, burst=True).wait(60) == 0
    view = jobs.fetch(job_id)
    assert (view.state, view.text, view.error) == ("finished", "chained", None)
    assert journal() == ["quick 4"]
    lines = (any_settings.home / "worker.log").read_text().splitlines()
    assert [line.partition(" of ")[2][:16] for line in lines] == ["project 4: done "] * 2
    assert jobs.counts() == {"queued": 0, "running": 0}
    assert {view.step for view in jobs.overview(4)} == {"chain", "quick"}
    assert jobs.overview(5) == []


def test_failures_are_told_in_one_line_and_the_worker_goes_on(settings, jobs, start_worker):
    """A fault of the data or the code fails its job only; passing ones are tried again later."""
    ids = [jobs.request(step, 1) for step in ("boom", "bug", "away", "quick")]
    start_worker(settings, burst=True).wait(60)
    boom, bug, away, quick = (jobs.fetch(job_id) for job_id in ids)
    assert (boom.state, boom.error) == ("failed", "ConfigError: the recipe has a fault")
    assert (bug.state, bug.error) == ("failed", "ZeroDivisionError:")
    assert (away.state, away.attempt) == ("queued", 1)
    assert away.not_before > time.time()
    assert quick.state == "finished"
    failed = {view.step: view.error for view in jobs.overview(1) if view.state == "failed"}
    assert failed["away"] == "StudioUnreachable: Label Studio does not answer"
    log = (settings.home / "worker.log").read_text()
    assert "boom of project 1: failed after" in log
    assert log.count("Traceback") == 1


def test_progress_is_seen_while_the_job_runs(settings, jobs, start_worker):
    """`fetch` and `overview` show a running job's units and text."""
    job_id = jobs.request("hold", 2)
    start_worker(settings, burst=True)
    until(lambda: jobs.fetch(job_id).total)
    (view,) = jobs.overview(2)
    assert (view.id, view.state, view.done, view.total) == (job_id, "running", 1, 4)
    assert (view.text, jobs.workers()) == ("holding", 1)
    (settings.home / "go-hold-2").touch()
    until(lambda: ended(jobs, job_id))


def test_requests_while_one_runs_cause_one_more_with_two_workers(
    settings, jobs, start_worker, journal
):
    """Two workers never train one project at once; a burst of requests is one more training."""
    jobs.request("train", 1)
    start_worker(settings)
    start_worker(settings)
    until(lambda: len(journal()) == 1)
    more = {jobs.request("train", 1) for _ in range(9)}
    time.sleep(0.6)
    assert len(journal()) == 1
    (settings.home / "go-train-1").touch()
    until(lambda: ended(jobs, more.copy().pop()))
    assert [line.split()[0] for line in journal()] == ["begin", "end", "begin", "end"]
    assert len(more) == 1


@pytest.mark.parametrize("also_the_horse", [True, False], ids=["both", "worker only"])
def test_a_killed_worker_s_job_runs_again_at_once(
    settings, jobs, start_worker, journal, also_the_horse
):
    """Kill -9 in the middle: a new worker runs the job again, and the orphan never ends it."""
    job_id = jobs.request("train", 1)
    first = start_worker(settings)
    until(journal)
    orphan = horse_of(journal)
    first.kill()
    first.wait()
    if also_the_horse:
        os.kill(orphan, signal.SIGKILL)
    start_worker(settings)
    begun = time.monotonic()
    until(lambda: len(journal()) == 2)
    assert time.monotonic() - begun < 10
    assert not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == "zombie"
    assert jobs.fetch(job_id).state == "running"
    (settings.home / "go-train-1").touch()
    until(lambda: ended(jobs, job_id))
    assert jobs.fetch(job_id).state == "finished"
    assert [line.split()[0] for line in journal()] == ["begin", "begin", "end"]
    assert jobs.counts() == {"queued": 0, "running": 0}


def test_an_orphan_ends_by_itself(settings, jobs, start_worker, journal):
    """A work horse does not outlive its killed worker, even if nobody comes to recover."""
    jobs.request("train", 1)
    process = start_worker(settings)
    until(journal)
    process.kill()
    process.wait()
    orphan = horse_of(journal)
    until(lambda: not psutil.pid_exists(orphan) or psutil.Process(orphan).status() == "zombie")


def test_a_request_made_while_the_killed_one_ran_is_not_doubled(
    settings, jobs, start_worker, journal
):
    """The waiting job stands for the killed one too: one run, not two."""
    job_id = jobs.request("train", 1)
    process = start_worker(settings)
    until(journal)
    waiting = jobs.request("train", 1)
    process.kill()
    process.wait()
    os.kill(horse_of(journal), signal.SIGKILL)
    (settings.home / "go-train-1").touch()
    start_worker(settings, burst=True).wait(60)
    assert jobs.fetch(job_id).id == waiting
    assert [line.split()[0] for line in journal()] == ["begin", "begin", "end"]


def test_a_killed_horse_is_tried_again_later(settings, jobs, start_worker, journal):
    """A job killed for want of memory fails with that reason and waits for another attempt."""
    job_id = jobs.request("train", 1)
    start_worker(settings)
    until(journal)
    os.kill(horse_of(journal), signal.SIGKILL)
    until(lambda: jobs.fetch(job_id).state == "queued")
    view = jobs.fetch(job_id)
    assert (view.attempt, view.id != job_id) == (1, True)
    log = settings.home / "worker.log"
    until(lambda: "train of project 1: failed" in log.read_text())
    assert "signal 9" in log.read_text()


def test_a_worker_told_to_stop_hands_its_job_back(settings, jobs, start_worker, journal):
    """SIGTERM: the child is stopped, the worker ends with 0, the job waits in front."""
    jobs.request("train", 2)
    process = start_worker(settings)
    until(journal)
    jobs.request("train", 3)
    process.terminate()
    assert process.wait(20) == 0
    assert not psutil.pid_exists(horse_of(journal))
    assert jobs.counts() == {"queued": 2, "running": 0}
    _, job_id = jobs.slots.take(["rq:queue:brushloop-train"], "w")
    assert job_id.startswith("train-2-")


def test_a_restart_of_redis_does_not_cost_the_work(tmp_path, start_worker, journal):
    """Redis killed and started again in the middle of a job: the job ends as if nothing was."""
    server = EmbeddedRedis(tmp_path)
    settings = Settings(home=tmp_path, redis_url=server.start())
    jobs = Jobs(settings, patient=True, function=FUNCTION)
    try:
        job_id = jobs.request("train", 1)
        worker_process = start_worker(settings)
        until(journal)
        time.sleep(1.2)  # the append-only file is synced every second
        server.process.kill()
        server.process.wait()
        (tmp_path / "go-train-1").touch()
        until(lambda: len(journal()) == 2)
        server.start()
        until(lambda: ended(jobs, job_id))
        assert jobs.fetch(job_id).state == "finished"
        assert [line.split()[0] for line in journal()] == ["begin", "end"]
        until(lambda: jobs.counts() == {"queued": 0, "running": 0})
        assert worker_process.poll() is None
    finally:
        server.stop()


def test_an_idle_worker_stops_at_once(settings, start_worker, jobs):
    """SIGTERM to a worker without a job."""
    process = start_worker(settings)
    until(lambda: idle(jobs))
    process.terminate()
    assert process.wait(10) == 0


def test_a_job_that_had_ended_is_not_run_again(settings, jobs, start_worker, journal):
    """Killed between the job's end and the giving up of its claim: only the claim goes."""
    job_id = jobs.request("quick", 1)
    start_worker(settings, burst=True).wait(60)
    dead = Claim(job_id, f"{recovery.this_host()}:{2**22 + 1}:1:dead")
    jobs.connection.hset("brushloop:running", "quick-1", dead.value)
    assert recovery.recover(jobs, "me") == []
    assert jobs.counts() == {"queued": 0, "running": 0}
    assert journal() == ["quick 1"]


def test_workers_elsewhere_are_judged_by_their_heartbeat(jobs):
    """A worker of another host counts as dead when RQ's record of it is gone or says so."""
    job_id = jobs.request("train", 1)
    far = "far-away-1f:12:1000:ab"
    jobs.slots.take(["rq:queue:brushloop-train"], far)
    jobs.connection.hset(f"rq:worker:{far}", "hostname", "far-away")
    assert recovery.recover(jobs, "me") == []
    jobs.connection.delete(f"rq:worker:{far}")
    (new,) = recovery.recover(jobs, "me")
    assert jobs.fetch(job_id).id == new


def test_a_reused_process_number_is_another_process():
    """A mark holds the start too, so a later process with the same number is not taken for it."""
    mark = process_mark(os.getpid())
    host, pid, start = mark.split(":")
    assert running_here(mark) is True
    assert running_here(f"{host}:{pid}:{int(start) - 100}") is False
    assert running_here(f"elsewhere:{pid}:{start}") is None


def test_unknown_queues_and_no_redis_are_refused(settings, tmp_path):
    """A worker that cannot work says so at once."""
    with pytest.raises(JobError, match="brushloop-train"):
        worker.run_worker(settings, queues=["bushloop"], preload=())
    with pytest.raises(JobError, match="does not answer"):
        worker.run_worker(Settings(home=tmp_path), preload=())


def test_what_is_done_before_the_fork_starts_no_threads(tmp_path):
    """Forking is safe only from a process with a single thread and without a CUDA context.

    The codec is compiled by then, into the home folder, so that no job waits for it. OpenBLAS is
    left out: it ends its threads before a fork and makes new ones afterwards.
    """
    if not Path("/proc/self/task").exists():
        pytest.skip("threads are counted in /proc, which this system does not have")
    code = (
        "import os, sys\n"
        "from pathlib import Path\n"
        "from ml_backend.jobs.worker import get_ready\n"
        "from ml_backend.settings import Settings\n"
        "get_ready(Settings(home=Path(sys.argv[1])))\n"
        "import torch\n"
        "from ml_backend.masks import rle\n"
        "print(len(os.listdir('/proc/self/task')), torch.cuda.is_initialized(),"
        " rle._compiled.cache_info().currsize)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
    )
    assert done.stdout.split() == ["1", "False", "1"]
    assert list((tmp_path / "cache/numba").rglob("*.nbi"))


def test_production_jobs_run_the_loop_s_steps(settings, tmp_path, monkeypatch):
    """The job function builds the context from the environment and finds the step by name."""
    from ml_backend.loop import steps

    seen = []

    def probe(context, project_id, progress):
        progress(1, 1, "probed")
        seen.append((context.settings.home, project_id))
        return Report("probed")

    monkeypatch.setenv("BRUSHLOOP_HOME", str(tmp_path))
    monkeypatch.setenv("BRUSHLOOP_REDIS_URL", settings.redis_url)
    monkeypatch.setitem(steps.STEPS._members, "probe", probe)
    jobs = Jobs(settings)
    job_ids = [jobs.request("probe", 9), jobs.request("nonsense", 9)]
    worker_ = worker._make_worker(settings, jobs.connection, worker.QUEUES, RUN_STEP)
    while taken := worker.StepQueue.dequeue_any(
        worker_.queues, None, jobs.connection, serializer=JSONSerializer
    ):
        worker_.perform_job(*taken, worker_.prepare_execution(taken[0]))
        jobs.slots.release(Claim(taken[0].id, worker_.name))
    assert seen == [(tmp_path, 9)]
    views = [jobs.fetch(job_id) for job_id in job_ids]
    assert (views[0].state, views[0].text, views[0].done) == ("finished", "probed", 1)
    assert views[1].error.startswith("UnknownName: unknown step 'nonsense'; choose one of:")
