"""What a job of a schedule knows of its tick, as a value and as a header has it.

Changes when a tick says something else.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias, TypeGuard, get_args

from amqpjobs.jobs.message.properties import FieldValue, is_whole
from amqpjobs.jobs.zones import zone_named

How: TypeAlias = Literal["cron", "missed", "run_now", "backfill"]
"""Why a job was sent: it was due; it had been due while nothing sent it; a person wanted it now;
or for a time that has passed."""

HOWS: Final[Mapping[str, How]] = {how: how for how in get_args(How)}

LONGEST_SCHEDULE: Final = 600
"""Characters of the name of a schedule that are taken."""

LAST_DUE: Final = 253_370_764_800_000
"""Milliseconds since the epoch: the begin of the year 9999. Later times have no date in Python in
every zone."""


@dataclass(frozen=True, slots=True)
class Tick:
    """Which tick of which schedule a job was sent for: ``ctx.tick``. The same in every run of it.

    Attributes:
        schedule: the name of the schedule.
        due: when the job was due, in seconds since the epoch. The time that the schedule says,
            however late the job runs: without jitter.
        previous: the tick before this one, in seconds since the epoch; None for the first. A job
            that works on what has come since then leaves no gap.
        how: ``"cron"``: it was due. ``"missed"``: it had been due while nothing could send it.
            ``"run_now"``: somebody wanted it then. ``"backfill"``: for a time that had passed.
        tz: the name of the schedule's time zone.

    Example:
        >>> tick = Tick("report", 1785474000.0, None, "cron", "Europe/Berlin")
        >>> tick.due_time.isoformat()
        '2026-07-31T07:00:00+02:00'
    """

    schedule: str
    due: float
    previous: float | None = None
    how: How = "cron"
    tz: str = "UTC"

    @property
    def due_time(self) -> datetime:
        """When the job was due, as a time in the zone of the schedule.

        Example:
            >>> Tick("report", 1785474000.0).due_time.hour
            5
        """
        return datetime.fromtimestamp(self.due, zone_named(self.tz) or UTC)


def tick_table(tick: Tick) -> dict[str, FieldValue]:
    """A tick as a header has it; times to the millisecond."""
    table: dict[str, FieldValue] = {
        "schedule": tick.schedule, "due": round(tick.due * 1000), "how": tick.how, "tz": tick.tz
    }  # fmt: skip
    if tick.previous is not None:
        table["previous"] = round(tick.previous * 1000)
    return table


def tick_from(table: FieldValue) -> Tick | None:
    """The tick in a header; None if it is none. Strangers may have written it: a handler gets what
    makes sense as a whole, or nothing."""
    if not isinstance(table, Mapping):
        return None
    schedule, how, tz = table.get("schedule"), table.get("how"), table.get("tz", "UTC")
    if not (isinstance(schedule, str) and isinstance(how, str) and isinstance(tz, str)):
        return None
    due, previous = table.get("due"), table.get("previous")
    if not _is_moment(due) or not 1 <= len(schedule) <= LONGEST_SCHEDULE:
        return None
    if not schedule.isprintable() or how not in HOWS or zone_named(tz) is None:
        return None
    if previous is None:
        return Tick(schedule, due / 1000, None, HOWS[how], tz)
    if not _is_moment(previous) or previous > due:
        return None
    return Tick(schedule, due / 1000, previous / 1000, HOWS[how], tz)


def _is_moment(value: FieldValue) -> TypeGuard[int]:
    return is_whole(value) and 0 <= value < LAST_DUE
