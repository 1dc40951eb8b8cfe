"""The ends of durable jobs and of what they wait for: suspended, woken, ended, undone.

Each is one transaction, guarded by the state that it changes: what comes twice changes nothing the
second time. The row of the job is locked behind that of the step, so that of two last steps that
end at once the second one sees the first, and the job is woken exactly once. Changes when a job may
end, or be woken, in another way.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, exists, func, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.state.durable.rows import Owner, abandon, abandon_chunks, locked, of
from amqpjobs.state.durable.values import (
    CANCELLED,
    DONE,
    DUE,
    FAILED,
    FEEDING,
    MAP,
    RUNNING,
    SENT,
    SUSPENDED,
    UNDO_FAILED,
    UNDOING,
    UNDONE,
    WAITING,
    Failed,
)
from amqpjobs.state.limits.keys import among
from amqpjobs.state.outbox.rows import add, message_of, properties_in
from amqpjobs.state.store.tables import durable, outbox, steps


@dataclass(frozen=True, slots=True)
class Ended:
    """What has become of a job.

    Attributes:
        result: as JSON, if it is done.
        error: why it has failed; None if it is done.
        cancelled: whether it was cancelled.
    """

    result: bytes | None = None
    error: Failed | None = None
    cancelled: bool = False


@dataclass(frozen=True, slots=True)
class Told:
    """What a transaction has changed for others.

    Attributes:
        woken: how many messages it has put into the outbox.
        orphans: the ids of jobs that nobody waits for any more, which are to be cancelled.
        state: of the job, if it was a durable one that has ended.
    """

    woken: int = 0
    orphans: tuple[str, ...] = ()
    state: str | None = None


def suspend(
    connection: Connection,
    owner: Owner,
    token: int,
    names: Collection[str],
    message: Prepared,
    now: ColumnElement[float],
    maps: Collection[str] = (),
) -> Told | None:
    """A run has ended that waits for these steps; for none, it is to go on at once.

    Args:
        message: that it goes on by.
        maps: those of the steps that have more items to send: it goes on at once if one of them has
            room for these by now.

    Returns:
        None if a newer run has begun: nothing is changed.
    """
    values = {
        "state": SUSPENDED, "properties": encode_properties(message.properties),
        "body": message.body, "routing_key": message.routing_key, "tracked": message.tracked,
        "changed_at": now, "sends": 0,
    }  # fmt: skip
    held = _held(owner, token)
    if connection.execute(update(durable).where(*held).values(**values)).rowcount == 0:
        return None
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
    """Send a suspended job again, if nothing that it waits for is left.

    Returns:
        Whether it was sent.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch != owner.epoch:
        return False
    if row.state == UNDOING:
        return undo_next(connection, owner, now)
    if row.state != SUSPENDED or _awaits(connection, owner):
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


def _awaits(connection: Connection, owner: Owner) -> bool:
    waiting = select(steps.c.n).where(of(owner), steps.c.awaited, steps.c.state == WAITING)
    return connection.execute(waiting.limit(1)).first() is not None


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
    if family.part == "undo":
        return Told(woken=int(_end_undo(connection, owner, family, child_id, ended, now)))
    state = DONE if ended.error is None else FAILED
    mine = and_(of(owner), steps.c.name == family.step, steps.c.child_id == child_id)
    changed = connection.execute(
        update(steps)
        .where(mine, steps.c.state == WAITING)
        .values(state=state, ended_at=now, properties=None, body=None, **_outcome(ended))
        .returning(steps.c.n)
    ).first()
    if changed is None:
        return Told(woken=int(ended.error is None and _mend(connection, owner, mine, ended, now)))
    return Told(woken=int(wake(connection, owner, now)))


def _outcome(ended: Ended) -> dict[str, Any]:
    error = None if ended.error is None else ended.error.text()
    return {"result": ended.result, "error": error}


def _mend(
    connection: Connection,
    owner: Owner,
    mine: ColumnElement[bool],
    ended: Ended,
    now: ColumnElement[float],
) -> bool:
    """A dead letter was replayed and is done, whose failure has ended its parent: when that is
    replayed, it finds the result."""
    row = locked(connection, owner.app, owner.job_id)
    if row is not None and row.state == FAILED and row.epoch == owner.epoch:
        connection.execute(
            update(steps)
            .where(mine, steps.c.state == FAILED)
            .values(state=DONE, ended_at=now, **_outcome(ended))
        )
    return False


def finish(
    connection: Connection,
    owner: Owner,
    token: int | None,
    ended: Ended,
    now: ColumnElement[float],
    *,
    undo: bool = True,
) -> Told | None:
    """A durable job has ended for good.

    Args:
        token: of the run that has ended it; None for one that did not begin: it was cancelled, or
            its time is over.
        undo: whether a job that is not done is undone.

    Returns:
        None if there is no such run any more: nothing is changed.
    """
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch != owner.epoch or row.state not in (RUNNING, SUSPENDED):
        return None
    if token is not None and row.token != token:
        return None
    undoing = undo and ended.error is not None and _mark_undo(connection, owner)
    state = _state_of(ended, undoing=undoing)
    orphans = _orphans(connection, owner) if undoing else abandon(connection, owner)
    connection.execute(
        update(durable)
        .where(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
        .values(
            state=state, changed_at=now, token=row.token + 1, properties=None, body=None,
            **_outcome(ended),
        )
    )  # fmt: skip
    woken = undoing and undo_next(connection, owner, now)
    return Told(int(woken), tuple(orphans), state)


def _state_of(ended: Ended, *, undoing: bool) -> str:
    if ended.error is None:
        return DONE
    if undoing:
        return UNDOING
    return CANCELLED if ended.cancelled else FAILED


def _mark_undo(connection: Connection, owner: Owner) -> bool:
    """Have all that is done, and can be, taken back. What still runs is, once it has ended."""
    undoable = and_(of(owner), steps.c.undo.is_not(None))
    due = update(steps).where(undoable, steps.c.state == DONE, steps.c.undo_state.is_(None))
    marked = connection.execute(due.values(undo_state=DUE).returning(steps.c.n)).all()
    pending = select(steps.c.n).where(undoable, steps.c.state == WAITING).limit(1)
    return bool(marked) or connection.execute(pending).first() is not None


def _orphans(connection: Connection, owner: Owner) -> list[str]:
    """The jobs that still run or wait, and are cancelled; those that have an undo are waited for,
    since they may be done before they hear of it."""
    waiting = and_(of(owner), steps.c.state == WAITING)
    rows = connection.execute(
        select(steps.c.child_id).where(waiting, steps.c.child_id.is_not(None))
    ).all()
    others = and_(of(owner), steps.c.state.in_((WAITING, FEEDING)), steps.c.undo.is_(None))
    gone = update(steps).where(others).values(state="abandoned", awaited=False)
    if any(row.kind == MAP for row in connection.execute(gone.returning(steps.c.kind)).all()):
        abandon_chunks(connection, owner)
    return [row.child_id for row in rows]


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
    connection.execute(update(steps).where(mine).values(undo_state=SENT))
    return True


def undo_message(row: Any) -> Prepared:
    """The message that takes a step back: it is given the result, unless it has arguments."""
    body = row.result if row.undo_body is None else row.undo_body
    return Prepared(
        row.undo_id, row.undo, row.undo_routing_key, properties_in(row.undo_properties),
        bytes(body or b"null"), None, row.undo_tracked,
    )  # fmt: skip


def _end_undo(
    connection: Connection,
    owner: Owner,
    family: Family,
    child_id: str,
    ended: Ended,
    now: ColumnElement[float],
) -> bool:
    mine = and_(of(owner), steps.c.name == family.step, steps.c.undo_id == child_id)
    state = DONE if ended.error is None else FAILED
    error = None if ended.error is None else ended.error.text()
    # A dead letter of an undo that was replayed counts as well.
    before = (SENT, FAILED) if state == DONE else (SENT,)
    changed = connection.execute(
        update(steps)
        .where(mine, steps.c.undo_state.in_(before))
        .values(undo_state=state, undo_error=error)
        .returning(steps.c.n)
    ).first()
    if changed is None:
        return False
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch != owner.epoch or row.state not in (UNDOING, UNDO_FAILED):
        return False
    if state == FAILED:
        _set_state(connection, owner, UNDO_FAILED, now)
        return False
    if row.state == UNDO_FAILED:
        _set_state(connection, owner, UNDOING, now)
    return undo_next(connection, owner, now)


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
    """Take back a job that has ended, or whose undo has failed.

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
    if row.state != UNDO_FAILED and not _mark_undo(connection, owner):
        return row.state, 0
    _set_state(connection, owner, UNDOING, now)
    return row.state, int(undo_next(connection, owner, now))


def send_signal(
    connection: Connection, app: str, job_id: str, name: str, body: bytes, now: ColumnElement[float]
) -> tuple[bool, bool]:
    """Give a job a signal; one that is not waited for yet is kept.

    Returns:
        Whether it was taken: not by a job that has ended, or that has had one of this name; and
        whether the job was woken.
    """
    from amqpjobs.state.durable.values import ENDED, SIGNAL
    from amqpjobs.state.store.upsert import insert_into

    row = locked(connection, app, job_id)
    if row is not None and row.state in (*ENDED, UNDOING):
        return False, False
    owner = Owner(app, job_id, 0 if row is None else row.epoch)
    last = select(func.coalesce(func.max(steps.c.n), 0) + 1).where(of(owner)).scalar_subquery()
    values = {
        "app": app, "job_id": job_id, "epoch": owner.epoch, "name": name, "kind": SIGNAL, "n": last,
        "state": DONE, "result": body, "started_at": now, "ended_at": now, "awaited": False,
    }  # fmt: skip
    insert = insert_into(connection, steps).values(**values)
    made = insert.on_conflict_do_update(
        index_elements=["app", "job_id", "epoch", "name"],
        set_={"state": DONE, "result": body, "ended_at": now},
        where=and_(steps.c.kind == SIGNAL, steps.c.state == WAITING),
    ).returning(steps.c.n)
    if connection.execute(made).first() is None:
        return False, False
    return True, wake(connection, owner, now)


def end_due(
    connection: Connection, app: str, now: ColumnElement[float], most: int
) -> tuple[int, list[str], int]:
    """End what has waited until its time: sleeps are done, signals and calls have failed.

    Returns:
        How many there were, the ids of jobs that nobody waits for any more, and how many durable
        jobs were woken.
    """
    due = (
        select(steps.c.job_id, steps.c.epoch, steps.c.name)
        .where(
            steps.c.app == app, steps.c.due_at.is_not(None), steps.c.state == WAITING,
            steps.c.due_at <= now,
        )
        .order_by(steps.c.job_id)
        .limit(most)
        .with_for_update(skip_locked=True)
    )  # fmt: skip
    rows = connection.execute(due).all()
    orphans, woken = [], 0
    for row in rows:
        owner = Owner(app, row.job_id, row.epoch)
        mine = and_(of(owner), steps.c.name == row.name)
        found = connection.execute(select(steps.c.kind, steps.c.child_id).where(mine)).one()
        over = Failed("timeout", f"not done in time: {row.name}", reason="timeout")
        values: dict[str, Any] = {"state": FAILED, "error": over.text()}
        if found.kind == "sleep":
            values = {"state": DONE, "result": b"null"}
        if found.child_id is not None:
            orphans.append(found.child_id)
        connection.execute(
            update(steps).where(mine).values(ended_at=now, properties=None, body=None, **values)
        )
        woken += wake(connection, owner, now)
    return len(rows), orphans, woken


def has_durable(connection: Connection, app: str) -> bool:
    """Whether there is any durable job of an app."""
    return bool(connection.scalar(select(exists().where(durable.c.app == app))))
