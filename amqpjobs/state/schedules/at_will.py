"""Sends jobs of a schedule because a person wants it: now, or for times that have passed.

Both are ticks: asked for twice, they are sent once. Changes when a person may want something else.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Connection, select

from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.schedule.dues import dues_between, last_between
from amqpjobs.jobs.schedule.schedule import Schedule
from amqpjobs.jobs.schedule.status import UNKNOWN_JOB, UNREADABLE
from amqpjobs.state.schedules import running
from amqpjobs.state.schedules.firing import (
    add_all,
    tick_of,
    tick_values,
    write_ticks,
)
from amqpjobs.state.schedules.messages import job_id_of, message_for
from amqpjobs.state.schedules.rows import Kept, kept_of, known, set_columns, time_now
from amqpjobs.state.store.tables import ticks

MOST = 1_000
"""Times that one backfill sends."""

LONGEST_GAP = 366 * 86_400
"""Seconds that are looked through for the time before the first."""


class Wanted(NamedTuple):
    """A job that was sent because somebody wanted it.

    Attributes:
        job_id: its id.
        job: its name.
        queue: the AMQP queue.
    """

    job_id: str
    job: str
    queue: str


def run_now(
    connection: Connection,
    app: str,
    name: str,
    jobs: Sequence[str],
    now: ColumnElement[float],
) -> Wanted:
    """Send a job of a schedule now, whether it is paused, or its last job runs. Twice in one second
    is once.

    Raises:
        ConfigurationError: there is no such schedule, or its job is not known here.
    """
    kept, schedule = _usable(connection, app, name, jobs)
    moment = time_now(connection, now)
    due = float(int(moment))
    job_id = job_id_of(app, name, due, "run_now")
    if write_ticks(connection, [tick_values(app, name, due, "run_now", "sent", moment)]):
        tick = tick_of(kept, schedule, due, "run_now", kept.last_at)
        message = message_for(kept.template, app, tick, moment, moment)
        add_all(connection, app, [message], moment)
        if schedule.overlap != "allow":
            running.hold(connection, app, [(name, message.job, job_id)], moment)
        set_columns(connection, app, name, last_at=due)
    return Wanted(job_id, kept.template.job, kept.template.routing_key)


def backfill(
    connection: Connection,
    app: str,
    name: str,
    jobs: Sequence[str],
    begin: float,
    end: float,
    now: ColumnElement[float],
) -> list[Wanted]:
    """Send the jobs of the times from the one to the other that were not sent, the oldest first.

    Args:
        begin: seconds since the epoch, itself counted.
        end: the same. What is still to come is left out.

    Returns:
        Those that are sent now.

    Raises:
        ConfigurationError: there is no such schedule, its job is not known here, or there are too
            many times.
    """
    kept, schedule = _usable(connection, app, name, jobs)
    moment = time_now(connection, now)
    # What comes later is the ticker's, which decides about what was missed.
    until = min(end, moment if kept.next_at is None else min(moment, kept.next_at - 1))
    dues = dues_between(schedule, begin - 1, until, MOST + 1)
    dues = [due for due in dues if due >= begin]
    if len(dues) > MOST:
        raise ConfigurationError(
            f"the schedule {name!r} was due more than {MOST} times in that period: backfill it in "
            "parts"
        )
    there = ticks.c.due_at.between(begin, end) & ticks.c.outcome.in_(("sent", "waiting"))
    mine = (ticks.c.app == app) & (ticks.c.schedule == name) & (ticks.c.how != "run_now")
    sent = set(connection.scalars(select(ticks.c.due_at).where(mine, there)))
    dues = [due for due in dues if due not in sent]
    values = [tick_values(app, name, due, "backfill", "sent", moment) for due in dues]
    written = write_ticks(connection, values)
    messages = [
        _backfilled(app, kept, schedule, due, moment) for due in dues if (name, due) in written
    ]
    add_all(connection, app, messages, moment)
    return [Wanted(each.job_id, each.job, each.routing_key) for each in messages]


def _backfilled(app: str, kept: Kept, schedule: Schedule, due: float, moment: float) -> Prepared:
    before = last_between(schedule, due - LONGEST_GAP, due - 1)
    tick = tick_of(kept, schedule, due, "backfill", before)
    return message_for(kept.template, app, tick, moment, moment)


def _usable(
    connection: Connection, app: str, name: str, jobs: Sequence[str]
) -> tuple[Kept, Schedule]:
    row: Any = known(connection, app, name)
    kept = kept_of(row)
    if kept.schedule is None:
        raise ConfigurationError(f"the schedule {name!r} cannot be read: {UNREADABLE}")
    if kept.template.job not in jobs:
        raise ConfigurationError(
            f"the schedule {name!r} is of {kept.template.job!r}: {UNKNOWN_JOB}"
        )
    return kept, kept.schedule
