"""Durations: as users give them, within bounds, and as people read them.

They are given as a number of seconds or a `timedelta`; as text only in settings and on the command
line: see `amqpjobs.settings.seconds_of`. Changes when durations are given or shown otherwise.
"""

from datetime import timedelta
from typing import TypeAlias

from amqpjobs.errors import ConfigurationError

LEVELS = 28
"""Of the delays, each a bit of the seconds: see `amqpjobs.jobs.queue.delays`."""

LONGEST_DELAY = 2**LEVELS - 1
"""Seconds: eight and a half years."""

Seconds: TypeAlias = float | timedelta
"""A duration."""


def seconds_from_zero(what: str, given: Seconds) -> float:
    """A duration from 0 to 8.5 years, the longest delay.

    Raises:
        ConfigurationError: it is none, and `what` says where it was given.
    """
    seconds = number_of(given)
    if seconds is None or not 0 <= seconds <= LONGEST_DELAY:
        raise ConfigurationError(
            f"{what} is a number of seconds from 0 to {LONGEST_DELAY} (8.5 years), or a "
            f"timedelta, not {given!r}"
        )
    return seconds


def seconds_above_zero(what: str, given: Seconds, longest: float | None = None) -> float:
    """A duration above 0.

    Raises:
        ConfigurationError: it is none, or longer than that, and `what` says where it was given.
    """
    seconds = number_of(given)
    if seconds is None or not seconds > 0 or (longest is not None and seconds > longest):
        bounds = "above 0" if longest is None else f"above 0 and up to {longest}"
        raise ConfigurationError(
            f"{what} is a number of seconds {bounds}, or a timedelta, not {given!r}"
        )
    return seconds


def number_of(given: object) -> float | None:
    """A duration as a number of seconds; None for what is no duration."""
    if isinstance(given, timedelta):
        return given.total_seconds()
    return given if isinstance(given, int | float) and not isinstance(given, bool) else None


def duration_words(seconds: float) -> str:
    """A duration for people: ``2.2 ms``, ``340 ms``, ``3.4 s``, ``2 min 5 s``, ``1 h 30 min``."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.{1 if seconds < 0.00995 else 0}f} ms"
    if seconds < 59.5:
        return f"{seconds:.{1 if seconds < 9.95 else 0}f} s"
    whole = round(seconds)
    for size, unit, smaller, rest in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min")):
        if whole >= size:
            more = whole % size // smaller
            return f"{whole // size} {unit}" + (f" {more} {rest}" if more else "")
    return f"{whole // 60} min" + (f" {whole % 60} s" if whole % 60 else "")


def ago(seconds: float) -> str:
    """How long ago something was, in one unit: ``12 s ago``, ``3 min ago``; ``in 2 h`` for what is
    to come."""
    distance = abs(seconds)
    for size, unit in ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s")):
        if distance >= size:
            words = f"{distance // size:.0f} {unit}"
            return f"{words} ago" if seconds > 0 else f"in {words}"
    return "now"
