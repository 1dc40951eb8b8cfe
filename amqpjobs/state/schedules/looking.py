"""Looks at schedules and their ticks, for people. Changes when there is more to see."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Select,
    and_,
    delete,
    func,
    select,
)

from amqpjobs.jobs.message.tick import HOWS
from amqpjobs.jobs.schedule.status import (
    UNKNOWN_JOB,
    UNREADABLE,
    ScheduleStatus,
    TickOutcome,
    TickRecord,
)
from amqpjobs.jobs.schedule.words import words_of
from amqpjobs.state.schedules import running
from amqpjobs.state.schedules.rows import read_spec, time_now
from amqpjobs.state.status.table import jobs as statuses
from amqpjobs.state.store.tables import schedules, ticks

KEPT = 30 * 86_400.0
"""Seconds for which ticks are kept."""

PRUNED = 10_000
"""Ticks that are forgotten at a time."""

_OUTCOMES: dict[str, TickOutcome] = {each: each for each in ("sent", "skipped", "waiting")}


def statuses_of(
    connection: Connection,
    app: str,
    jobs: Sequence[str],
    now: ColumnElement[float],
    name: str | None = None,
) -> list[ScheduleStatus]:
    """What is known of the schedules of an app, by name.

    Args:
        app: its name.
        jobs: those that are known here.
        now: the time of the database.
        name: of one; None for all.
    """
    moment = time_now(connection, now)
    query = select(schedules).where(schedules.c.app == app).order_by(schedules.c.name)
    if name is not None:
        query = query.where(schedules.c.name == name)
    rows = connection.execute(query).all()
    names = [row.name for row in rows]
    last = _last_ticks(connection, app, name)
    held: dict[str, tuple[str, float]] = {}
    for at in range(0, len(names), 1000):
        held |= running.running(connection, app, names[at : at + 1000], moment)
    states = _states(connection, [tick.job_id for tick in last.values()])
    return [_status(row, jobs, moment, last.get(row.name), held, states) for row in rows]


def _status(
    row: Any,
    jobs: Sequence[str],
    moment: float,
    last: TickRecord | None,
    held: dict[str, tuple[str, float]],
    states: dict[str, str],
) -> ScheduleStatus:
    schedule = read_spec(row.spec)
    problem = None
    if schedule is None:
        problem = UNREADABLE
    elif row.job not in jobs and row.retired_at is None:
        problem = UNKNOWN_JOB
    running_id, running_until = held.get(row.name, (None, None))
    ended = row.paused_until is not None and row.paused_until <= moment
    return ScheduleStatus(
        name=row.name,
        job=row.job,
        schedule=schedule,
        words="?" if schedule is None else words_of(schedule),
        in_code=row.in_code,
        next=row.next_at,
        last=last,
        job_state=None if last is None else states.get(last.job_id),
        running=running_id,
        running_until=running_until,
        paused=row.paused_at is not None and not ended,
        paused_until=None if ended else row.paused_until,
        note=None if ended else row.note,
        retired=row.retired_at is not None,
        problem=problem,
    )


def _last_ticks(connection: Connection, app: str, name: str | None) -> dict[str, TickRecord]:
    """The newest tick of each schedule."""
    newest = (
        select(func.max(ticks.c.due_at))
        .where(ticks.c.app == schedules.c.app, ticks.c.schedule == schedules.c.name)
        .correlate(schedules)
        .scalar_subquery()
    )
    same = and_(
        ticks.c.app == schedules.c.app,
        ticks.c.schedule == schedules.c.name,
        ticks.c.due_at == newest,
    )
    query = select(ticks).select_from(schedules.join(ticks, same)).where(schedules.c.app == app)
    if name is not None:
        query = query.where(schedules.c.name == name)
    rows = connection.execute(query.order_by(ticks.c.at)).all()
    return {row.schedule: record_of(row) for row in rows}


def record_of(row: Any) -> TickRecord:
    """A row of a tick as a value."""
    how = "missed" if row.missed else row.how
    return TickRecord(
        row.schedule, row.due_at, HOWS.get(how, "cron"), _OUTCOMES.get(row.outcome, "skipped"),
        row.reason, row.job_id, row.at,
    )  # fmt: skip


def _states(connection: Connection, ids: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for at in range(0, len(ids), 1000):
        query = select(statuses.c.id, statuses.c.state)
        rows = connection.execute(query.where(statuses.c.id.in_(ids[at : at + 1000])))
        found |= {row.id: row.state for row in rows}
    return found


def ticks_of(
    connection: Connection, app: str, schedule: str | None, most: int | None
) -> list[TickRecord]:
    """The newest ticks of a schedule, or of all of an app, the oldest of these first."""
    query: Select[Any] = select(ticks).where(ticks.c.app == app)
    if schedule is not None:
        query = query.where(ticks.c.schedule == schedule)
    query = query.order_by(ticks.c.due_at.desc(), ticks.c.at.desc()).limit(most)
    return [record_of(row) for row in reversed(connection.execute(query).all())]


def prune(connection: Connection, app: str, now: ColumnElement[float]) -> int:
    """Forget what is old: ticks, claims that have expired, schedules that were retired.

    Returns:
        How many ticks.
    """
    old = (ticks.c.app == app) & (ticks.c.at < now - KEPT)
    # The moment of one of the oldest: no more than so many rows are older.
    some = select(ticks.c.at).where(old).order_by(ticks.c.at).offset(PRUNED).limit(1)
    until = connection.scalar(some)
    batch = old if until is None else (ticks.c.app == app) & (ticks.c.at <= until)
    gone = connection.execute(delete(ticks).where(batch)).rowcount
    retired = schedules.c.retired_at < now - KEPT
    connection.execute(delete(schedules).where(schedules.c.app == app, retired))
    running.prune(connection, app, now)
    return gone


def oldest_overdue(
    connection: Connection, app: str, jobs: Sequence[str], now: ColumnElement[float]
) -> tuple[float, str] | None:
    """Seconds for which a schedule is due, and its name: of the one that is for longest."""
    row = connection.execute(
        select(now - schedules.c.next_at, schedules.c.name)
        .where(schedules.c.app == app, schedules.c.job.in_(jobs), schedules.c.next_at < now)
        .order_by(schedules.c.next_at)
        .limit(1)
    ).first()
    return None if row is None else (float(row[0]), row[1])


def counted(connection: Connection, app: str, now: ColumnElement[float]) -> tuple[int, int]:
    """How many schedules were put at run time, and how many have a job that has not ended."""
    put = select(func.count()).select_from(schedules)
    put = put.where(schedules.c.app == app, schedules.c.in_code.is_(False))
    return connection.scalar(put) or 0, running.count(connection, app, now)
