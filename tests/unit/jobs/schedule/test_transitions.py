"""Every change of the clocks of every zone from 2020 to 2040, by what the clocks there show."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple
from zoneinfo import ZoneInfo, available_timezones

import pytest

from amqpjobs import Cron
from amqpjobs.jobs.schedule.dues import dues_between, next_after

HOUR, DAY, WEEK = 3600, 86_400, 7 * 86_400
BEGIN = int(datetime(2020, 1, 1, tzinfo=UTC).timestamp())
END = int(datetime(2041, 1, 1, tzinfo=UTC).timestamp())


class Transition(NamedTuple):
    """A change of the clocks: offsets in seconds, and the first moment of the new one."""

    zone: str
    before: int
    after: int
    moment: int

    @property
    def local(self) -> datetime:
        """What the clocks would show then if they were not changed."""
        return datetime.fromtimestamp(self.moment + self.before, UTC).replace(tzinfo=None)


def offset(zone: ZoneInfo, moment: int) -> int:
    difference = datetime.fromtimestamp(moment, zone).utcoffset()
    assert difference is not None
    return int(difference.total_seconds())


def transitions(name: str) -> Iterator[Transition]:
    zone = ZoneInfo(name)
    known = offset(zone, BEGIN)
    for moment in range(BEGIN + WEEK, END, WEEK):
        now = offset(zone, moment)
        if now != known:
            low, high = moment - WEEK, moment
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(zone, middle) == known else (low, middle)
            yield Transition(name, known, now, high)
            known = now


def distinct() -> list[Transition]:
    """One of each pair of offsets and time of day; and each zone that has any at least once."""
    found: dict[object, Transition] = {}
    for name in sorted(available_timezones() - {"localtime"}):
        if name.startswith(("right/", "posix/")):
            continue
        for each in transitions(name):
            found.setdefault((each.before, each.after, each.local.time()), each)
            found.setdefault(name, each)
    return list(dict.fromkeys(found.values()))


TRANSITIONS = distinct()


def test_there_are_changes_of_every_kind() -> None:
    """By an hour, by half of one, by two; forward and back; at midnight."""
    changes = {each.after - each.before for each in TRANSITIONS}
    assert {HOUR, -HOUR, 1800, -1800, 2 * HOUR, -2 * HOUR} <= changes
    assert any(each.local.hour == 0 for each in TRANSITIONS if each.after > each.before)
    assert len({each.zone for each in TRANSITIONS}) > 150


def shown(zone: ZoneInfo, due: float) -> datetime:
    return datetime.fromtimestamp(due, zone)


def affected(each: Transition) -> Iterator[datetime]:
    """Times of day that are skipped or come twice: the first, one within, the last minute; and
    one before and one after them."""
    size = abs(each.after - each.before)
    first = each.local if each.after > each.before else each.local - timedelta(seconds=size)
    for seconds in (-60, 0, size // 2 // 60 * 60, size - 60, size):
        yield first + timedelta(seconds=seconds)


def test_a_fixed_time_of_day_comes_once_a_day_and_exists() -> None:
    """On the day of the change, the one before and the one after."""
    for each in TRANSITIONS:
        zone = ZoneInfo(each.zone)
        for time in affected(each):
            schedule = Cron(f"{time.minute} {time.hour} * * *", each.zone)
            dues = dues_between(schedule, each.moment - 3 * DAY, each.moment + 3 * DAY, 99)
            days: list[date] = []
            for due in dues:
                local = shown(zone, due)
                # A time of day that is skipped comes with the change itself.
                exact = (local.hour, local.minute) == (time.hour, time.minute)
                assert exact or due == each.moment, (each, time)
                assert local.fold == 0, (each, time)  # the first of two
                # The last hour of a day, skipped, comes with the first moment of the next one.
                days.append(local.date() if exact else time.date())
            assert len(set(days)) == len(days), (each, time)
            day = shown(zone, each.moment).date()
            between = {day + timedelta(days=n) for n in (-1, 0, 1)}
            assert between <= set(days), (each, time)


@pytest.mark.parametrize(("minutes", "expression"), [
    (60, "{m} * * * *"), (15, "*/15 * * * *"), (30, "*/30 {h} * * *"),
])  # fmt: skip
def test_wildcards_come_whenever_the_clock_shows_such_a_time(minutes, expression) -> None:
    """In both hours, and in none that is skipped: as found by looking at the clock each minute."""
    for each in TRANSITIONS:
        zone, begin = ZoneInfo(each.zone), each.moment - 3 * HOUR
        hour, minute = each.local.hour, each.local.minute if minutes == 60 else 0
        schedule = Cron(expression.format(m=minute, h=hour), each.zone)
        expected = [
            float(moment)
            for moment in range(begin + 60 - begin % 60, begin + 6 * HOUR + 1, 60)
            if (local := shown(zone, moment)).minute % minutes == minute % minutes
            and ("{h}" not in expression or local.hour == hour)
            and local.second == 0
        ]
        assert dues_between(schedule, begin, begin + 6 * HOUR, 99) == expected, each


def test_it_is_the_same_from_every_moment() -> None:
    """A process that starts in the middle of a change goes on with what others compute."""
    for each in TRANSITIONS:
        for expression in ("30 2 * * *", f"{each.local.minute} {each.local.hour} * * *", "@hourly"):
            schedule = Cron(expression, each.zone)
            begin, end = each.moment - 3 * HOUR, each.moment + 3 * HOUR
            dues = dues_between(schedule, begin, each.moment + 2 * DAY, 99)
            for moment in range(begin, end, 1200):
                expected = next(due for due in dues if due > moment)
                assert next_after(schedule, moment) == expected, (each, expression, moment)


def test_a_rare_time_is_found_from_far_away() -> None:
    """Over other changes of the clocks between: in the hour that comes twice, its first time."""
    for each in TRANSITIONS:
        zone, day = ZoneInfo(each.zone), each.local
        schedule = Cron(f"*/15 {day.hour} {day.day} {day.month} *", each.zone)
        near = dues_between(schedule, each.moment - DAY, each.moment + 2 * DAY, 99)
        for due in near[:1]:
            for days in (60, 200, 340):
                begin = shown(zone, due - days * DAY).timestamp()
                assert next_after(schedule, begin) == due, (each, days)
