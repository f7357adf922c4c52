"""Times on a wall: nights, quiet periods, and the two days on which the clock jumps."""

import itertools
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ml_backend.errors import ConfigError
from ml_backend.hours import DAYS, next_time, quiet_until, read_hour, read_periods, spoken
from ml_backend.recipe import parse_recipe

BERLIN = "Europe/Berlin"
MONDAY = datetime(2026, 3, 2, tzinfo=UTC)
MOMENTS = st.integers(0, 2 * 365 * 24 * 60).map(lambda minutes: MONDAY + timedelta(minutes=minutes))


@pytest.mark.parametrize(
    ("written", "expression"),
    [("02:00", "0 2 * * *"), (2, "0 2 * * *"), (1350, "30 22 * * *"), ("22:30", "30 22 * * *"),
     ("  */5  1 * * mon-fri", "*/5 1 * * mon-fri")],
)  # fmt: skip
def test_an_hour_is_written_in_several_ways(written, expression):
    """As people do, as YAML reads it without quotes, and as cron."""
    assert read_hour(written) == read_hour(read_hour(written)) == expression


@pytest.mark.parametrize(
    "recipe",
    [
        {"select_at": "25:00"},
        {"select_at": "24:00"},
        {"select_at": "2"},
        {"select_at": "0 0 30 2 *"},
        {"select_at": "* * * * * *"},
        {"select_at": True},
        {"quiet": "08:00"},
        {"quiet": "08:00-18:60"},
        {"quiet": "xyz 08:00-18:00"},
        {"quiet": "00:00-12:00, 12:00-24:00"},
        {"timezone": "Mars/Olympus"},
        {"timezone": "../../etc/passwd"},
    ],
)
def test_what_is_no_time_is_refused_with_its_key(recipe):
    """The message names the key; a day without a minute left is refused as well."""
    (key,) = recipe
    with pytest.raises(ConfigError, match=rf"loop\.{key}"):
        parse_recipe({"loop": recipe})


def test_a_recipe_reads_back_what_it_wrote():
    """An hour becomes cron once, and stays what it is."""
    recipe = parse_recipe({"loop": {"select_at": 2, "quiet": "mon-fri 08:00-18:00"}})
    assert parse_recipe(recipe.model_dump(mode="json")) == recipe


def test_every_night_of_a_year_has_its_hour_once():
    """365 moments, each on its own day, at 02:30 but for the night in which that is skipped."""
    moment, moments = datetime(2025, 12, 31, 12, tzinfo=UTC), []
    while moment < datetime(2026, 12, 31, tzinfo=UTC):
        moment = next_time("30 2 * * *", BERLIN, moment)
        moments.append(moment)
    assert len(moments) == 365
    gaps = {(b - a) // timedelta(hours=1) for a, b in itertools.pairwise(moments)}
    assert gaps == {23, 24, 25}
    assert datetime(2026, 3, 29, 1, 30, tzinfo=UTC) in moments  # 03:30 there
    assert datetime(2026, 10, 25, 0, 30, tzinfo=UTC) in moments  # the first of two


@given(MOMENTS)
@example(datetime(2026, 10, 25, 1, 15, tzinfo=UTC))  # the second 02:15 in Berlin
def test_the_next_time_is_later(moment):
    """Whatever the clock on the wall does, an hour that comes is never one that has been."""
    for expression in ("30 2 * * *", "*/10 * * * *"):
        assert next_time(expression, BERLIN, moment) > moment


def test_quiet_is_from_its_beginning_up_to_its_end():
    """To the minute, by the clock of the zone."""
    before = datetime(2026, 3, 2, 6, 59, 59, tzinfo=UTC)  # 07:59:59 in Berlin
    assert quiet_until("08:00-18:00", BERLIN, before) is None
    begin, end = datetime(2026, 3, 2, 7, tzinfo=UTC), datetime(2026, 3, 2, 17, tzinfo=UTC)
    assert quiet_until("08:00-18:00", BERLIN, begin) == end
    assert quiet_until("08:00-18:00", BERLIN, end - timedelta(seconds=1)) == end
    assert quiet_until("08:00-18:00", BERLIN, end) is None
    assert quiet_until(None, BERLIN, begin) is None


@pytest.mark.parametrize(
    ("periods", "hours", "until"),
    [
        ("22:00-06:00", 23, 30),
        ("22:00-06:00", 3, 6),
        ("fri 22:00-06:00", 3, None),  # Monday is not the day after a Friday
        ("sun 22:00-06:00", 3, 6),
        ("mon-fri 08:00-18:00", 5 * 24 + 10, None),
        ("sat-mon 00:00-24:00", 5 * 24 + 10, 8 * 24),
        ("08:00-12:00, 12:00-18:00", 9, 18),
        ("08:00-12:00, 13:00-18:00", 12.5, None),
    ],
)
def test_periods_know_days_and_midnight(periods, hours, until):
    """Hours since Monday, midnight: one that begins on a day may end on the next."""
    expected = None if until is None else MONDAY + timedelta(hours=until)
    assert quiet_until(periods, "UTC", MONDAY + timedelta(hours=hours)) == expected


@given(MOMENTS, st.sampled_from(DAYS), st.integers(0, 1439), st.integers(0, 1439))
def test_the_end_of_quiet_is_not_quiet(moment, day, begin, end):
    """Who waits for it may begin: on every day, also when the clock jumps."""
    times = [f"{minutes // 60:02d}:{minutes % 60:02d}" for minutes in (begin, end)]
    periods = f"{day} {'-'.join(times)}"
    assert sum(read_periods(periods)) == ((end - begin) % 1440 or 1440)
    until = quiet_until(periods, BERLIN, moment)
    if until is not None:
        assert until > moment - timedelta(hours=1)  # an hour that comes twice ends in its first
        assert until - moment <= timedelta(hours=26)


def test_moments_are_spoken():
    """Today, tomorrow and a date, by the clock of the zone."""
    now = datetime(2026, 3, 2, 22, 30, tzinfo=UTC)
    said = [spoken(now + timedelta(hours=hours), BERLIN, now) for hours in (0, 4, 30)]
    assert said == [
        f"today 23:30 {BERLIN}",
        f"tomorrow 03:30 {BERLIN}",
        f"2026-03-04 05:30 {BERLIN}",
    ]
