"""When a schedule is due: pure, the same in every process.

cronsim gives times of day; which moments these are in a time zone is decided here, by the rules of
Debian's cron, as cronsim has them. Two things differ from cronsim 2.8 (both tried): where clocks
change by half an hour (Lord Howe), it loses 03:00 of ``*/30 3 * * *``; and with six fields it takes
fixed times for wildcards, so that one comes twice, or not at all, on such a day. Changes when what
a time of day means in a zone does.
"""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, tzinfo
from hashlib import blake2b
from itertools import islice, takewhile
from math import floor
from typing import Final

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.expression import is_fixed, times_after
from amqpjobs.jobs.schedule.schedule import Cron, Schedule, jitter_of, zone_name_of
from amqpjobs.jobs.zones import zone_named

EPOCH: Final = datetime(1970, 1, 1)
"""What a clock shows, in no zone."""

A_DAY: Final = 86_400

STEP: Final = 7 * A_DAY
"""Seconds within which no zone changes its clocks twice. Morocco does within five weeks."""

FIRST: Final = -62_135_596_800 + 2 * A_DAY
LAST: Final = 253_402_300_799 - 2 * A_DAY
"""Seconds since the epoch that have a date in every zone."""


def next_after(schedule: Schedule, after: float) -> float | None:
    """The first time after this one at which it is due, in seconds since the epoch; None if there
    is none within 50 years.

    Example:
        >>> next_after(Every(minutes=5), 600.0)
        900.0
    """
    return next(_dues(schedule, after), None)


def dues_between(schedule: Schedule, after: float, until: float, most: int) -> list[float]:
    """When it is due, in seconds since the epoch, the oldest first.

    Args:
        after: itself left out.
        until: itself counted.
        most: the oldest of these, if there are more.
    """
    return list(islice(takewhile(lambda due: due <= until, _dues(schedule, after)), most))


def last_between(schedule: Schedule, after: float, until: float) -> float | None:
    """The last time at which it is due after the one and until the other; None if there is none.
    In few steps, however many there are."""
    # The least moment after which nothing is due until then is the last due itself.
    low, high = floor(after), floor(until)
    if high <= low or not _is_due(schedule, low, until):
        return None
    while high - low > 1:
        middle = (low + high) // 2
        if _is_due(schedule, middle, until):
            low = middle
        else:
            high = middle
    return float(high)


def sent_at(schedule: Schedule, name: str, due: float) -> float:
    """When a job is sent that is due at this time: later by its jitter, which is the same in every
    process.

    Args:
        name: of the schedule.
    """
    jitter = jitter_of(schedule)
    if not jitter:
        return due
    digest = blake2b(f"{name}\0{float(due)!r}".encode(errors="replace"), digest_size=7).digest()
    return due + jitter * (int.from_bytes(digest) / 2**56)


def _is_due(schedule: Schedule, after: float, until: float) -> bool:
    due = next_after(schedule, after)
    return due is not None and due <= until


def _dues(schedule: Schedule, after: float) -> Iterator[float]:
    if not FIRST <= after <= LAST:
        return iter(())
    if not isinstance(schedule, Cron):
        return _multiples(schedule.period, floor(after))
    zone = zone_named(zone_name_of(schedule))
    if zone is None:  # it was there when the schedule was made
        raise ConfigurationError(f"{schedule!r}: its time zone is not on this machine any more")
    if zone is UTC:
        return map(float, map(_seconds, times_after(schedule.expression, _local(floor(after), 0))))
    if is_fixed(schedule.expression):
        return _fixed(schedule.expression, zone, floor(after))
    return _repeated(schedule.expression, zone, floor(after))


def _multiples(period: int, after: int) -> Iterator[float]:
    due = after // period * period
    while (due := due + period) <= LAST:
        yield float(due)


def _fixed(expression: str, zone: tzinfo, after: int) -> Iterator[float]:
    """Each time of day once: the first of two, and for one that is skipped the moment of the
    change."""
    last = after
    for time in times_after(expression, _local(after, _offset(zone, after))):
        seconds = _seconds(time)
        if not FIRST <= seconds <= LAST:
            return
        first = seconds - _offset_at(zone, time, fold=0)
        second = seconds - _offset_at(zone, time, fold=1)
        # A time that is skipped would be before the change by the later offset.
        moment = first
        if first > second and (change := _change(zone, second, first)) is not None:
            moment = change
        if moment > last:
            yield float(moment)
            last = moment


def _repeated(expression: str, zone: tzinfo, after: int) -> Iterator[float]:
    """All moments at which the clock shows such a time. From one change of the clock to the next
    the offset is the same."""
    begin, seen = after, after
    changed: int | None = after
    while changed is not None:
        offset, changed = _offset(zone, seen), None
        for time in times_after(expression, _local(begin, offset)):
            moment = _seconds(time) - offset
            if not FIRST <= moment <= LAST:
                return
            if (changed := _change(zone, seen, moment)) is not None:
                # From the moment of the change on, itself included.
                begin, seen = changed - 1, changed
                break
            yield float(moment)
            seen = moment


def _change(zone: tzinfo, begin: int, end: int) -> int | None:
    """The first moment after the one, until the other, at which the offset is another; None if
    there is none. Zones do not tell their changes; see `STEP`."""
    offset = _offset(zone, begin)
    while begin < end:
        step = min(begin + STEP, end)
        if _offset(zone, step) != offset:
            while step - begin > 1:
                middle = (begin + step) // 2
                if _offset(zone, middle) == offset:
                    begin = middle
                else:
                    step = middle
            return step
        begin = step
    return None


def _offset(zone: tzinfo, moment: int) -> int:
    """Seconds by which clocks there are ahead of UTC at this moment."""
    return _whole(datetime.fromtimestamp(moment, zone).utcoffset())


def _offset_at(zone: tzinfo, time: datetime, fold: int) -> int:
    """The same when clocks there show this time, for the first or the second time."""
    return _whole(time.replace(tzinfo=zone, fold=fold).utcoffset())


def _whole(offset: timedelta | None) -> int:
    return floor(offset.total_seconds()) if offset is not None else 0


def _local(moment: int, offset: int) -> datetime:
    return EPOCH + timedelta(seconds=moment + offset)


def _seconds(time: datetime) -> int:
    """What a clock shows, as seconds since it showed the epoch."""
    passed = time - EPOCH
    return passed.days * A_DAY + passed.seconds
