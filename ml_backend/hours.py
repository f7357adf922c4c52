"""Times by a clock on a wall: when something happens, and when nothing shall.

Moments are aware datetimes; what people write is read in a time zone of their own. An hour that
the clock skips in spring counts as the moment to which it is put forward, an hour that it shows
twice in autumn happens once.
"""

import re
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY = 24 * 60  # minutes
WEEK = 7 * DAY

_TIME = re.compile(r"(\d{1,2}):(\d{2})")
_PERIOD = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? +)?(\d{1,2}:\d{2}) *- *(\d{1,2}:\d{2})")


def utc_clock() -> datetime:
    """The time of this machine, in UTC."""
    return datetime.now(UTC)


def read_zone(name: str) -> ZoneInfo:
    """A time zone by its name, such as Europe/Berlin or UTC. Raises `ValueError`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(
            f"{name!r} is no time zone: give a name such as UTC or Europe/Berlin"
        ) from None


def read_hour(value: object) -> str:
    """What people call an hour as a cron expression of five fields.

    `2` and `"02:00"` are `"0 2 * * *"`; YAML reads a bare 22:30 as the number of its minutes.
    Raises `ValueError` for anything else that is no cron expression, or that never comes.
    """
    from croniter import CroniterError, croniter

    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < DAY:
        hour, minute = (value, 0) if value < 24 else divmod(value, 60)
        return f"{minute} {hour} * * *"
    text = " ".join(str(value).split())
    if found := _TIME.fullmatch(text):
        minutes = _minutes(text)
        if minutes < DAY:
            return f"{int(found[2])} {int(found[1])} * * *"
    try:
        if len(text.split()) == 5:
            croniter(text, datetime(2000, 1, 1)).get_next(datetime)  # noqa: DTZ001 - a wall's clock
            return text
    except CroniterError:
        pass
    raise ValueError(f"{value!r} is no time: give an hour such as 02:00, or five fields of cron")


def next_time(expression: str, zone: str, after: datetime) -> datetime:
    """The first moment later than `after` that a cron expression names."""
    from croniter import croniter

    local = after.astimezone(read_zone(zone))
    wall: datetime = croniter(expression, local.replace(tzinfo=None)).get_next(datetime)
    return wall.replace(tzinfo=local.tzinfo, fold=local.fold).astimezone(UTC)


@lru_cache
def read_periods(text: str) -> bytes:
    """Which minutes of a week lie in periods such as `22:00-06:00` or `mon-fri 08:00-18:00`.

    Several are separated by commas; the end does not belong to a period; one that begins on a day
    may end on the next. Raises `ValueError` for anything else, and for periods without an end.
    """
    flags = bytearray(WEEK)
    for part in text.lower().split(","):
        found = _PERIOD.fullmatch(part.strip())
        if found is None or not set(found.group(1, 2)) <= {None, *DAYS}:
            raise ValueError(
                f"{part.strip()!r} is no period: write such as 08:00-18:00 or mon-fri 08:00-18:00"
            )
        first, last, start, end = found.groups()
        begins, ends = _minutes(start), _minutes(end)
        length = (ends - begins) % DAY or DAY
        for day in _days(first, last):
            for minute in range(length):
                flags[(day * DAY + begins + minute) % WEEK] = 1
    if all(flags):
        raise ValueError(f"{text!r} leaves no minute of the week")
    return bytes(flags)


def quiet_until(text: str | None, zone: str, now: datetime) -> datetime | None:
    """When the period ends in which `now` lies; None outside of all periods."""
    if text is None:
        return None
    flags, local = read_periods(text), now.astimezone(read_zone(zone))
    minute = local.weekday() * DAY + local.hour * 60 + local.minute
    left = next(count for count in range(WEEK) if not flags[(minute + count) % WEEK])
    if not left:
        return None
    wall = local.replace(second=0, microsecond=0, tzinfo=None) + timedelta(minutes=left)
    return wall.replace(tzinfo=local.tzinfo, fold=local.fold).astimezone(UTC)


def spoken(moment: datetime, zone: str, now: datetime) -> str:
    """A moment as people say it: `today 23:00`, `tomorrow 02:00 Europe/Berlin`, a date beyond."""
    local, today = moment.astimezone(read_zone(zone)), now.astimezone(read_zone(zone)).date()
    days = (local.date() - today).days
    day = {0: "today", 1: "tomorrow"}.get(days, f"{local:%Y-%m-%d}")
    return f"{day} {local:%H:%M} {zone}"


def _minutes(time: str) -> int:
    """Minutes since midnight of `HH:MM`, up to 24:00."""
    hours, _, minutes = time.partition(":")
    count = int(hours) * 60 + int(minutes)
    if count > DAY or int(minutes) > 59:
        raise ValueError(f"{time} is no time of day")
    return count


def _days(first: str | None, last: str | None) -> list[int]:
    """Numbers of the days from the first to the last, which may be in the next week."""
    if first is None:
        return list(range(7))
    start = DAYS.index(first)
    count = (DAYS.index(last) - start) % 7 + 1 if last else 1
    return [(start + number) % 7 for number in range(count)]
