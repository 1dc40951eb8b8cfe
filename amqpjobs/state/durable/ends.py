"""The ends of durable jobs and of their steps: suspend, wake, end, undo.

Each is one transaction that is guarded by the state that it changes, so a second one has no effect.
All transactions lock the row of the job before the rows of its steps. So of two last steps that end
at once, the second sees the first, the job is woken exactly once, and there are no deadlocks.
Changes when a job may end, or be woken, in another way.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.state.durable.rows import Owner, abandon, abandon_chunks, locked, of
from amqpjobs.state.durable.undoing import end_undo, mark_undo, undo_next
from amqpjobs.state.durable.values import (
    ABANDONED,
    CANCELLED,
    DONE,
    FAILED,
    FEEDING,
    MAP,
    RUNNING,
    SUSPENDED,
    UNDOING,
    WAITING,
    Ended,
    Told,
)
from amqpjobs.state.limits.keys import among
from amqpjobs.state.outbox.rows import add, message_of
from amqpjobs.state.store.tables import durable, outbox, steps


def suspend(
    connection: Connection,
    owner: Owner,
    token: int,
    names: Collection[str],
    message: Prepared,
    now: ColumnElement[float],
    maps: Collection[str] = (),
    *,
    at_first: bool = False,
) -> Told | None:
    """A run has ended that waits for these steps; for none, it is to go on at once.

    Args:
        message: the message with which it is sent again.
        maps: the maps with more items to send. The job is sent again at once if one of them has
            room for items by now.
        at_first: whether it is sent again when the first of them has ended.

    Returns:
        None if a newer run has begun: nothing is changed.
    """
    values = {
        "state": SUSPENDED, "properties": encode_properties(message.properties),
        "body": message.body, "routing_key": message.routing_key, "tracked": message.tracked,
        "changed_at": now, "sends": 0, "at_first": at_first,
    }  # fmt: skip
    held = _held(owner, token)
    changed = update(durable).where(*held).values(**values).returning(durable.c.cancel_reason)
    row = connection.execute(changed).first()
    if row is None:
        return None
    if row.cancel_reason is not None:
        return Told(woken=int(wake_anyway(connection, owner, now)))  # the next run ends it
    waiting = and_(of(owner), steps.c.state == WAITING)
    if names:
        others = and_(waiting, steps.c.awaited, ~among(connection, steps.c.name, names))
        connection.execute(update(steps).where(others).values(awaited=False))
        wanted = and_(waiting, ~steps.c.awaited, among(connection, steps.c.name, names))
        connection.execute(update(steps).where(wanted).values(awaited=True))
    else:
        connection.execute(update(steps).where(waiting, steps.c.awaited).values(awaited=False))
    if maps and _has_room(connection, owner, maps):
        return Told(woken=int(wake_anyway(connection, owner, now)))
    if names and at_first and _awaited(connection, owner) == len(names):
        return Told()
    return Told(woken=int(wake(connection, owner, now)))


def _has_room(connection: Connection, owner: Owner, maps: Collection[str]) -> bool:
    mine = and_(of(owner), among(connection, steps.c.name, maps), steps.c.state == FEEDING)
    return connection.execute(select(steps.c.n).where(mine).limit(1)).first() is not None


def _held(owner: Owner, token: int) -> tuple[ColumnElement[bool], ...]:
    return (
        durable.c.app == owner.app, durable.c.job_id == owner.job_id, durable.c.token == token,
        durable.c.epoch == owner.epoch, durable.c.state == RUNNING,
    )  # fmt: skip


def wake(connection: Connection, owner: Owner, now: ColumnElement[float]) -> bool:
    """Send a suspended job again, if nothing that it waits for is left; one that goes on at the
    first of several, when any has ended.

    Returns:
        Whether it was sent.
    """
    return wake_locked(connection, owner, locked(connection, owner.app, owner.job_id), now)


def wake_locked(connection: Connection, owner: Owner, row: Any, now: ColumnElement[float]) -> bool:
    """The same for a job that is locked."""
    if row is None or row.epoch != owner.epoch:
        return False
    if row.state == UNDOING:
        return undo_next(connection, owner, now)
    if row.state != SUSPENDED or (not row.at_first and _awaited(connection, owner, 1)):
        return False
    return _send_again(connection, owner, row, now)


def _send_again(connection: Connection, owner: Owner, row: Any, now: ColumnElement[float]) -> bool:
    message = replace(message_of(row), due=None)
    connection.execute(
        update(durable)
        .where(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
        .values(state=RUNNING, changed_at=now)
    )
    add(connection, outbox, owner.app, message, now)
    return True


def _awaited(connection: Connection, owner: Owner, most: int | None = None) -> int:
    """How many steps a job waits for; counted up to so many."""
    waiting = select(steps.c.n).where(of(owner), steps.c.awaited, steps.c.state == WAITING)
    return len(connection.execute(waiting.limit(most)).all())


def wake_anyway(connection: Connection, owner: Owner, now: ColumnElement[float]) -> bool:
    """Send a suspended job again whatever it waits for: it was cancelled, or its time is over.

    Returns:
        Whether it was sent.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.state != SUSPENDED or row.epoch != owner.epoch:
        return False
    return _send_again(connection, owner, row, now)


def end_step(
    connection: Connection,
    app: str,
    family: Family,
    child_id: str,
    ended: Ended,
    now: ColumnElement[float],
) -> Told:
    """End what waits for a job that has ended."""
    owner = Owner(app, family.parent, family.epoch)
    row = locked(connection, app, owner.job_id)
    if row is None:
        return Told()
    if family.part == "undo":
        return end_undo(connection, owner, family, child_id, ended, now)
    state = DONE if ended.error is None else FAILED
    mine = and_(of(owner), steps.c.name == family.step, steps.c.child_id == child_id)
    changed = connection.execute(
        update(steps)
        .where(mine, steps.c.state == WAITING)
        .values(
            state=state, ended_at=now, properties=None, body=None, sent_at=None, **outcome_of(ended)
        )
        .returning(steps.c.n)
    ).first()
    if changed is None:
        return Told(woken=int(ended.error is None and _mend(connection, owner, mine, ended, now)))
    return Told(woken=int(wake_locked(connection, owner, row, now)))


def outcome_of(ended: Ended) -> dict[str, Any]:
    """The columns that say what has become of a job."""
    error = None if ended.error is None else ended.error.text()
    return {"result": ended.result, "error": error}


def _mend(
    connection: Connection,
    owner: Owner,
    mine: ColumnElement[bool],
    ended: Ended,
    now: ColumnElement[float],
) -> bool:
    """What counted as failed is done: a dead letter was replayed, or its time was over. When its
    parent, which it has ended, is replayed, it finds the result; one that is undoing takes this
    back, too.

    Returns:
        Whether a message was sent that does.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.state not in (FAILED, UNDOING) or row.epoch != owner.epoch:
        return False
    changed = connection.execute(
        update(steps)
        .where(mine, steps.c.state == FAILED)
        .values(state=DONE, ended_at=now, **outcome_of(ended))
        .returning(steps.c.n)
    ).first()
    return changed is not None and row.state == UNDOING and undo_next(connection, owner, now)


def finish(
    connection: Connection,
    owner: Owner,
    token: int | None,
    ended: Ended,
    now: ColumnElement[float],
    *,
    job: str | None = None,
    undo: bool = True,
) -> Told | None:
    """A durable job has ended for good.

    Args:
        token: of the run that has ended it; None for one that did not begin: it was cancelled, or
            its time is over.
        job: its name; another job may have been given the same id. None for the one that has it.
        undo: whether a job that is not done is undone; one that was cancelled is if that was asked
            for.

    Returns:
        None if the run was replaced or the job has ended: nothing is changed.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch != owner.epoch or job not in (None, row.job):
        return None
    undo = undo and ended.error is not None and (not ended.cancelled or row.undo_asked)
    if row.state not in (RUNNING, SUSPENDED):
        return _stored_before(connection, owner, row, token, ended, undo=undo)
    if token not in (None, row.token):
        return None
    undoing = undo and mark_undo(connection, owner)
    state = _state_of(ended, undoing=undoing)
    orphans = _orphans(connection, owner) if undoing else abandon(connection, owner)
    connection.execute(
        update(durable)
        .where(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
        .values(
            state=state, changed_at=now, token=row.token + 1, properties=None, body=None,
            **outcome_of(ended),
        )
    )  # fmt: skip
    woken = undoing and undo_next(connection, owner, now)
    return Told(int(woken), tuple(orphans), state, undo)


def _stored_before(
    connection: Connection, owner: Owner, row: Any, token: int | None, ended: Ended, *, undo: bool
) -> Told | None:
    """The same end of the same run is in the store: the connection was lost during its commit, and
    the worker tries again. What comes after it, such as the end of a step, is still to be done."""
    outcome = outcome_of(ended)
    if token is None or row.token != token + 1:
        return None
    if (row.result, row.error) != (outcome["result"], outcome["error"]):
        return None
    left = and_(of(owner), steps.c.state == ABANDONED, steps.c.child_id.is_not(None))
    orphans = connection.execute(select(steps.c.child_id).where(left)).scalars().all()
    return Told(0, tuple(orphans), row.state, undo)


def _state_of(ended: Ended, *, undoing: bool) -> str:
    if ended.error is None:
        return DONE
    if undoing:
        return UNDOING
    return CANCELLED if ended.cancelled else FAILED


def _orphans(connection: Connection, owner: Owner) -> list[str]:
    """The jobs that still run or wait, and are cancelled; those that have an undo are waited for,
    since they may be done before they hear of it."""
    waiting = and_(of(owner), steps.c.state == WAITING)
    rows = connection.execute(
        select(steps.c.child_id).where(waiting, steps.c.child_id.is_not(None))
    ).all()
    others = and_(of(owner), steps.c.state.in_((WAITING, FEEDING)), steps.c.undo.is_(None))
    values = {"state": ABANDONED, "awaited": False, "sent_at": None}
    gone = update(steps).where(others).values(**values).returning(steps.c.kind)
    if any(row.kind == MAP for row in connection.execute(gone).all()):
        abandon_chunks(connection, owner)
    return [row.child_id for row in rows]
