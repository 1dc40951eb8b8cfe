"""What is known of a schedule and of its ticks, as values. Changes when more is."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal, TypeAlias

from amqpjobs.jobs.message.tick import How
from amqpjobs.jobs.schedule.schedule import Schedule, zone_name_of
from amqpjobs.jobs.zones import zone_named

TickOutcome: TypeAlias = Literal["sent", "skipped", "waiting"]
"""What became of a tick: its job was sent; or was not, for a reason; or waits for the end of the
one before (``overlap="queue_one"``)."""

UNKNOWN_JOB: Final = "no job of this name here: it is not sent"
"""What is wrong with a schedule whose job the process does not have."""

UNREADABLE: Final = "a newer release has written it: update amqpjobs here"
"""What is wrong with a schedule that cannot be read."""


@dataclass(frozen=True, slots=True)
class TickRecord:
    """One time of a schedule, and what became of it.

    Attributes:
        schedule: the name of the schedule.
        due: when it was due, in seconds since the epoch.
        how: ``cron``, ``missed``, ``run_now`` or ``backfill``: see `Tick`.
        outcome: ``sent``, ``skipped`` or ``waiting``.
        reason: why, where it was not sent.
        job_id: of its job, sent or not: the same for the same time of the schedule.
        at: when that was decided, in seconds since the epoch.

    Example:
        >>> tick = TickRecord("report", 1785474000.0, "cron", "sent", None, "0198", 1785474000.1)
        >>> tick.outcome
        'sent'
    """

    schedule: str
    due: float
    how: How
    outcome: TickOutcome
    reason: str | None
    job_id: str
    at: float


@dataclass(frozen=True, slots=True)
class ScheduleStatus:
    """What is known of a schedule: what ``app.schedules`` returns. Times are seconds since the
    epoch.

    Attributes:
        name: of the schedule.
        job: the name of its job.
        schedule: when it is due; None if a newer release has written it.
        words: the same in words: ``every weekday at 07:00 Europe/Berlin``.
        in_code: whether it is of ``schedule=`` in the code; else it was put at run time.
        next: when it is due next; None if it is paused for good, retired, or never due again.
        last: its last tick: the newest time that was due, sent or skipped; None before the first.
        job_state: of the job of that tick, as its status has it; None if it is not recorded.
        running: the id of the job that it sent last, if that has not ended; None if it has, or with
            ``overlap="allow"``, where nobody looks.
        running_until: after this time it counts as ended, whatever has become of it.
        paused: whether it is paused now.
        paused_until: when that ends by itself; None if it does not.
        note: why, in the words of who has paused it.
        retired: whether it is gone from the code.
        problem: why it does not fire, though it is due; None if nothing is wrong.

    Example:
        >>> status = await app.schedules.put("tenant-7", Cron("@daily"), build_report.message(7))
        >>> status.words
        'every day at 00:00 UTC'
    """

    name: str
    job: str
    schedule: Schedule | None
    words: str
    in_code: bool
    next: float | None = None
    last: TickRecord | None = None
    job_state: str | None = None
    running: str | None = None
    running_until: float | None = None
    paused: bool = False
    paused_until: float | None = None
    note: str | None = None
    retired: bool = False
    problem: str | None = None

    @property
    def tz(self) -> str:
        """The name of its time zone.

        Example:
            >>> status.tz
            'UTC'
        """
        return "UTC" if self.schedule is None else zone_name_of(self.schedule)

    def time_of(self, moment: float) -> datetime:
        """A moment as a time in its zone.

        Args:
            moment: seconds since the epoch, such as `next`.

        Example:
            >>> status.time_of(status.next).hour
            0
        """
        return datetime.fromtimestamp(moment, zone_named(self.tz) or UTC)
