"""A schedule in words, for people. Changes when it is said otherwise."""

from typing import Final

from amqpjobs.jobs.schedule.expression import explained, fields_of
from amqpjobs.jobs.schedule.schedule import Cron, Schedule, zone_name_of

_DAYS: Final = {
    "1-5": "every weekday",
    "mon-fri": "every weekday",
    "0,6": "every Saturday and Sunday",
    "6,0": "every Saturday and Sunday",
    "6-7": "every Saturday and Sunday",
    "6,7": "every Saturday and Sunday",
    "sat,sun": "every Saturday and Sunday",
    "sun,sat": "every Saturday and Sunday",
}

_WEEK: Final = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")

_UNITS: Final = ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second"))

_EVERY_DAY: Final = " every day"


def words_of(schedule: Schedule) -> str:
    """When a schedule is due, in words.

    Example:
        >>> words_of(Cron("0 7 * * mon-fri", tz="Europe/Berlin"))
        'every weekday at 07:00 Europe/Berlin'
        >>> words_of(Every(minutes=5))
        'every 5 minutes'
    """
    if isinstance(schedule, Cron):
        return f"{_cron_words(schedule.expression)} {zone_name_of(schedule)}"
    period = schedule.period
    for size, unit in _UNITS:
        if period == size:
            return f"every {unit}"
        if period % size == 0:
            return f"every {period // size} {unit}s"
    raise AssertionError(period)


def _cron_words(expression: str) -> str:
    *times, day, month, weekday = fields_of(expression)
    step = _step(times[-2]) if times[:-2] in ([], ["0"]) else None
    if step and times[-1] == day == month == weekday == "*":
        return f"every {step} minutes"
    if day == month == "*":
        words = explained(" ".join((*times, "*", "*", "*")))
        days = _days(weekday.lower())
        # At up to four times of a day; else cronsim's words for the days fit better.
        if days and words.startswith("at ") and words.endswith(_EVERY_DAY):
            return f"{days} {words.removesuffix(_EVERY_DAY)}"
    return explained(expression)


def _step(minute: str) -> int | None:
    """The minutes of ``*/5``, if they are the same in each hour; None for anything else."""
    star, _, step = minute.partition("/")
    if star == "*" and step.isdecimal() and step.isascii() and 1 < int(step) < 60:
        return int(step) if 60 % int(step) == 0 else None
    return None


def _days(weekday: str) -> str | None:
    if weekday == "*":
        return "every day"
    if weekday in _DAYS:
        return _DAYS[weekday]
    if weekday.isdecimal() and weekday.isascii():
        return f"every {_WEEK[int(weekday) % 7]}"
    return next((f"every {day}" for day in _WEEK if day[:3].lower() == weekday), None)
