"""Cron expressions: read and explained by cronsim, which is imported where one is used.

Changes when an expression may say something else, or when its errors are worded otherwise.
"""

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import did_you_mean

LONGEST: Final = 200
"""Characters."""

WORDS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Of Debian's crontab(5). ``@reboot`` is no time."""

FIELDS: Final = {
    "second": "0 to 59, such as 30, 0-29 or */10",
    "minute": "0 to 59, such as 30, 0-29 or */10",
    "hour": "0 to 23, such as 7, 9-17 or */2",
    "day-of-month": "1 to 31, such as 1, 1-7 or */2; L is the last day, LW the last weekday",
    "month": "1 to 12 or jan to dec, such as 6, jan-mar or */3",
    "day-of-week": (
        "0 to 7 or sun to sat (0 and 7 are Sunday), such as mon-fri or sat,sun; 1#2 is the second "
        "Monday of a month, 5L the last Friday"
    ),
}
"""By the names that cronsim has for them, in their order: what may be written."""

_ORDINALS: Final = {"1": "st", "2": "nd", "3": "rd"}

_BEGIN: Final = datetime(2000, 1, 1)
"""From here on: cronsim looks for 50 years, and the calendar comes again after 28."""


def checked_expression(given: object) -> str:
    """An expression that fires, with single spaces.

    Raises:
        ConfigurationError: it is none; says which field is wrong, where, and what to write.
    """
    if not isinstance(given, str):
        raise ConfigurationError(
            f"Cron takes a cron expression, such as '0 7 * * *', not {given!r}"
        )
    if len(given) > LONGEST:
        raise ConfigurationError(
            f"Cron: the expression has {len(given)} characters, and {LONGEST} is the limit: use "
            "ranges, or several schedules on one job"
        )
    if given.strip().startswith("@"):
        return _checked_word(given)
    fields = given.split()
    if len(fields) not in (5, 6):
        raise ConfigurationError(
            f"Cron({given!r}) has {len(fields)} fields: write five, minute hour day-of-month month "
            "day-of-week, such as '0 7 * * mon-fri'; or six, with the seconds in front"
        )
    problem = _problem_with(given, fields)
    if problem:
        raise ConfigurationError(f"Cron({given!r}): {problem}")
    return " ".join(fields)


def fields_of(expression: str) -> list[str]:
    """The five or six fields of an expression that was checked."""
    return WORDS.get(expression, expression).split()


def is_fixed(expression: str) -> bool:
    """Whether it names times of day, as Debian's cron has it: by whether a field begins with
    ``*``. Daylight saving treats these differently."""
    times = fields_of(expression)[:-3]
    return not any(each.startswith("*") for each in times)


def times_after(expression: str, after: datetime) -> Iterator[datetime]:
    """The times of day, in no zone, that an expression means, from the first after this one on.
    Ends where there is none within 50 years, or where the calendar ends."""
    from cronsim import CronSim

    times = CronSim(" ".join(fields_of(expression)), after)
    while True:
        try:
            found = next(times)
        except (StopIteration, OverflowError, ValueError):
            return
        yield found


def explained(expression: str) -> str:
    """What an expression means, in words: ``at 07:00 every day``."""
    from cronsim import CronSim

    try:
        words = CronSim(" ".join(fields_of(expression)), _BEGIN).explain()
    except (ValueError, LookupError, NotImplementedError):
        return f"at {expression}"  # what cronsim computes and cannot put into words
    # cronsim 2.8 says 31th.
    words = re.sub(r"\b([23])([123])th\b", lambda m: m[0][:2] + _ORDINALS[m[2]], words)
    return words[0].lower() + words[1:]


def _checked_word(given: str) -> str:
    word = given.strip().lower()
    if word not in WORDS:
        raise ConfigurationError(
            f"Cron({given!r}): there are {', '.join(WORDS)}{did_you_mean(word, WORDS, '@')}"
        )
    return word


def _problem_with(given: str, fields: list[str]) -> str | None:
    names = list(FIELDS)[-len(fields) :]
    for number, (name, text) in enumerate(zip(names, fields, strict=True)):
        alone = ["*"] * len(fields)
        alone[number] = text
        if not _is_readable(alone):
            return _wrong_field(given, number, name, text, len(fields))
    if not _is_readable(fields) or next(times_after(" ".join(fields), _BEGIN), None) is None:
        return f"never: none of the months {fields[-2]!r} has a day {fields[-3]!r}"
    return None


def _wrong_field(given: str, number: int, name: str, text: str, count: int) -> str:
    """Which part of a list is wrong, and where."""
    at = _begin_of(given, number)
    for term in text.split(","):
        alone = ["*"] * count
        alone[number] = term or "-"
        if not _is_readable(alone):
            break
        at += len(term) + 1
    hint = "; * is any" if "?" in term else "; a range goes upwards" if "-" in term else ""
    return (
        f"its field {number + 1}, the {name}, has {term!r} at character {at + 1}: write "
        f"{FIELDS[name]}{hint}"
    )


def _begin_of(given: str, number: int) -> int:
    """Where a field begins."""
    at, text = 0, given
    for each in given.split()[: number + 1]:
        at = text.index(each, at)
        begin, at = at, at + len(each)
    return begin


def _is_readable(fields: list[str]) -> bool:
    from cronsim import CronSim, CronSimError

    try:
        CronSim(" ".join(fields), _BEGIN)
    except (CronSimError, ValueError, AssertionError):
        return False
    return True
