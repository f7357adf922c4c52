"""Connections to Redis: hasty for those who answer a request, patient for those who work."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.backoff import ExponentialBackoff, NoBackoff
from redis.retry import Retry

from ml_backend.errors import JobError
from ml_backend.jobs.redis_server import printable, redis_url
from ml_backend.settings import Settings

# Label Studio waits 1 s for the answer to an event, so an unreachable Redis must show sooner.
HASTY_SECONDS = 0.7
# A restart of Redis (reading its file back) must not cost a training that runs meanwhile.
PATIENT_RETRIES = 12
PATIENT_BACKOFF = ExponentialBackoff(cap=5.0, base=0.1)


def connect(settings: Settings, *, patient: bool = False) -> redis.Redis:
    """A client of the Redis that holds the jobs; it connects at its first command.

    Hasty: 0.7 s for connecting and for each answer, one more try where a pooled connection
    turned out dead. Patient: rides over about half a minute without Redis.
    """
    if patient:
        options = {
            "socket_connect_timeout": 5.0,
            "socket_timeout": 60.0,
            "retry": Retry(PATIENT_BACKOFF, PATIENT_RETRIES),
        }
    else:
        options = {
            "socket_connect_timeout": HASTY_SECONDS,
            "socket_timeout": HASTY_SECONDS,
            "retry": Retry(NoBackoff(), 1, supported_errors=(redis.ConnectionError,)),
        }
    url = redis_url(settings)
    try:
        return redis.Redis.from_url(url, **options)
    except ValueError as error:
        raise JobError(
            f"BRUSHLOOP_REDIS_URL {printable(url)}: {error}; write redis://host:6379/0, "
            f"rediss://host:6379/0 or unix:///path/to/redis.sock"
        ) from None


@contextmanager
def reported(settings: Settings) -> Iterator[None]:
    """Errors of Redis within become a `JobError` that names the server and the way out."""
    try:
        yield
    except (redis.ConnectionError, redis.TimeoutError) as error:
        way_out = (
            "check that it runs and that BRUSHLOOP_REDIS_URL is right"
            if settings.redis_url
            else "start it with `brushloop up`, or set BRUSHLOOP_REDIS_URL to one that runs"
        )
        raise JobError(
            f"{_server(settings)} does not answer ({_reason(error)}): {way_out}"
        ) from error
    except redis.RedisError as error:
        raise JobError(f"{_server(settings)} refused a command: {_reason(error)}") from error


def _server(settings: Settings) -> str:
    return f"Redis at {printable(redis_url(settings))}"


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
