"""The rows of schedules: put, paused, resumed, removed. All are functions of a connection.

Changes when a schedule may be told something else at run time.
"""

import json
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, delete, func, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import did_you_mean
from amqpjobs.jobs.schedule.dues import next_after
from amqpjobs.jobs.schedule.schedule import Schedule
from amqpjobs.jobs.schedule.spec import schedule_of, spec_of
from amqpjobs.state.outbox.rows import properties_in
from amqpjobs.state.store.tables import schedules, ticks
from amqpjobs.state.store.upsert import insert_into

MOST = 10_000
"""Schedules of an app."""


@dataclass(frozen=True, slots=True)
class Kept:
    """A schedule as its row has it.

    Attributes:
        name: of the schedule.
        schedule: when it is due; None if it cannot be read here.
        template: its message.
        next_at: when it is due next.
        last_at: the last time whose job was sent.
        waiting_at: the time whose job waits for the end of the one before.
    """

    name: str
    schedule: Schedule | None
    template: Prepared
    next_at: float | None
    last_at: float | None
    waiting_at: float | None


def kept_of(row: Any) -> Kept:
    """A row as a value."""
    properties = properties_in(row.properties)
    template = Prepared(
        "", row.job, row.routing_key, properties, bytes(row.body), None, row.tracked
    )
    return Kept(
        row.name, read_spec(row.spec), template, row.next_at, row.last_at, row.waiting_at
    )  # fmt: skip


def read_spec(text: str) -> Schedule | None:
    """The schedule in a column; None if it cannot be read here."""
    try:
        return schedule_of(json.loads(text))
    except (ConfigurationError, ValueError):
        return None


def spec_text(schedule: Schedule) -> str:
    """The same text for equal schedules. Their names are columns."""
    return json.dumps(spec_of(replace(schedule, name=None)), sort_keys=True)


def columns_of(schedule: Schedule, template: Prepared) -> dict[str, Any]:
    """What a schedule is: two with the same values are one."""
    return {
        "job": template.job,
        "spec": spec_text(schedule),
        "routing_key": template.routing_key,
        "properties": encode_properties(template.properties),
        "body": template.body,
        "tracked": template.tracked,
    }


def time_now(connection: Connection, now: ColumnElement[float]) -> float:
    """The time of the database."""
    return float(connection.scalar(select(now)) or 0.0)


def locked(connection: Connection, app: str, name: str) -> Any:
    """The row of a schedule, which nobody else changes until the transaction ends; None if there is
    none."""
    mine = (schedules.c.app == app) & (schedules.c.name == name)
    return connection.execute(select(schedules).where(mine).with_for_update()).first()


def known(connection: Connection, app: str, name: str) -> Any:
    """The same.

    Raises:
        ConfigurationError: there is none; says which there are.
    """
    row = locked(connection, app, name)
    if row is None:
        raise unknown(connection, app, name)
    return row


def unknown(connection: Connection, app: str, name: str) -> ConfigurationError:
    """What is wrong with a name that no schedule has."""
    some = select(schedules.c.name).where(schedules.c.app == app).limit(200)
    there = sorted(connection.scalars(some))
    listed = ", ".join(there[:20]) + (", ..." if len(there) > 20 else "")
    hint = did_you_mean(name, there)
    return ConfigurationError(f"there is no schedule {name!r}; there are: {listed or 'none'}{hint}")


def set_columns(connection: Connection, app: str, name: str, **values: Any) -> None:
    """Change a row."""
    mine = (schedules.c.app == app) & (schedules.c.name == name)
    connection.execute(update(schedules).where(mine).values(**values))


def put(
    connection: Connection,
    app: str,
    name: str,
    schedule: Schedule,
    template: Prepared,
    now: ColumnElement[float],
) -> None:
    """Add a schedule, or replace one of this name that was put before. One whose times are others
    begins anew from now; a pause stays.

    Raises:
        ConfigurationError: one of this name is in the code; or there are too many.
    """
    row, moment = locked(connection, app, name), time_now(connection, now)
    values = columns_of(schedule, template)
    if row is not None and row.in_code and row.retired_at is None:
        raise ConfigurationError(
            f"the schedule {name!r} is in the code (schedule= of the job {row.job!r}): change it "
            "there, or put one of another name"
        )
    if row is None:
        _check_count(connection, app)
        values |= {"app": app, "name": name, "since": moment}
        values["next_at"] = next_after(schedule, moment)
        statement = insert_into(connection, schedules).values(**values)
        connection.execute(
            statement.on_conflict_do_update(  # another has put it in this very moment
                index_elements=[schedules.c.app, schedules.c.name], set_=values
            )
        )
        return
    if row.spec != values["spec"] or row.retired_at is not None:
        forget_waiting(connection, app, name, row.waiting_at, "the schedule was changed")
        values |= {"since": moment, "waiting_at": None}
        values["next_at"] = next_of(schedule, moment, row.paused_at, row.paused_until)
    set_columns(connection, app, name, in_code=False, release=None, retired_at=None, **values)


def next_of(
    schedule: Schedule, moment: float, paused_at: float | None, paused_until: float | None
) -> float | None:
    """When a schedule is due next, as it is paused."""
    if paused_at is None:
        return next_after(schedule, moment)
    return None if paused_until is None else next_after(schedule, max(moment, paused_until))


def _check_count(connection: Connection, app: str) -> None:
    count = connection.scalar(
        select(func.count()).select_from(schedules).where(schedules.c.app == app)
    )
    if (count or 0) >= MOST:
        raise ConfigurationError(
            f"the app {app!r} has {count} schedules, and {MOST} is the limit: remove some, or let "
            "one job look for what is due"
        )


def pause(
    connection: Connection,
    app: str,
    name: str,
    note: str | None,
    until: float | None,
    now: ColumnElement[float],
) -> None:
    """Send nothing of a schedule, until a time or until it is resumed.

    Raises:
        ConfigurationError: there is no such schedule, or the time has passed.
    """
    row, moment = known(connection, app, name), time_now(connection, now)
    if until is not None and until <= moment:
        raise ConfigurationError(f"the schedule {name!r} cannot be paused until a time that passed")
    schedule = read_spec(row.spec)
    forget_waiting(connection, app, name, row.waiting_at, "the schedule was paused")
    next_at = None
    if schedule is not None and until is not None and row.retired_at is None:
        next_at = next_after(schedule, until)
    set_columns(
        connection, app, name, paused_at=moment, paused_until=until, note=note, next_at=next_at,
        waiting_at=None,
    )  # fmt: skip


def resume(connection: Connection, app: str, name: str, now: ColumnElement[float]) -> None:
    """Go on from now: what was due meanwhile is not made up for.

    Raises:
        ConfigurationError: there is no such schedule.
    """
    row, moment = known(connection, app, name), time_now(connection, now)
    if row.paused_at is None:
        return
    schedule = read_spec(row.spec)
    alive = schedule is not None and row.retired_at is None
    next_at = next_after(schedule, moment) if alive and schedule is not None else None
    nothing = dict.fromkeys(("paused_at", "paused_until", "note"))
    set_columns(connection, app, name, next_at=next_at, **nothing)


def remove(connection: Connection, app: str, name: str) -> bool:
    """Forget a schedule and its ticks. Jobs that were sent stay.

    Returns:
        Whether it was there.

    Raises:
        ConfigurationError: it is in the code.
    """
    row = locked(connection, app, name)
    if row is None:
        return False
    if row.in_code and row.retired_at is None:
        raise ConfigurationError(
            f"the schedule {name!r} is in the code (schedule= of the job {row.job!r}): remove it "
            "there, or pause it"
        )
    connection.execute(delete(schedules).where(schedules.c.app == app, schedules.c.name == name))
    connection.execute(delete(ticks).where(ticks.c.app == app, ticks.c.schedule == name))
    return True


def forget_waiting(
    connection: Connection, app: str, name: str, due: float | None, reason: str
) -> None:
    """Skip the tick whose job waits for the end of the one before."""
    if due is not None:
        mine = (ticks.c.app == app) & (ticks.c.schedule == name) & (ticks.c.outcome == "waiting")
        connection.execute(update(ticks).where(mine).values(outcome="skipped", reason=reason))
