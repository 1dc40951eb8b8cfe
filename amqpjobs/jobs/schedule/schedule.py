"""What ``schedule=`` of ``@app.job`` takes: `Cron` and `Every`.

Changes when a schedule has another option.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import LONGEST_DELAY, Seconds, number_of, seconds_from_zero
from amqpjobs.jobs.hints import did_you_mean, install
from amqpjobs.jobs.schedule.expression import checked_expression
from amqpjobs.jobs.zones import LONGEST_NAME as LONGEST_ZONE
from amqpjobs.jobs.zones import UTC, all_zones, zone_named

if TYPE_CHECKING:
    from zoneinfo import ZoneInfo

Missed: TypeAlias = Literal["latest", "skip", "all"]
"""What follows when a schedule was due while nothing could send its job."""

Overlap: TypeAlias = Literal["skip", "allow", "queue_one"]
"""What follows when it is due while the job that it sent last has not ended."""

A_DAY: Final = timedelta(days=1)

LONGEST_JITTER: Final = 86_400
"""Seconds."""

LONGEST_NAME: Final = 200
"""Characters of the name of a schedule that a user gives."""


@dataclass(frozen=True, slots=True, repr=False)
class Cron:
    """Send a job at the times of a cron expression.

    Daylight saving is as in Debian's cron. A job at fixed times runs once for each of them: one in
    the hour that is skipped runs when that hour would have begun, one in the hour that comes twice
    runs in the first. One whose minute or hour begins with ``*`` runs whenever the clock shows such
    a time: in both hours, and in none that is skipped.

    Args:
        expression: minute, hour, day of month, month, day of week, as in crontab(5), with ``L``,
            ``LW``, ``5L`` and ``1#2``; with seconds in front if there are six. If both days are
            given, one of them suffices. Or ``@hourly``, ``@daily``, ``@midnight``, ``@weekly``,
            ``@monthly``, ``@yearly``, ``@annually``.
        tz: the time zone, such as ``"Europe/Berlin"``, or a `zoneinfo.ZoneInfo`; None for UTC.
        missed: what follows when it was due while nothing could send its job, as in a deploy or
            while the store was away. ``"latest"``: the newest time is made up for. ``"skip"``: none
            is. ``"all"``: each is, the oldest first, the newest 100 at most.
        within: seconds, or a timedelta: what was due longer ago is not made up for.
        overlap: what follows when it is due while the job that it sent last waits or runs.
            ``"skip"``: this time is left out. ``"allow"``: it is sent. ``"queue_one"``: one is
            sent when that has ended, however many times have passed.
        jitter: seconds, or a timedelta: send each job up to so much later, so that not all
            schedules start at the full minute. The same delay in every process for a time.
        name: of the schedule; None for the job's name, then ``#2`` and so on for further ones of
            it. With a name, pauses and history stay with a schedule when others are added.

    Raises:
        ConfigurationError: an expression, a zone or an option that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="reports", schedule=Cron("0 7 * * mon-fri", tz="Europe/Berlin"))
        ... async def report(ctx: Context) -> None: ...
    """

    expression: str
    tz: "str | ZoneInfo | None" = None
    missed: Missed = field(default="latest", kw_only=True)
    within: Seconds = field(default=A_DAY, kw_only=True)
    overlap: Overlap = field(default="skip", kw_only=True)
    jitter: Seconds = field(default=0.0, kw_only=True)
    name: str | None = field(default=None, kw_only=True)

    def __post_init__(self) -> None:
        expression = checked_expression(self.expression)
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "tz", _checked_zone(f"Cron({expression!r})", self.tz))
        _check_policy(self, f"Cron({expression!r})", LONGEST_JITTER)

    def __repr__(self) -> str:
        return f"Cron({self.expression!r}, tz={self.tz!r}{_options_of(self)})"


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class Every:
    """Send a job each time that so much time has passed.

    It counts elapsed time from 1970-01-01 00:00 UTC, so that every process finds the same times,
    and a restart moves none: ``Every(minutes=5)`` is due at :00, :05, :10; ``Every(days=1)`` at
    midnight UTC. For a time of day in a time zone use `Cron`.

    Args:
        seconds, minutes, hours, days: the time between two jobs, added up; a whole number of
            seconds, 1 at least.
        jitter: seconds, or a timedelta, below that time: send each job up to so much later. The
            same delay in every process for a time.
        missed: see `Cron`.
        within: see `Cron`.
        overlap: see `Cron`.
        name: see `Cron`.

    Raises:
        ConfigurationError: a time or an option that cannot be.

    Example:
        >>> app = App("shop")
        >>> @app.job(queue="poll", schedule=Every(minutes=5, jitter=10))
        ... async def poll() -> None: ...
    """

    seconds: float = field(default=0, compare=False)
    minutes: float = field(default=0, compare=False)
    hours: float = field(default=0, compare=False)
    days: float = field(default=0, compare=False)
    period: int = field(init=False)
    """The time between two jobs, in seconds."""
    missed: Missed = "latest"
    within: Seconds = A_DAY
    overlap: Overlap = "skip"
    jitter: Seconds = 0.0
    name: str | None = None

    def __post_init__(self) -> None:
        given = {name: getattr(self, name) for name in ("days", "hours", "minutes", "seconds")}
        written = ", ".join(f"{name}={value!r}" for name, value in given.items() if value != 0)
        object.__setattr__(self, "period", _period_of(given, f"Every({written})"))
        _check_policy(self, f"Every({written})", self.period)

    def __repr__(self) -> str:
        return f"Every(seconds={self.period}{_options_of(self)})"


Schedule: TypeAlias = Cron | Every
"""When a job is due."""

GivenSchedules: TypeAlias = Schedule | Sequence[Schedule] | None
"""What ``schedule=`` takes."""


def within_of(schedule: Schedule) -> float:
    """Seconds for which what was missed is made up for."""
    return number_of(schedule.within) or 0.0


def jitter_of(schedule: Schedule) -> float:
    """Seconds by which a job is sent later, at most."""
    return number_of(schedule.jitter) or 0.0


def zone_name_of(schedule: Schedule) -> str:
    """The name of its time zone."""
    return schedule.tz if isinstance(schedule, Cron) and isinstance(schedule.tz, str) else UTC


def _options_of(schedule: Schedule) -> str:
    """What differs from the defaults, as it is written in a call."""
    options: dict[str, Any] = {
        "jitter": 0.0, "missed": "latest", "within": 86_400.0, "overlap": "skip", "name": None
    }  # fmt: skip
    return "".join(
        f", {name}={value!r}"
        for name, default in options.items()
        if (value := getattr(schedule, name)) != default
    )


def _period_of(given: dict[str, Any], what: str) -> int:
    numbers = [number_of(value) for value in given.values()]
    if any(
        number is None or isinstance(value, timedelta)
        for number, value in zip(numbers, given.values(), strict=True)
    ):
        raise ConfigurationError(
            f"{what}: days, hours, minutes and seconds are numbers: write Every(minutes=5)"
        )
    period = sum(
        (number or 0) * size for number, size in zip(numbers, (86_400, 3600, 60, 1), strict=True)
    )
    # `not` around the whole: NaN fits no comparison.
    forward = all((number or 0) >= 0 for number in numbers)
    if not (forward and 1 <= period <= LONGEST_DELAY and abs(period - round(period)) < 1e-6):
        raise ConfigurationError(
            f"{what} is a whole number of seconds from 1 to {LONGEST_DELAY} (8.5 years), not "
            f"{period!r}: write Every(seconds=10) or Every(hours=1, minutes=30)"
        )
    return round(period)


def _checked_zone(what: str, tz: object) -> str:
    if tz is None:
        return UTC
    name = getattr(tz, "key", tz)
    if not isinstance(name, str):
        raise ConfigurationError(
            f"{what}: tz is the name of a time zone, such as 'Europe/Berlin', or a ZoneInfo with a "
            f"name, not {tz!r}: other processes look it up by its name; None is UTC"
        )
    if name == UTC or zone_named(name) is not None:
        return name
    there = all_zones()
    if not there:
        raise ConfigurationError(
            f"{what}: this machine has no time zones, so tz={name[:LONGEST_ZONE]!r} is unknown: "
            f"{install('tzdata')}, or leave tz out for UTC"
        )
    near = did_you_mean(name, there) if len(name) <= LONGEST_ZONE else ""
    raise ConfigurationError(
        f"{what}: there is no time zone {name[:LONGEST_ZONE]!r}{near or _nearest_city(name, there)}"
    )


def _nearest_city(name: str, there: list[str]) -> str:
    """For a zone that is given by its city alone."""
    city = name.rpartition("/")[2].replace(" ", "_").lower()
    found = next((each for each in there if city and each.lower().endswith(f"/{city}")), None)
    return f"; did you mean {found!r}?" if found else "; names are like 'Europe/Berlin'"


def _check_policy(schedule: Schedule, what: str, longest_jitter: int) -> None:
    for option, words in (("missed", get_args(Missed)), ("overlap", get_args(Overlap))):
        value = getattr(schedule, option)
        if value not in words:
            raise ConfigurationError(
                f"{what}: {option} is {', '.join(map(repr, words[:-1]))} or {words[-1]!r}, not "
                f"{value!r}"
            )
    within = float(seconds_from_zero(f"{what}: within", schedule.within))
    jitter = number_of(schedule.jitter)
    if jitter is None or not (0 <= jitter < longest_jitter):
        raise ConfigurationError(
            f"{what}: jitter is a number of seconds from 0 and below {longest_jitter}, or a "
            f"timedelta, not {schedule.jitter!r}"
        )
    object.__setattr__(schedule, "within", within)
    object.__setattr__(schedule, "jitter", float(jitter))
    if schedule.name is not None:
        checked_name(what, schedule.name)


def checked_name(what: str, name: object) -> None:
    """See that a schedule may have this name.

    Args:
        what: has it, for the error.

    Raises:
        ConfigurationError: it may not.
    """
    if not _is_name(name):
        raise ConfigurationError(
            f"{what}: name is text of 1 to {LONGEST_NAME} characters that can be read, without "
            f"spaces around it, not {name!r}"
        )


def _is_name(name: object) -> bool:
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME:
        return False
    return name.isprintable() and name == name.strip()
