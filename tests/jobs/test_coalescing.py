"""At most one queued and one running job a pair, whatever the interleaving."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from job_functions import FUNCTION

from ml_backend.errors import JobError
from ml_backend.jobs.queues import Jobs
from ml_backend.jobs.slots import Claim, new_id, pair_of, split_pair
from ml_backend.settings import Settings

pytestmark = pytest.mark.integration

KEYS = ["rq:queue:brushloop", "rq:queue:brushloop-train"]


def take(jobs: Jobs, worker: str = "w") -> str | None:
    """The id of the job that a worker would get now."""
    taken = jobs.slots.take(KEYS, worker)
    return taken and taken[1]


def test_requests_coalesce_and_the_running_one_gets_exactly_one_more(any_settings):
    """A waiting job absorbs requests; a running one is followed by one, only after its end."""
    jobs = Jobs(any_settings)
    first = jobs.request("train", 7)
    assert jobs.request("train", 7) == first
    assert take(jobs) == first
    more = {jobs.request("train", 7) for _ in range(5)}
    assert len(more) == 1
    assert first not in more
    assert take(jobs) is None
    assert jobs.counts() == {"queued": 1, "running": 1}
    jobs.slots.release(Claim(first, "w"))
    assert take(jobs) == more.pop()
    assert jobs.counts() == {"queued": 0, "running": 1}


def test_pairs_do_not_disturb_each_other_and_trainings_wait(jobs):
    """Other steps and projects are pairs of their own; the training queue comes last."""
    train = jobs.request("train", 1)
    others = [jobs.request("sync", 1), jobs.request("sync", 2), jobs.request("select", 1)]
    assert [take(jobs) for _ in range(4)] == [*others, train]
    assert take(jobs) is None


def test_many_threads_leave_one_job_a_pair(any_settings):
    """Simultaneous requests from many clients end in a single waiting job."""
    clients = [Jobs(any_settings) for _ in range(8)]
    barrier = threading.Barrier(8)

    def storm(jobs: Jobs) -> list[str]:
        barrier.wait()
        return [jobs.request("train", 3) for _ in range(20)]

    with ThreadPoolExecutor(8) as pool:
        ids = {job_id for batch in pool.map(storm, clients) for job_id in batch}
    assert len(ids) == 1
    assert clients[0].counts() == {"queued": 1, "running": 0}


def test_workers_and_clients_race(settings):
    """With 3 takers and 3 requesters no pair ever runs twice at once and no request is lost."""
    active: Counter[str] = Counter()
    overlaps: list[str] = []
    guard, stop = threading.Lock(), threading.Event()
    runs: Counter[str] = Counter()

    def worker(name: str) -> None:
        jobs = Jobs(settings)
        while (job_id := take(jobs, name)) or not stop.is_set():
            if not job_id:
                continue
            with guard:
                active[pair_of(job_id)] += 1
                runs[pair_of(job_id)] += 1
                if active[pair_of(job_id)] > 1:
                    overlaps.append(job_id)
            with guard:
                active[pair_of(job_id)] -= 1
            assert jobs.slots.release(Claim(job_id, name))

    def client() -> None:
        jobs = Jobs(settings)
        for number in range(60):
            jobs.request("train", number % 3)

    workers = [threading.Thread(target=worker, args=[f"w{n}"]) for n in range(3)]
    clients = [threading.Thread(target=client) for _ in range(3)]
    for thread in workers + clients:
        thread.start()
    for thread in clients:
        thread.join()
    stop.set()
    for thread in workers:
        thread.join()
    assert not overlaps
    assert set(runs) == {"train-0", "train-1", "train-2"}
    assert Jobs(settings).counts() == {"queued": 0, "running": 0}


def test_a_client_killed_anywhere_leaves_nothing_that_blocks(jobs):
    """A reservation without its job, or a job without its place in the queue, is made anew."""
    jobs.connection.hset("brushloop:queued", "train-5", "train-5-0123456789ab")
    first = jobs.request("train", 5)
    assert first != "train-5-0123456789ab"
    jobs.connection.delete(KEYS[1])
    second = jobs.request("train", 5)
    assert second != first
    assert take(jobs) == second


def test_an_id_without_a_job_is_passed_over(jobs):
    """Entries of a queue whose job has been deleted do not stop the queue."""
    gone = jobs.request("sync", 1)
    jobs.connection.delete(f"rq:job:{gone}")
    assert jobs.request("sync", 2) == take(jobs)
    assert take(jobs) is None


def test_foreign_entries_stay(jobs):
    """Jobs that others put into our queues by RQ itself are left alone."""
    jobs.connection.rpush(KEYS[0], "foreign")
    assert take(jobs) is None
    assert jobs.connection.lrange(KEYS[0], 0, -1) == [b"foreign"]


def test_a_back_off_is_kept_and_ended_by_a_request(jobs):
    """A job for later is not taken; a fresh request, a sign of life, makes it due."""
    jobs.request("sync", 1)
    failed = jobs._job(take(jobs))
    later = jobs.try_again(failed)
    jobs.slots.release(Claim(failed.id, "w"))
    assert take(jobs) is None
    view = jobs.fetch(failed.id)
    assert (view.id, view.state, view.attempt) == (later, "queued", 1)
    assert view.not_before is not None
    assert jobs.request("sync", 1) == later
    assert take(jobs) == later


def test_attempts_end(jobs):
    """After the last attempt nothing is queued."""
    jobs.request("sync", 1)
    job = jobs._job(take(jobs))
    job.meta["attempt"] = 5
    assert jobs.try_again(job) is None
    job.meta["attempt"] = 2
    assert jobs.try_again(job, attempts=2) is None


def test_only_the_holder_releases_and_only_one_replaces(jobs):
    """A claim is given up once: by its worker, or by one of those who found the worker dead."""
    job_id = jobs.request("train", 1)
    take(jobs, "dead")
    claim = Claim(job_id, "dead")
    assert not jobs.slots.release(Claim(job_id, "other"))
    new = jobs.replace("train-1", claim, {})
    assert new is not None
    assert jobs.replace("train-1", claim, {}) is None
    assert not jobs.slots.begin(claim, "horse")
    assert not jobs.slots.release(claim)
    assert jobs.fetch(job_id).id == new


def test_strange_steps_are_refused(jobs):
    """A step's name becomes part of keys and ids, so only plain words pass."""
    for step in ("", "a b", "../x", "train-1", "Träne"):
        with pytest.raises(JobError, match="name of a step"):
            jobs.request(step, 1)


def test_ids_carry_their_pair():
    """Step and project can be read from an id, also of steps with an underscore."""
    assert split_pair(pair_of(new_id("pre_label", 12))) == ("pre_label", 12)


class Model(RuleBasedStateMachine):
    """Any sequence of requests, takes, ends and deaths against a model in Python."""

    url = ""
    pairs = st.tuples(st.sampled_from(["sync", "train"]), st.integers(1, 2))

    @initialize()
    def begin(self) -> None:
        """Start from an empty server."""
        with redis.Redis.from_url(self.url) as client:
            client.flushdb()
        self.jobs = Jobs(Settings(redis_url=self.url), function=FUNCTION)
        self.queued: dict[str, str] = {}
        self.running: dict[str, str] = {}

    @rule(pair=pairs)
    def request(self, pair: tuple[str, int]) -> None:
        """A request returns the waiting job, or a new one."""
        key = f"{pair[0]}-{pair[1]}"
        job_id = self.jobs.request(*pair)
        assert self.queued.setdefault(key, job_id) == job_id
        assert job_id not in self.running.values()

    @rule()
    def take(self) -> None:
        """A worker gets a waiting job of an idle pair, and none only if there is none."""
        free = {pair: i for pair, i in self.queued.items() if pair not in self.running}
        job_id = take(self.jobs)
        assert (job_id in free.values()) if free else job_id is None
        if job_id:
            pair = pair_of(job_id)
            self.running[pair] = self.queued.pop(pair)

    @rule(pair=pairs, killed=st.booleans())
    def end(self, pair: tuple[str, int], killed: bool) -> None:
        """A job ends; or its worker dies and the pair waits again."""
        key = f"{pair[0]}-{pair[1]}"
        if key not in self.running:
            return
        claim = Claim(self.running.pop(key), "w")
        if killed:
            job_id = self.jobs.replace(key, claim, {})
            assert self.queued.setdefault(key, job_id) == job_id
        else:
            assert self.jobs.slots.release(claim)

    @invariant()
    def agrees(self) -> None:
        """Redis holds what the model holds, each waiting job once in its queue."""
        if not hasattr(self, "jobs"):
            return
        assert self.jobs.slots.queued() == self.queued
        running = self.jobs.slots.running()
        assert {pair: claim.job_id for pair, claim in running.items()} == self.running
        listed = [i.decode() for key in KEYS for i in self.jobs.connection.lrange(key, 0, -1)]
        assert sorted(listed) == sorted(self.queued.values())

    def teardown(self) -> None:
        """Close the connections."""
        if hasattr(self, "jobs"):
            self.jobs.connection.close()


def test_any_sequence_agrees_with_the_model(embedded):
    """Coalescing holds for every sequence of events that Hypothesis can think of."""
    Model.url = embedded.url
    case = Model.TestCase
    case.settings = hypothesis_settings(
        max_examples=25,
        stateful_step_count=20,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow],
    )
    case("runTest").runTest()
