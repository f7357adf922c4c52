"""At most one queued and one running job for each pair of a step and a project.

Everything happens inside Redis in one script at a time, so a process that is killed leaves
either all of a change or nothing of it. A pair is `step-project`, a job's id is
`step-project-random`. Redis holds, beside what RQ keeps:

    brushloop:queued   pair → id of the job that waits
    brushloop:running  pair → "id worker" from the moment a worker takes the job
    brushloop:later    id → Unix time before which a waiting job may not be taken (back-off)
    brushloop:horses   id → the process that does the job, to be killed if its worker dies
    brushloop:last     pair → id of the job that ended last
    brushloop:moved:…  id → id of the job that took its place (a retry, a recovery)
"""

import uuid
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from redis import Redis
from rq import Queue
from rq.job import Job

QUEUED = "brushloop:queued"
RUNNING = "brushloop:running"
LATER = "brushloop:later"
HORSES = "brushloop:horses"
LAST = "brushloop:last"
MOVED = "brushloop:moved:"
MOVED_SECONDS = 7 * 24 * 3600

_JOB_PREFIX = Job.key_for("")
_ALL_QUEUES = Queue.redis_queues_keys

# KEYS: queued, running, later, the queue's list, the new job's hash, RQ's set of queues, horses
# ARGV: pair, new id, not before (Unix time or 0), front (1 or 0), value to replace in running
#       or "", key of the moved-to note or "", seconds to keep it, RQ's prefix of job keys,
#       then the fields of the job's hash
_REQUEST = """
local pair, value = ARGV[1], ARGV[5]
if value ~= '' then
  if redis.call('HGET', KEYS[2], pair) ~= value then return false end
  redis.call('HDEL', KEYS[2], pair)
  redis.call('HDEL', KEYS[7], string.match(value, '^%S+'))
end
local id = redis.call('HGET', KEYS[1], pair)
local known = id and redis.call('EXISTS', ARGV[8] .. id) == 1
              and redis.call('LPOS', KEYS[4], id)
if known then
  if ARGV[3] == '0' then redis.call('HDEL', KEYS[3], id) end
  if ARGV[4] == '1' then
    redis.call('LREM', KEYS[4], 0, id)
    redis.call('LPUSH', KEYS[4], id)
  end
else
  id = ARGV[2]
  redis.call('HSET', KEYS[5], unpack(ARGV, 9))
  redis.call(ARGV[4] == '1' and 'LPUSH' or 'RPUSH', KEYS[4], id)
  redis.call('SADD', KEYS[6], KEYS[4])
  redis.call('HSET', KEYS[1], pair, id)
  if ARGV[3] ~= '0' then redis.call('HSET', KEYS[3], id, ARGV[3]) end
end
if ARGV[6] ~= '' then redis.call('SET', ARGV[6], id, 'EX', ARGV[7]) end
return id
"""

# KEYS: queued, running, later, then the queues' lists, the most urgent first
# ARGV: worker, RQ's prefix of job keys
_TAKE = """
local now = tonumber(redis.call('TIME')[1])
for i = 4, #KEYS do
  for _, id in ipairs(redis.call('LRANGE', KEYS[i], 0, -1)) do
    local pair = string.match(id, '^(.+)%-%x+$')
    if pair and redis.call('HEXISTS', KEYS[2], pair) == 0
       and tonumber(redis.call('HGET', KEYS[3], id) or '0') <= now then
      redis.call('LREM', KEYS[i], 0, id)
      redis.call('HDEL', KEYS[3], id)
      if redis.call('HGET', KEYS[1], pair) == id then redis.call('HDEL', KEYS[1], pair) end
      if redis.call('EXISTS', ARGV[2] .. id) == 1 then
        redis.call('HSET', KEYS[2], pair, id .. ' ' .. ARGV[1])
        return {KEYS[i], id}
      end
    end
  end
end
return false
"""

# KEYS: running, horses; ARGV: pair, value in running, id, horse
_BEGIN = """
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
return 1
"""

# KEYS: running, horses, last; ARGV: pair, value in running, id
_RELEASE = """
redis.call('HDEL', KEYS[2], ARGV[3])
if redis.call('HGET', KEYS[1], ARGV[1]) ~= ARGV[2] then return 0 end
redis.call('HDEL', KEYS[1], ARGV[1])
redis.call('HSET', KEYS[3], ARGV[1], ARGV[3])
return 1
"""


class Claim(NamedTuple):
    """A job that a worker has taken."""

    job_id: str
    worker: str

    @property
    def value(self) -> str:
        """As it stands in `brushloop:running`."""
        return f"{self.job_id} {self.worker}"


class Order(NamedTuple):
    """What `Slots.request` puts into a queue when no job of the pair waits there."""

    job_id: str
    queue_key: str
    job_key: str
    fields: Mapping[str, str | bytes | int | float]


def pair_of(job_id: str) -> str:
    """The pair of a job's id."""
    return job_id.rpartition("-")[0]


def split_pair(pair: str) -> tuple[str, int]:
    """Step and project of a pair."""
    step, _, project = pair.rpartition("-")
    return step, int(project)


def new_id(step: str, project_id: int) -> str:
    """A fresh id for a job of this pair."""
    return f"{step}-{project_id}-{uuid.uuid4().hex[:12]}"


class Slots:
    """The scripts above over one connection; errors of Redis pass through untranslated."""

    def __init__(self, connection: Redis) -> None:
        self.connection = connection
        self._request = connection.register_script(_REQUEST)
        self._take = connection.register_script(_TAKE)
        self._begin = connection.register_script(_BEGIN)
        self._release = connection.register_script(_RELEASE)

    def request(
        self,
        order: Order,
        *,
        not_before: float = 0,
        front: bool = False,
        instead_of: Claim | None = None,
        moved_from: str | None = None,
    ) -> str | None:
        """Queue `order` unless a job of its pair waits already; return the waiting job's id.

        A request without `not_before` (Unix seconds) ends the back-off of the waiting job.
        `instead_of` gives up that claim in the same breath; None if somebody else already
        has. `moved_from` is the id that shall lead to the job returned.
        """
        answer = self._request(
            keys=[QUEUED, RUNNING, LATER, order.queue_key, order.job_key, _ALL_QUEUES, HORSES],
            args=[
                pair_of(order.job_id),
                order.job_id,
                int(not_before),
                int(front),
                instead_of.value if instead_of else "",
                MOVED + moved_from if moved_from else "",
                MOVED_SECONDS,
                _JOB_PREFIX,
                *(part for item in order.fields.items() for part in item),
            ],
        )
        return None if answer is None else answer.decode()

    def take(self, queue_keys: Sequence[str], worker: str) -> tuple[str, str] | None:
        """Claim the first job that may run: the key of its queue and its id."""
        answer = self._take(keys=[QUEUED, RUNNING, LATER, *queue_keys], args=[worker, _JOB_PREFIX])
        return None if answer is None else (answer[0].decode(), answer[1].decode())

    def begin(self, claim: Claim, horse: str) -> bool:
        """Note the process that does the job; False if the claim is no longer the worker's."""
        args = [pair_of(claim.job_id), claim.value, claim.job_id, horse]
        return bool(self._begin(keys=[RUNNING, HORSES], args=args))

    def release(self, claim: Claim) -> bool:
        """The job has ended: the next of its pair may run. False if the claim was not held."""
        args = [pair_of(claim.job_id), claim.value, claim.job_id]
        return bool(self._release(keys=[RUNNING, HORSES, LAST], args=args))

    def queued(self) -> dict[str, str]:
        """Pair → id of the waiting job."""
        return _decoded(self.connection.hgetall(QUEUED))

    def running(self) -> dict[str, Claim]:
        """Pair → who does what."""
        table = _decoded(self.connection.hgetall(RUNNING))
        return {pair: Claim(*value.split(" ", 1)) for pair, value in table.items()}

    def last(self) -> dict[str, str]:
        """Pair → id of the job that ended last."""
        return _decoded(self.connection.hgetall(LAST))

    def later(self) -> dict[str, float]:
        """Id of a waiting job → Unix time before which it is not taken."""
        return {
            key: float(value) for key, value in _decoded(self.connection.hgetall(LATER)).items()
        }

    def horse(self, job_id: str) -> str | None:
        """The process noted by `begin`."""
        value = self.connection.hget(HORSES, job_id)
        return value.decode() if isinstance(value, bytes) else None

    def moved(self, job_id: str) -> str:
        """Follow the notes from a job to the one that took its place in the end."""
        seen = {job_id}
        while isinstance(value := self.connection.get(MOVED + job_id), bytes):
            job_id = value.decode()
            if job_id in seen:
                break
            seen.add(job_id)
        return job_id


def _decoded(table: Any) -> dict[str, str]:
    return {key.decode(): value.decode() for key, value in table.items()}
