"""When schedules are due."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from amqpjobs import Cron, Every
from amqpjobs.jobs.schedule.dues import (
    LAST,
    dues_between,
    last_between,
    next_after,
    sent_at,
)

BERLIN = ZoneInfo("Europe/Berlin")
DAY = 86_400

expressions = st.sampled_from([
    "0 7 * * mon-fri", "*/5 * * * *", "30 2 * * *", "@hourly", "15,45 1-3 * * *", "0 0 L * *",
    "0 */2 * * *", "0 0 1,15 * sun", "* 2 * * *", "*/20 * * * * *", "0 12 * * 5L",
])  # fmt: skip
zones = st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/Santiago"])
schedules = st.builds(Cron, expressions, zones) | st.builds(Every, seconds=st.integers(1, 10**7))
moments = st.floats(1.5e9, 2.2e9)


@settings(deadline=None)
@given(schedules, moments)
def test_a_due_lies_ahead_and_nothing_lies_between(schedule, after) -> None:
    """Whatever moment it is asked from, the same times are found."""
    due = next_after(schedule, after)
    assert due is not None
    assert due > after
    assert due == int(due)
    assert next_after(schedule, due - 0.25) == due
    assert next_after(schedule, (after + due) / 2) == due or (after + due) / 2 >= due


@settings(deadline=None)
@given(schedules, moments, st.integers(1, 50))
def test_they_come_in_order_and_each_once(schedule, after, most) -> None:
    """From wherever they are counted."""
    dues = dues_between(schedule, after, after + 3 * DAY, most)
    assert dues == sorted(set(dues))
    assert len(dues) <= most
    if dues:
        assert dues[0] == next_after(schedule, after)
        assert dues_between(schedule, dues[0], dues[-1], most) == dues[1:]
        assert last_between(schedule, after, dues[-1]) == dues[-1]


@settings(deadline=None)
@given(schedules, moments)
def test_the_last_is_found_from_behind(schedule, until) -> None:
    """In few steps."""
    last = last_between(schedule, until - 400 * DAY, until)
    assert last is not None
    assert last <= until
    following = next_after(schedule, last)
    assert following is not None
    assert following > until
    assert last_between(schedule, last, until) is None


def test_the_same_moments_hold_for_every_process() -> None:
    """Multiples since 1970, whenever a process began."""
    assert dues_between(Every(minutes=5), 601.5, 1500, 10) == [900.0, 1200.0, 1500.0]
    assert next_after(Every(minutes=5), 900.0) == 1200.0
    assert next_after(Every(days=1), 1.0) == float(DAY)


def test_nothing_is_due_outside_of_the_calendar() -> None:
    """Nor for what is no time."""
    for after in (LAST + 1, float("inf"), float("-inf"), float("nan"), -1e12):
        assert next_after(Cron("@daily", "Europe/Berlin"), after) is None
        assert next_after(Every(days=1), after) is None
    assert next_after(Cron("0 0 1 1 *", "Asia/Tokyo"), LAST - 1) is None
    assert next_after(Cron("@hourly", "Asia/Tokyo"), LAST - 1) is None
    assert next_after(Every(days=1000), LAST - 1) is None


@settings(deadline=None)
@given(
    st.sampled_from(["30 2 * * *", "0 7 * * mon-fri", "*/15 * * * *", "0 * * * *", "5 0 1 * *"]),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata"]),
    st.integers(1_600_000_000, 2_100_000_000),
)
def test_it_agrees_with_cronsim_where_clocks_change_by_an_hour(expression, zone, after) -> None:
    """Its rules are those of Debian's cron."""
    start = datetime.fromtimestamp(after, UTC if zone == "UTC" else ZoneInfo(zone))
    assume(start.fold == 0)  # from within the second hour cronsim goes back into the first
    theirs = CronSim(expression, start)
    expected = [next(theirs).timestamp() for _ in range(5)]
    assert dues_between(Cron(expression, zone), after, 1e11, 5) == expected


def times(expression: str, zone: str, day: str) -> list[str]:
    """What the clock there shows when it is due on a day."""
    begin = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone))
    dues = dues_between(
        Cron(expression, zone), begin.timestamp() - 1, begin.timestamp() + 1.25 * DAY, 999
    )
    local = [datetime.fromtimestamp(due, begin.tzinfo) for due in dues]
    return [f"{time:%H:%M%z}" for time in local if time.date() == begin.date()]


@pytest.mark.parametrize(
    ("expression", "zone", "day", "shown"),
    [
        ("30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:30+0200"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("0 30 2 * * *", "Europe/Berlin", "2026-10-25", ["02:30+0200"]),
        ("15,45 2 * * *", "Europe/Berlin", "2026-03-29", ["03:00+0200"]),
        ("*/30 2 * * *", "Europe/Berlin", "2026-03-29", []),
        ("*/30 2 * * *", "Europe/Berlin", "2026-10-25",
         ["02:00+0200", "02:30+0200", "02:00+0100", "02:30+0100"]),
        ("0 0 * * *", "America/Santiago", "2026-09-06", ["01:00-0300"]),
        ("*/30 0 * * *", "America/Santiago", "2026-09-06", []),
        ("0 3 * * *", "Australia/Lord_Howe", "2026-10-04", ["03:00+1100"]),
        ("*/30 3 * * *", "Australia/Lord_Howe", "2026-10-04", ["03:00+1100", "03:30+1100"]),
        ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04", ["02:30+1100"]),
        ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05", ["01:45+1100"]),
        ("*/45 1 * * *", "Australia/Lord_Howe", "2026-04-05",
         ["01:00+1100", "01:45+1100", "01:45+1030"]),
    ],
)  # fmt: skip
def test_the_days_on_which_clocks_change(expression, zone, day, shown) -> None:
    """Fixed times once, at a time that there is; others whenever the clock shows them."""
    assert times(expression, zone, day) == shown


def test_a_time_that_has_passed_in_the_first_hour_does_not_come_again_in_the_second() -> None:
    """From whichever moment of the two it is asked."""
    first = datetime(2026, 10, 25, 2, 45, tzinfo=BERLIN, fold=0).timestamp()
    for moment in (first, first + 1800, first + 3600):
        due = next_after(Cron("30 2 * * *", "Europe/Berlin"), moment)
        assert due == datetime(2026, 10, 26, 2, 30, tzinfo=BERLIN).timestamp()


def test_an_hour_passes_between_hourly_jobs_when_clocks_change() -> None:
    """None is missing, and none comes twice."""
    for day in (datetime(2026, 3, 29, tzinfo=UTC), datetime(2026, 10, 25, tzinfo=UTC)):
        begin = day.timestamp() - 1
        dues = dues_between(Cron("@hourly", "Europe/Berlin"), begin, begin + DAY, 99)
        assert len(dues) == 24
        assert {b - a for a, b in pairwise(dues)} == {3600.0}


@settings(deadline=None)
@given(st.text(max_size=20), moments.map(round), st.floats(0, 3599))
def test_jitter_is_the_same_everywhere_and_within_its_bound(name, due, jitter) -> None:
    """It moves when a job is sent, not what it is due for."""
    schedule = Cron("@hourly", jitter=jitter)
    sent = sent_at(schedule, name, float(due))
    assert due <= sent <= due + jitter
    assert sent == sent_at(Cron("@hourly", jitter=jitter), name, due)


def test_jitter_spreads_schedules_and_times() -> None:
    """Those of one minute do not all come at once, and none has the same delay for ever."""
    schedule = Every(minutes=5, jitter=timedelta(seconds=100))
    delays = [sent_at(schedule, f"tenant-{n}", 300.0) - 300 for n in range(400)]
    assert 40 < sum(delays) / 400 < 60
    assert len({sent_at(schedule, "a", due) - due for due in (300.0, 600.0, 900.0)}) == 3
    assert sent_at(Every(minutes=5), "a", 300.0) == 300.0
    # Pinned: in a rolling update two releases compute it for the same job.
    assert sent_at(schedule, "nightly", 300.0) == pytest.approx(391.3983545551003, abs=1e-9)
