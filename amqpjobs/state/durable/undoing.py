"""Undoes the steps of a durable job: sends the undo jobs one after the other, the last step first.

The row of the job is locked. Changes when a step is undone in another way.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.headers import family_header
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.rows import Owner, locked, of
from amqpjobs.state.durable.values import (
    CANCELLED,
    DONE,
    DUE,
    FAILED,
    SENT,
    UNDO_FAILED,
    UNDOING,
    UNDONE,
    WAITING,
    Ended,
    Told,
)
from amqpjobs.state.outbox.rows import add, properties_in
from amqpjobs.state.store.tables import durable, outbox, steps


def mark_undo(connection: Connection, owner: Owner) -> bool:
    """Begin to undo all steps that are done and have an undo job. A step that still runs is undone
    once it is done."""
    undoable = and_(of(owner), steps.c.undo.is_not(None))
    due = update(steps).where(undoable, steps.c.state == DONE, steps.c.undo_state.is_(None))
    marked = connection.execute(due.values(undo_state=DUE).returning(steps.c.n)).all()
    pending = select(steps.c.n).where(undoable, steps.c.state == WAITING).limit(1)
    return bool(marked) or connection.execute(pending).first() is not None


def undo_next(connection: Connection, owner: Owner, now: ColumnElement[float]) -> bool:
    """Take back the step that was done last, of those that are left. The job is locked.

    Returns:
        Whether a message was sent.
    """
    late = and_(of(owner), steps.c.undo.is_not(None))
    if connection.execute(select(steps.c.n).where(late, steps.c.state == WAITING)).first():
        return False
    # What was done although its job has failed meanwhile.
    fresh = and_(late, steps.c.state == DONE, steps.c.undo_state.is_(None))
    connection.execute(update(steps).where(fresh).values(undo_state=DUE))
    if connection.execute(select(steps.c.n).where(late, steps.c.undo_state == SENT)).first():
        return False
    left = select(steps).where(late, steps.c.undo_state == DUE)
    row = connection.execute(
        left.order_by(steps.c.ended_at.desc(), steps.c.n.desc()).limit(1)
    ).first()
    if row is None:
        _set_state(connection, owner, UNDONE, now)
        return False
    add(connection, outbox, owner.app, undo_message(row), now)
    mine = and_(of(owner), steps.c.name == row.name)
    connection.execute(update(steps).where(mine).values(undo_state=SENT, sent_at=now, sends=1))
    return True


def undo_message(row: Any) -> Prepared:
    """The message that undoes a step. Its argument is the result, unless it has arguments."""
    body = row.result if row.undo_body is None else row.undo_body
    properties = properties_in(row.undo_properties)
    # A replay has taken the step into another epoch than the message was made in.
    family = family_header(Family(row.job_id, row.epoch, row.name, "undo"))
    properties = properties._replace(headers={**properties.headers, **family})
    return Prepared(
        row.undo_id, row.undo, row.undo_routing_key, properties, bytes(body or b"null"), None,
        row.undo_tracked,
    )  # fmt: skip


def end_undo(
    connection: Connection,
    owner: Owner,
    family: Family,
    child_id: str,
    ended: Ended,
    now: ColumnElement[float],
) -> Told:
    """End an undo job and send the next one."""
    mine = and_(of(owner), steps.c.name == family.step, steps.c.undo_id == child_id)
    state = DONE if ended.error is None else FAILED
    error = None if ended.error is None else ended.error.text()
    # A dead letter of an undo that was replayed counts as well.
    before = (SENT, FAILED) if state == DONE else (SENT,)
    changed = connection.execute(
        update(steps)
        .where(mine, steps.c.undo_state.in_(before))
        .values(undo_state=state, undo_error=error, sent_at=None)
        .returning(steps.c.n)
    ).first()
    if changed is None:
        return Told()
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch != owner.epoch or row.state not in (UNDOING, UNDO_FAILED):
        return Told()
    if state == FAILED:
        _set_state(connection, owner, UNDO_FAILED, now)
        return Told(state=UNDO_FAILED)
    if row.state == UNDO_FAILED:
        _set_state(connection, owner, UNDOING, now)
    return Told(woken=int(undo_next(connection, owner, now)))


def _set_state(connection: Connection, owner: Owner, state: str, now: ColumnElement[float]) -> None:
    connection.execute(
        update(durable)
        .where(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
        .values(state=state, changed_at=now)
    )


def undo_job(
    connection: Connection,
    app: str,
    job_id: str,
    renewed: Mapping[str, tuple[str, Properties]],
    now: ColumnElement[float],
) -> tuple[str | None, int]:
    """Undo a job that has ended, or continue an undo that failed.

    Args:
        renewed: by the ids of the messages that have failed: those in their place.

    Returns:
        The state that it had, None for an unknown job; and how many messages were sent.
    """
    row = locked(connection, app, job_id)
    if row is None:
        return None, 0
    owner = Owner(app, job_id, row.epoch)
    if row.state not in (UNDO_FAILED, DONE, FAILED, CANCELLED):
        return row.state, 0
    for undo_id, (new_id, properties) in renewed.items():
        connection.execute(
            update(steps)
            .where(of(owner), steps.c.undo_id == undo_id, steps.c.undo_state == FAILED)
            .values(
                undo_state=DUE, undo_id=new_id, undo_error=None,
                undo_properties=encode_properties(properties),
            )
        )  # fmt: skip
    if row.state != UNDO_FAILED and not mark_undo(connection, owner):
        return row.state, 0
    _set_state(connection, owner, UNDOING, now)
    return row.state, int(undo_next(connection, owner, now))
