"""The rows of silent jobs, which had no sign of life for a long time: sends them again, or gives
them up.

A message is lost if a queue was purged or deleted, or if another program took it. Sending it again
is safe: of a durable job only the newest run counts, of any other job the first end. Changes when
something else of a durable job may be lost.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from sqlalchemy import (
    ColumnElement,
    Connection,
    and_,
    exists,
    func,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.headers import family_of
from amqpjobs.state.durable.ends import end_step, finish
from amqpjobs.state.durable.rows import Owner, of
from amqpjobs.state.durable.undoing import undo_message
from amqpjobs.state.durable.values import (
    RUNNING,
    SENT,
    SUSPENDED,
    UNDOING,
    WAITING,
    Ended,
    Failed,
    Told,
)
from amqpjobs.state.outbox.rows import add, message_of, properties_in
from amqpjobs.state.store.tables import durable, outbox, steps, waiting

MOST_SENDS: Final = 3
"""Times that a message is sent in all, before it counts as lost."""

LOST: Final = "lost"
"""The reason of a failure: a job was sent `MOST_SENDS` times and had no sign of life."""

_Here = durable.alias("here")


@dataclass(frozen=True, slots=True)
class Silent:
    """A job without a sign of life.

    Attributes:
        owner: the durable job that waits for it, or that it is.
        step: the name of the step that waits for it; None for the durable job itself.
        part: what it is to its owner.
        routing_key: the AMQP queue that it was sent to.
        n: its number, of a chunk.
    """

    owner: Owner
    step: str | None
    part: str
    routing_key: str
    n: int = 0


def silent_jobs(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float, most: int
) -> list[Silent]:
    """Jobs without a sign of life for so long, the longest first.

    Jobs that wait in the outbox or for a limit are left out. So are durable jobs that others wait
    for and that are rows: they are supervised by their own rows.
    """
    return [
        *_silent_steps(connection, app, now, seconds, most),
        *_silent_owners(connection, app, now, seconds, most),
    ]


def _silent_steps(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float, most: int
) -> list[Silent]:
    calls, undos = _calls(), _undos()
    query = (
        select(
            steps.c.job_id, steps.c.epoch, steps.c.name, steps.c.state, steps.c.routing_key,
            steps.c.undo_routing_key,
        )
        # A step of an earlier epoch may be left, of a run that was overtaken as it wrote it.
        .join(durable, (durable.c.app == steps.c.app) & (durable.c.job_id == steps.c.job_id))
        .where(
            steps.c.app == app, steps.c.sent_at < now - seconds, durable.c.epoch == steps.c.epoch,
            or_(
                and_(calls, ~heard_of(steps.c.app, steps.c.child_id, now, seconds)),
                and_(undos, ~heard_of(steps.c.app, steps.c.undo_id, now, seconds)),
            ),
        )
        .order_by(steps.c.sent_at)
        .limit(most)
    )  # fmt: skip
    found = []
    for row in connection.execute(query):
        part = "call" if row.state == WAITING else "undo"
        queue = row.routing_key if part == "call" else row.undo_routing_key
        found.append(Silent(Owner(app, row.job_id, row.epoch), row.name, part, queue))
    return found


def _silent_owners(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float, most: int
) -> list[Silent]:
    query = (
        select(durable.c.job_id, durable.c.epoch, durable.c.routing_key)
        .where(
            durable.c.app == app, durable.c.state == RUNNING, durable.c.changed_at < now - seconds,
            durable.c.properties.is_not(None), ~_on_its_way(durable.c.app, durable.c.job_id),
        )
        .order_by(durable.c.changed_at)
        .limit(most)
    )  # fmt: skip
    return [
        Silent(Owner(app, row.job_id, row.epoch), None, "job", row.routing_key)
        for row in connection.execute(query)
    ]


def _calls() -> ColumnElement[bool]:
    return and_(steps.c.state == WAITING, steps.c.properties.is_not(None))


def _undos() -> ColumnElement[bool]:
    return and_(steps.c.undo_state == SENT, steps.c.undo_properties.is_not(None))


def _on_its_way(app: ColumnElement[str], job_id: ColumnElement[Any]) -> ColumnElement[bool]:
    """Its message is here, and not lost."""
    return or_(
        exists().where(outbox.c.app == app, outbox.c.job_id == job_id),
        exists().where(waiting.c.app == app, waiting.c.job_id == job_id),
    )


def heard_of(
    app: ColumnElement[str],
    job_id: ColumnElement[Any],
    now: ColumnElement[float],
    seconds: float,
) -> ColumnElement[bool]:
    """It waits here, or is a durable job that is looked after by itself."""
    alive = or_(
        _Here.c.state.in_((SUSPENDED, UNDOING)),
        and_(_Here.c.state == RUNNING, _Here.c.properties.is_not(None)),
        _Here.c.changed_at >= now - seconds,
    )
    own = exists().where(_Here.c.app == app, _Here.c.job_id == job_id, alive)
    return or_(own, _on_its_way(app, job_id))


def send_silent(
    connection: Connection, silent: Silent, now: ColumnElement[float], seconds: float
) -> Told | None:
    """Send a job again, or give it up: then what waits for it has failed, and a durable job is
    undone.

    Returns:
        None if it is silent no more, or another process does it.
    """
    # The job before its steps, as all do that write both.
    query = select(durable).where(
        durable.c.app == silent.owner.app, durable.c.job_id == silent.owner.job_id,
        durable.c.epoch == silent.owner.epoch,
    )  # fmt: skip
    row = connection.execute(query.with_for_update(skip_locked=True)).first()
    if row is None:
        return None
    if silent.step is None:
        return _send_owner(connection, silent.owner, now, seconds)
    return _send_step(connection, silent, now, seconds)


def _send_step(
    connection: Connection, silent: Silent, now: ColumnElement[float], seconds: float
) -> Told | None:
    owner, called = silent.owner, silent.part == "call"
    mine = and_(of(owner), steps.c.name == silent.step, _calls() if called else _undos())
    late = steps.c.sent_at < now - seconds
    row = connection.execute(select(steps).where(mine, late).with_for_update()).first()
    if row is None:
        return None
    message = _call_message(row) if called else undo_message(row)
    if row.sends >= MOST_SENDS:
        family = Family(owner.job_id, owner.epoch, row.name, "call" if called else "undo")
        told = end_step(
            connection, owner.app, family, message.job_id, lost(message, row.sends), now
        )
        return replace(told, orphans=(*told.orphans, message.job_id), state=LOST)
    add(connection, outbox, owner.app, message, now)
    connection.execute(update(steps).where(mine).values(sends=row.sends + 1, sent_at=now))
    return Told(woken=1)


def _call_message(row: Any) -> Prepared:
    return Prepared(
        row.child_id, row.child, row.routing_key, properties_in(row.properties), bytes(row.body),
        None, row.tracked,
    )  # fmt: skip


def lost(message: Prepared, sends: int) -> Ended:
    """What becomes of a job that was sent so often."""
    words = f"no sign of life after it was sent {sends} times: was its queue purged?"
    return Ended(error=Failed(LOST, words, message.job, message.job_id, reason=LOST))


def _send_owner(
    connection: Connection, owner: Owner, now: ColumnElement[float], seconds: float
) -> Told | None:
    mine = and_(
        durable.c.app == owner.app, durable.c.job_id == owner.job_id, durable.c.state == RUNNING,
        durable.c.properties.is_not(None), durable.c.changed_at < now - seconds,
    )  # fmt: skip
    row = connection.execute(select(durable).where(mine)).first()
    if row is None:
        return None
    message = replace(message_of(row), due=None)
    # It was sent once when it was woken, which is not counted.
    if row.sends + 1 >= MOST_SENDS:
        return _give_up(connection, owner, message, row, now)
    add(connection, outbox, owner.app, message, now)
    connection.execute(update(durable).where(mine).values(sends=row.sends + 1, changed_at=now))
    return Told(woken=1)


def _give_up(
    connection: Connection, owner: Owner, message: Prepared, row: Any, now: ColumnElement[float]
) -> Told:
    ended = lost(message, row.sends + 1)
    told = finish(connection, owner, None, ended, now, job=row.job) or Told()
    woken = told.woken
    if (family := family_of(message.properties.headers)) is not None:
        woken += end_step(connection, owner.app, family, owner.job_id, ended, now).woken
    return replace(told, woken=woken, state=LOST)


def put_off(connection: Connection, silent: Sequence[Silent], now: ColumnElement[float]) -> None:
    """Their messages may still wait in their queues: look again after the same time."""
    for each in silent:
        owner = each.owner
        if each.step is None:
            mine = and_(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
            running = and_(mine, durable.c.epoch == owner.epoch, durable.c.state == RUNNING)
            connection.execute(update(durable).where(running).values(changed_at=now))
        else:
            hear(connection, owner, each.step, None, now)


def hear(
    connection: Connection,
    owner: Owner,
    name: str,
    until: float | None,
    now: ColumnElement[float],
) -> None:
    """Note a sign of life of the job that a step waits for.

    Args:
        until: the next one comes after this time; None for now.
    """
    mine = and_(of(owner), steps.c.name == name, steps.c.sent_at.is_not(None))
    connection.execute(update(steps).where(mine).values(sent_at=now if until is None else until))


def beat(
    connection: Connection,
    app: str,
    runs: Collection[tuple[str, int]],
    now: ColumnElement[float],
    until: float | None = None,
) -> None:
    """Note a sign of life of runs of durable jobs, each with its id and token.

    Args:
        until: the next one comes after this time; None for now.
    """
    mine = tuple_(durable.c.job_id, durable.c.token).in_(list(runs))
    alive = and_(durable.c.app == app, durable.c.state == RUNNING, mine)
    connection.execute(
        update(durable).where(alive).values(changed_at=now if until is None else until)
    )


def next_silent(
    connection: Connection, app: str, now: ColumnElement[float], seconds: float
) -> float | None:
    """When the next job will have been silent for so long; None for none that is not yet."""
    sent = select(func.min(steps.c.sent_at).label("at")).where(
        steps.c.app == app, steps.c.sent_at >= now - seconds, or_(_calls(), _undos())
    )
    changed = select(func.min(durable.c.changed_at).label("at")).where(
        durable.c.app == app, durable.c.state == RUNNING, durable.c.properties.is_not(None),
        durable.c.changed_at >= now - seconds,
    )  # fmt: skip
    both = union_all(sent, changed).subquery()
    at: float | None = connection.scalar(select(func.min(both.c.at)))
    return None if at is None else at + seconds + 0.001
