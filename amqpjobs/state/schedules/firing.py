"""Fires schedules that are due: ticks first, then their jobs into the outbox, in one transaction.

A row is locked from the look at it to the end, and a tick is unique: any number of processes may do
this at once. All times are the database's. Changes when what a tick does changes.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, and_, insert, literal, select
from sqlalchemy import update as change

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.tick import How, Tick
from amqpjobs.jobs.schedule.dues import last_between, next_after, sent_at
from amqpjobs.jobs.schedule.missed import ON_TIME, Due, missed_of
from amqpjobs.jobs.schedule.schedule import Schedule, within_of, zone_name_of
from amqpjobs.jobs.schedule.spec import VERSION
from amqpjobs.state.outbox.rows import values_of
from amqpjobs.state.schedules import running
from amqpjobs.state.schedules.messages import job_id_of, message_for
from amqpjobs.state.schedules.rows import Kept, kept_of, set_columns, time_now
from amqpjobs.state.store.tables import outbox, schedules, ticks
from amqpjobs.state.store.upsert import insert_into

T = TypeVar("T")

BATCH = 100
"""Schedules that one transaction fires."""

ROWS = 500
"""That one statement inserts: a driver takes 32,767 values."""

FROZEN = 3_000
"""Milliseconds after which PostgreSQL ends the transaction of a process that was frozen inside of
it: until then no other fires these schedules."""

SUPERSEDED = "a later time waits for the end of the job before"


@dataclass(frozen=True, slots=True)
class Fired:
    """What a look at the schedules did.

    Attributes:
        schedules: how many were due.
        sent: how many jobs.
        next_in: seconds until one is due next; None for never.
        unreadable: schedules that are due and cannot be read here.
    """

    schedules: int
    sent: int
    next_in: float | None
    unreadable: tuple[str, ...] = ()


def fire_due(
    connection: Connection,
    app: str,
    jobs: Sequence[str],
    now: ColumnElement[float],
    missed_from: float | None = None,
    without: Sequence[str] = (),
) -> Fired:
    """Fire what is due, of one batch of schedules.

    Args:
        app: the name of the app.
        jobs: those that this process knows; schedules of others are left alone.
        now: the time of the database.
        missed_from: what was due until then is not made up for; None for what the schedule says.
        without: schedules that cannot be read here.
    """
    ours = and_(_of(app, jobs), schedules.c.name.not_in(without))
    moment, next_at = time_now(connection, now), _next(connection, ours)
    free = waiting_free(connection, app, ours, moment)
    if not free and (next_at is None or next_at > moment):
        return Fired(0, 0, None if next_at is None else next_at - moment)
    _limit_locks(connection)
    due = select(schedules).where(ours, schedules.c.next_at <= moment)
    due = due.order_by(schedules.c.next_at, schedules.c.name).limit(BATCH)
    rows = connection.execute(due.with_for_update(skip_locked=True)).all()
    firing = Firing(connection, app, moment)
    unreadable = firing.due(rows, missed_from)
    sent = firing.write() + send_waiting(connection, app, free, moment)
    next_at = _next(connection, ours)
    next_in = None if next_at is None else next_at - moment
    return Fired(len(rows), sent, next_in, tuple(unreadable))


def _of(app: str, jobs: Sequence[str]) -> ColumnElement[bool]:
    """Schedules that a process with these jobs can fire."""
    return and_(
        schedules.c.app == app,
        schedules.c.job.in_(jobs),
        schedules.c.spec.like(f'%"version": {VERSION},%'),
    )


def next_due(connection: Connection, app: str, jobs: Sequence[str]) -> float | None:
    """When the next schedule is due that a process with these jobs can fire."""
    return _next(connection, _of(app, jobs))


def _next(connection: Connection, ours: ColumnElement[bool]) -> float | None:
    query = select(schedules.c.next_at).where(ours, schedules.c.next_at.is_not(None))
    next_at: float | None = connection.scalar(query.order_by(schedules.c.next_at).limit(1))
    return next_at


def _limit_locks(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        limit = f"SET LOCAL idle_in_transaction_session_timeout = {FROZEN}"
        connection.exec_driver_sql(limit)


@dataclass(slots=True)
class _Plan:
    """What is to become of one schedule.

    Attributes:
        kept: it.
        columns: its new values.
        sends: times whose jobs are sent, oldest first.
        holds: whether the last of these is waited for from now on.
    """

    kept: Kept
    columns: dict[str, Any]
    sends: list[Due] = field(default_factory=list)
    holds: bool = False


class Firing:
    """Decides what becomes of schedules, and writes it.

    Args:
        connection: in whose transaction.
        app: the name of the app.
        moment: now, by the database.
    """

    def __init__(self, connection: Connection, app: str, moment: float) -> None:
        self._connection = connection
        self._app = app
        self._moment = moment
        self._ticks: list[dict[str, Any]] = []
        self._plans: list[_Plan] = []

    def due(self, rows: Iterable[Any], missed_from: float | None) -> list[str]:
        """Decide about schedules that are due.

        Returns:
            Those that cannot be read here.
        """
        known = [(row, kept_of(row)) for row in rows]
        names = [kept.name for _, kept in known]
        held = running.running(self._connection, self._app, names, self._moment)
        unreadable = []
        for row, kept in known:
            if kept.schedule is None:
                unreadable.append(kept.name)
                continue
            plan = _Plan(kept, {"next_at": next_after(kept.schedule, self._moment)})
            if row.paused_at is not None:  # until a time that has come
                plan.columns |= dict.fromkeys(("paused_at", "paused_until", "note"))
            self._decide(plan, kept.schedule, held.get(kept.name), missed_from)
            self._plans.append(plan)
        return unreadable

    def _decide(
        self,
        plan: _Plan,
        schedule: Schedule,
        held: tuple[str, float] | None,
        missed_from: float | None,
    ) -> None:
        kept = plan.kept
        begin = (kept.next_at or self._moment) - 1
        after = begin if missed_from is None else max(begin, missed_from)
        dues = missed_of(schedule, after, self._moment)
        self._leave_out(kept, schedule, begin, after, dues)
        if not dues:
            return
        if schedule.overlap == "allow" or held is None:
            plan.sends, plan.holds = dues, schedule.overlap != "allow"
            for each in dues:
                self._tick(kept, each, "sent")
            if kept.waiting_at is not None:
                self._supersede(plan, "a later time was sent")
            return
        *earlier, last = dues
        before = f"the job before has not ended: {held[0]}"
        for each in earlier:
            queued = schedule.overlap == "queue_one"
            self._tick(kept, each, "skipped", SUPERSEDED if queued else before)
        if schedule.overlap == "queue_one":
            if kept.waiting_at is not None:
                self._supersede(plan, SUPERSEDED)
            plan.columns["waiting_at"] = last.due
            self._tick(kept, last, "waiting", before)
        else:
            self._tick(kept, last, "skipped", before)

    def _supersede(self, plan: _Plan, reason: str) -> None:
        plan.columns["waiting_at"] = None
        mine = _waiting_tick(self._app, plan.kept.name)
        skipped = change(ticks).where(mine).values(outcome="skipped", reason=reason)
        self._connection.execute(skipped)

    def _leave_out(
        self, kept: Kept, schedule: Schedule, begin: float, after: float, dues: list[Due]
    ) -> None:
        """The newest of the times that nobody makes up for has a row that says why."""
        if any(each.how == "missed" for each in dues):
            return
        late = self._moment - ON_TIME
        until = min(late, dues[0].due - 1) if dues else max(late, after)
        if until <= begin or (dues and schedule.missed != "skip"):
            return
        last = last_between(schedule, begin, until)
        if last is None:
            return
        if last <= after and after > begin:
            reason = "missed, and another machine may have sent it: see AMQPJOBS_STORE_SHARED"
        elif schedule.missed == "skip":
            reason = "missed, and missed='skip'"
        else:
            reason = f"missed for more than within={within_of(schedule):g} seconds"
        self._tick(kept, Due(last, "missed"), "skipped", reason)

    def _tick(self, kept: Kept, due: Due, outcome: str, reason: str | None = None) -> None:
        self._ticks.append(
            tick_values(self._app, kept.name, due.due, due.how, outcome, self._moment, reason)
        )

    def write(self) -> int:
        """Write it: the ticks first, and then what follows of those that were not there.

        Returns:
            How many jobs are sent.
        """
        written = write_ticks(self._connection, self._ticks)
        messages, held = [], []
        for plan in self._plans:
            kept, schedule = plan.kept, plan.kept.schedule
            assert schedule is not None  # noqa: S101 - as `due` has seen
            last = None
            for each in plan.sends:
                if (kept.name, each.due) in written:
                    previous = kept.last_at if last is None else last
                    tick = tick_of(kept, schedule, each.due, each.how, previous)
                    at = sent_at(schedule, kept.name, each.due)
                    messages.append(message_for(kept.template, self._app, tick, self._moment, at))
                    last = each.due
            if last is not None:
                plan.columns["last_at"] = last
                if plan.holds:
                    held.append((kept.name, kept.template.job, messages[-1].job_id))
        add_all(self._connection, self._app, messages, self._moment)
        running.hold(self._connection, self._app, held, self._moment)
        for plan in self._plans:
            set_columns(self._connection, self._app, plan.kept.name, **plan.columns)
        return len(messages)


def tick_values(
    app: str, schedule: str, due: float, how: How, outcome: str, moment: float,
    reason: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """The row of a tick."""
    return {
        "app": app, "schedule": schedule, "due_at": due, "outcome": outcome, "reason": reason,
        "how": "cron" if how == "missed" else how, "missed": how == "missed", "at": moment,
        "job_id": job_id_of(app, schedule, due, how),
    }  # fmt: skip


def tick_of(kept: Kept, schedule: Schedule, due: float, how: How, previous: float | None) -> Tick:
    """What the job of a tick knows of it."""
    before = previous if previous is not None and previous <= due else None
    return Tick(kept.name, due, before, how, zone_name_of(schedule))


def write_ticks(connection: Connection, values: Sequence[dict[str, Any]]) -> set[tuple[str, float]]:
    """Insert ticks that are not there.

    Returns:
        Schedule and time of those that were not.
    """
    written: set[tuple[str, float]] = set()
    for some in _chunks(values):
        statement = insert_into(connection, ticks).values(some).on_conflict_do_nothing()
        rows = connection.execute(statement.returning(ticks.c.schedule, ticks.c.due_at))
        written |= {(row.schedule, row.due_at) for row in rows}
    return written


def add_all(connection: Connection, app: str, messages: Sequence[Prepared], moment: float) -> None:
    """Write messages into the outbox of the store."""
    now = literal(moment)
    for some in _chunks(messages):
        values = [values_of(app, message, now) for message in some]
        connection.execute(insert(outbox).values(values))


def _chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    return (values[at : at + ROWS] for at in range(0, len(values), ROWS))


def _waiting_tick(app: str, schedule: str) -> ColumnElement[bool]:
    return and_(ticks.c.app == app, ticks.c.schedule == schedule, ticks.c.outcome == "waiting")


def waiting_free(
    connection: Connection, app: str, ours: ColumnElement[bool], moment: float
) -> list[str]:
    """Schedules whose next job waits for the end of one that has ended."""
    names = list(
        connection.scalars(
            select(schedules.c.name)
            .where(ours, schedules.c.app == app, schedules.c.waiting_at.is_not(None))
            .limit(BATCH)
        )
    )
    if not names:
        return []
    held = running.running(connection, app, names, moment)
    return [name for name in names if name not in held]


def send_waiting(connection: Connection, app: str, names: Sequence[str], moment: float) -> int:
    """Send the jobs that wait for the end of the one before, which has come.

    Args:
        names: schedules, whether a job of theirs waits or not.

    Returns:
        How many jobs are sent.
    """
    if not names:
        return 0
    query = select(schedules).where(
        schedules.c.app == app, schedules.c.name.in_(names), schedules.c.waiting_at.is_not(None)
    )
    messages, held = [], []
    for row in connection.execute(query.order_by(schedules.c.name).with_for_update()).all():
        kept = kept_of(row)
        if kept.schedule is None or kept.waiting_at is None:
            continue
        mine = and_(_waiting_tick(app, kept.name), ticks.c.due_at == kept.waiting_at)
        sent = change(ticks).where(mine).values(outcome="sent", reason=None, at=moment)
        found = connection.execute(sent.returning(ticks.c.missed)).first()
        columns: dict[str, Any] = {"waiting_at": None}
        if found is not None:
            how: How = "missed" if found.missed else "cron"
            tick = tick_of(kept, kept.schedule, kept.waiting_at, how, kept.last_at)
            message = message_for(kept.template, app, tick, moment, moment)
            messages.append(message)
            held.append((kept.name, message.job, message.job_id))
            columns["last_at"] = kept.waiting_at
        set_columns(connection, app, kept.name, **columns)
    add_all(connection, app, messages, moment)
    running.hold(connection, app, held, moment)
    return len(messages)


def end(
    connection: Connection,
    app: str,
    ended: Sequence[tuple[str, str]],
    now: ColumnElement[float],
) -> int:
    """Jobs of schedules have ended: what waits for that is sent.

    Args:
        ended: schedule and id of each.

    Returns:
        How many jobs are sent.
    """
    free = running.let_go(connection, app, ended)
    return send_waiting(connection, app, free, time_now(connection, now)) if free else 0
