"""What of a schedule is sent now, after however long."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from amqpjobs import Cron, Every
from amqpjobs.jobs.schedule.dues import dues_between, next_after
from amqpjobs.jobs.schedule.missed import MOST, ON_TIME, Due, missed_of

HOUR, DAY = 3600.0, 86_400.0
NOON = 1_780_315_200.0  # 2026-06-01 12:00 UTC


def test_what_is_due_now_is_sent_whatever_the_policy() -> None:
    """A look at the store a few seconds late misses nothing."""
    for missed in ("latest", "skip", "all"):
        schedule = Cron("@hourly", missed=missed, within=0)  # type: ignore[arg-type]
        for late in (0.0, 0.3, 9.9, ON_TIME):
            assert missed_of(schedule, NOON - HOUR, NOON + late) == [Due(NOON, "cron")]
        assert missed_of(schedule, NOON, NOON + 5) == []
        assert missed_of(schedule, NOON - HOUR, NOON - 0.1) == []


def test_the_latest_is_made_up_for() -> None:
    """One, however many there were."""
    schedule = Cron("@hourly")
    assert missed_of(schedule, NOON - 9 * HOUR, NOON + 60) == [Due(NOON, "missed")]
    assert missed_of(schedule, NOON - 9 * HOUR, NOON + 1) == [Due(NOON, "cron")]
    assert missed_of(Every(days=7), 0.0, 7 * DAY + HOUR) == [Due(7 * DAY, "missed")]


def test_what_is_skipped_is_not() -> None:
    """Of an hour of downtime nothing comes after it."""
    schedule = Cron("@hourly", missed="skip")
    assert missed_of(schedule, NOON - 9 * HOUR, NOON + ON_TIME + 1) == []


def test_all_come_oldest_first() -> None:
    """With what is due now at their end."""
    schedule = Cron("@hourly", missed="all")
    assert missed_of(schedule, NOON - 3 * HOUR, NOON + 2) == [
        Due(NOON - 2 * HOUR, "missed"), Due(NOON - HOUR, "missed"), Due(NOON, "cron"),
    ]  # fmt: skip


def test_what_is_older_than_within_is_left_out() -> None:
    """The bound itself counts."""
    for missed in ("latest", "all"):
        schedule = Cron("@daily", missed=missed, within=timedelta(hours=12))  # type: ignore[arg-type]
        assert missed_of(schedule, 0.0, NOON) == [Due(NOON - 12 * HOUR, "missed")]
        assert missed_of(schedule, 0.0, NOON + 1) == []


@pytest.mark.parametrize("schedule", [
    Every(seconds=1, missed="all"), Cron("* * * * * *", "Europe/Berlin", missed="all"),
    Cron("*/5 * * * *", missed="all", within=8 * 365 * DAY),
])  # fmt: skip
def test_they_are_a_hundred_at_most_and_the_newest(schedule) -> None:
    """A year of downtime floods nothing, and does not take long to count."""
    sent = missed_of(schedule, NOON - 365 * DAY, NOON + 0.5)
    dues = [each.due for each in sent]
    assert len(dues) == MOST
    assert dues[-1] == NOON
    assert dues == dues_between(schedule, dues[0] - 1, NOON, 999)


def test_a_clock_that_was_set_back_sends_nothing_twice() -> None:
    """Until it shows again what it has shown."""
    for missed in ("latest", "all", "skip"):
        assert missed_of(Every(seconds=1, missed=missed), NOON, NOON - 30) == []  # type: ignore[arg-type]


def test_a_clock_that_jumps_ahead_is_downtime() -> None:
    """The policy decides."""
    assert missed_of(Cron("@hourly"), NOON, NOON + 100 * DAY + 60) == [
        Due(NOON + 100 * DAY, "missed")
    ]


def test_each_second_is_sent_even_by_a_slow_look() -> None:
    """What came in the last seconds is not missed."""
    sent = missed_of(Every(seconds=1), NOON, NOON + 4.5)
    assert sent == [Due(NOON + n, "cron") for n in (1, 2, 3, 4)]


schedules = st.builds(
    Cron,
    st.sampled_from(["*/5 * * * *", "@hourly", "30 2 * * *", "0 7 * * mon", "*/20 * * * * *"]),
    st.sampled_from(["UTC", "Europe/Berlin"]),
    missed=st.sampled_from(["latest", "skip", "all"]),
    within=st.sampled_from([0, 30, HOUR, DAY]),
)


@given(schedules, st.floats(0, 3 * DAY), st.floats(0, DAY))
@settings(deadline=None)
def test_nothing_is_sent_that_was_not_due(schedule, downtime, offset) -> None:
    """In order, each once, none that was looked at, none too old; and all that is due now."""
    now = NOON + offset
    previous = now - downtime
    sent = missed_of(schedule, previous, now)
    dues = [each.due for each in sent]
    assert dues == sorted(set(dues))
    assert len(dues) <= MOST
    for due, how in sent:
        assert previous < due <= now
        assert next_after(schedule, due - 1) == due
        assert (how == "cron") == (now - due <= ON_TIME)
        assert how == "cron" or now - due <= schedule.within
    fresh = dues_between(schedule, max(previous, now - ON_TIME), now, 999)
    assert dues[len(dues) - len(fresh) :] == fresh
    if schedule.missed == "latest":
        within = dues_between(schedule, max(previous, now - schedule.within), now, 10**6)
        assert dues[-1:] == (within or fresh)[-1:]


@given(schedules, st.floats(1, 200), st.integers(2, 60))
@settings(deadline=None)
def test_looks_in_a_row_send_each_time_once(schedule, step, looks) -> None:
    """With looks every few seconds all of them, by any policy; with fewer none twice."""
    seen: list[float] = []
    now = NOON
    for _ in range(looks):
        seen += [each.due for each in missed_of(schedule, now, now + step)]
        now += step
    assert seen == sorted(set(seen))
    if step <= ON_TIME:
        assert seen == dues_between(schedule, NOON, now, 10**6)
