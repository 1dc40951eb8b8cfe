"""What programs give to `App.schedules`, checked. Changes when something else may be given."""

from datetime import datetime

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durations import number_of
from amqpjobs.jobs.schedule.schedule import Schedule, checked_name

LONGEST_NOTE = 500
"""Characters."""


def noted(note: str | None) -> str | None:
    """A note, as far as it is kept."""
    return None if note is None else note[:LONGEST_NOTE]


def check_put(name: str, schedule: Schedule) -> None:
    """See that a schedule may be put under this name.

    Raises:
        ConfigurationError: it may not.
    """
    checked_name("app.schedules.put", name)
    own = getattr(schedule, "name", None)
    if not isinstance(schedule, Schedule):
        raise ConfigurationError(
            f"app.schedules.put takes a Cron(...) or an Every(...), not {schedule!r}"
        )
    if own is not None and own != name:
        raise ConfigurationError(
            f"app.schedules.put({name!r}, ...): the schedule has name={own!r}: leave that out"
        )


def moment_of(what: str, given: datetime | float) -> float:
    """A time as seconds since the epoch.

    Raises:
        ConfigurationError: it has no time zone, or is none.
    """
    if isinstance(given, datetime):
        if given.utcoffset() is None:
            raise ConfigurationError(
                f"{what}={given!r} has no time zone: give it one, such as "
                "datetime(..., tzinfo=ZoneInfo('Europe/Berlin'))"
            )
        return given.timestamp()
    number = number_of(given)
    if number is None:
        raise ConfigurationError(
            f"{what} is a datetime with a time zone, or seconds since the epoch, not {given!r}"
        )
    return number
