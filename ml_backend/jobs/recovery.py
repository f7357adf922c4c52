"""Jobs whose worker is gone run again at once.

On the worker's own host its process is looked up; elsewhere the end of its heartbeat in
Redis tells (about two minutes).
"""

import os
import signal
import socket
import uuid
from contextlib import suppress
from pathlib import Path

import psutil
from rq import Worker
from rq.exceptions import NoSuchJobError
from rq.job import Job, JobStatus
from rq.serializers import JSONSerializer

from ml_backend.jobs.connection import reported
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.slots import Claim


def this_host() -> str:
    """This machine: its name and its network card, as two machines may share a name."""
    node = uuid.getnode()
    made_up = node >> 40 & 1  # RFC 9562: without a card it is random, another in each process
    return f"{socket.gethostname()}-{0 if made_up else node:x}"


def process_mark(pid: int) -> str:
    """`host:pid:start`, which tells a process from a later one with the same number."""
    return f"{this_host()}:{pid}:{_start(pid)}"


def running_here(mark: str) -> bool | None:
    """Whether the process of `mark` runs; None if it belongs to another host."""
    host, pid, start = mark.split(":")[:3]
    if host != this_host():
        return None
    try:
        status = psutil.Process(int(pid)).status()
        return _start(int(pid)) == int(start) and status != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _start(pid: int) -> int:
    """When a process started, as a number that no setting of the clock changes.

    Linux: ticks since boot, field 22 of proc_pid_stat(5); psutil's time moves with the clock.
    """
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
        return int(fields.rpartition(")")[2].split()[19])
    except OSError:
        return int(psutil.Process(pid).create_time())


def recover(jobs: Jobs, own_name: str) -> list[str]:
    """Queue the jobs of dead workers again, in front; return the ids of the new jobs.

    Called by an idle worker: whatever is still claimed under `own_name` is stale too.
    """
    with reported(jobs.settings):
        claims = jobs.slots.running()
        return [
            job_id
            for pair, claim in claims.items()
            if (claim.worker == own_name or not _alive(jobs, claim.worker))
            and (job_id := _replace(jobs, pair, claim)) is not None
        ]


def _alive(jobs: Jobs, worker: str) -> bool:
    here = running_here(worker)
    if here is not None:
        return here
    key = Worker.redis_worker_namespace_prefix + worker
    return bool(jobs.connection.exists(key)) and not jobs.connection.hexists(key, "death")


def _replace(jobs: Jobs, pair: str, claim: Claim) -> str | None:
    _kill_orphan(jobs.slots.horse(claim.job_id))
    try:
        job = Job.fetch(claim.job_id, connection=jobs.connection, serializer=JSONSerializer)
    except NoSuchJobError:
        return jobs.replace(pair, claim, {})
    if job.get_status(refresh=False) == JobStatus.FINISHED:
        jobs.slots.release(claim)
        return None
    attempt = job.meta.get("attempt", 0)
    new_id = jobs.replace(pair, claim, {"attempt": attempt})
    if new_id is not None:
        job.delete()  # else RQ would report it as failed when its heartbeat ends
    return new_id


def _kill_orphan(mark: str | None) -> None:
    """The work horse may have survived its worker: two must not do the same job."""
    if mark is None or not running_here(mark):
        return
    with suppress(ProcessLookupError):
        os.killpg(int(mark.split(":")[1]), signal.SIGKILL)
