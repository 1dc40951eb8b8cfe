"""The rows of durable jobs and their steps while their handlers run: begins, writes, reads them.

All are functions of a connection. Each write has the token of its run. A newer run of the same job
has another token, and a write of the older run then has no effect. Changes when the row of a step
does.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, case, func, or_, select, update

from amqpjobs.broker.amqp.frames import encode_properties
from amqpjobs.client.prepared import Prepared
from amqpjobs.state.durable.put_statement import put_if_held
from amqpjobs.state.durable.values import (
    ABANDONED,
    CANCELLED,
    DONE,
    EACH,
    FAILED,
    FEEDING,
    MAP,
    RUNNING,
    SIGNAL,
    SUSPENDED,
    UNDO_FAILED,
    UNDOING,
    UNDONE,
    WAITING,
    Failed,
    Step,
)
from amqpjobs.state.limits.keys import among
from amqpjobs.state.outbox.rows import add
from amqpjobs.state.store.tables import chunks, durable, outbox, steps
from amqpjobs.state.store.upsert import insert_into


@dataclass(frozen=True, slots=True)
class Owner:
    """A durable job.

    Attributes:
        app: its app.
        job_id: its id.
        epoch: how often it was replayed.
    """

    app: str
    job_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Beginning:
    """A run that is about to begin.

    Attributes:
        owner: which job.
        job: its name.
        routing_key: the AMQP queue that it came from.
        tracked: its queue, as statuses show it.
        parent_id, parent_step: the durable job that waits for it.
        deadline: by which it is to be done.
        replay: the step at which a replay resumes; False to restart; None to keep all steps.
    """

    owner: Owner
    job: str
    routing_key: str
    tracked: str | None = None
    parent_id: str | None = None
    parent_step: str | None = None
    deadline: float | None = None
    replay: str | bool | None = None


@dataclass(frozen=True, slots=True)
class Begun:
    """It may run.

    Attributes:
        token: of this run.
        steps: what was done and begun before, by name.
    """

    token: int
    steps: dict[str, Step]


@dataclass(frozen=True, slots=True)
class NotBegun:
    """It does not run: a run of it has brought the job to this state.

    Attributes:
        state: of the job.
        result: if it is done.
        error: if it has failed.
        earlier: whether that is the state of an earlier epoch, which a replay has to wait for.
    """

    state: str
    result: bytes | None = None
    error: Failed | None = None
    earlier: bool = False


def begin(
    connection: Connection, beginning: Beginning, now: ColumnElement[float]
) -> Begun | NotBegun:
    """Begin a run. From now on writes of earlier runs of the job have no effect."""
    owner = beginning.owner
    values = {
        "app": owner.app, "job_id": owner.job_id, "job": beginning.job, "epoch": owner.epoch,
        "state": RUNNING, "token": 1, "routing_key": beginning.routing_key,
        "tracked": beginning.tracked, "parent_id": beginning.parent_id,
        "parent_step": beginning.parent_step, "deadline": beginning.deadline, "created_at": now,
        "changed_at": now,
    }  # fmt: skip
    made = insert_into(connection, durable).values(**values)
    made = made.on_conflict_do_update(
        index_elements=["app", "job_id"],
        set_={"token": durable.c.token + 1, "changed_at": now},
        where=and_(
            durable.c.job == beginning.job,
            durable.c.epoch == owner.epoch,
            durable.c.state == RUNNING,
            durable.c.cancel_reason.is_(None),
        ),
    ).returning(durable.c.token)
    row = connection.execute(made).first()
    if row is not None:
        # A signal may have come before the job.
        if row.token == 1 and owner.epoch:
            _take_signals(connection, owner)
        return Begun(row.token, load(connection, owner))
    return _again(connection, beginning, now)


def _again(
    connection: Connection, beginning: Beginning, now: ColumnElement[float]
) -> Begun | NotBegun:
    owner = beginning.owner
    row = locked(connection, owner.app, owner.job_id)
    if row is None or row.epoch > owner.epoch:
        return NotBegun(SUSPENDED)  # pruned, or a message of an earlier epoch
    if row.job != beginning.job:
        words = (
            f"the id {owner.job_id!r} is that of a durable job {row.job!r}: give each durable job "
            "an id that no other job has"
        )
        return NotBegun(FAILED, None, Failed("rejected", words, reason="rejected"))
    if row.epoch == owner.epoch and row.state == RUNNING:
        return NotBegun(CANCELLED, None, Failed("cancelled", row.cancel_reason))
    if row.epoch == owner.epoch or row.state in (UNDOING, UNDO_FAILED):
        result = None if row.result is None else bytes(row.result)
        earlier = row.epoch < owner.epoch
        return NotBegun(row.state, result, Failed.of_text(row.error), earlier)
    _replay(connection, beginning, row)
    connection.execute(
        update(durable)
        .where(durable.c.app == owner.app, durable.c.job_id == owner.job_id)
        .values(
            epoch=owner.epoch, state=RUNNING, token=row.token + 1, result=None, error=None,
            changed_at=now, deadline=beginning.deadline, sends=0, cancel_reason=None,
            undo_asked=False,
        )
    )  # fmt: skip
    return Begun(row.token + 1, load(connection, owner))


def _take_signals(connection: Connection, owner: Owner) -> None:
    """A job that was replayed before it had ever begun: its signals were stored for a first run."""
    first = and_(of(Owner(owner.app, owner.job_id, 0)), steps.c.kind == SIGNAL)
    connection.execute(update(steps).where(first).values(epoch=owner.epoch))


def _replay(connection: Connection, beginning: Beginning, row: Any) -> None:
    """Take the steps that are kept into the new epoch. Steps of an undone job are not kept."""
    replay, owner = beginning.replay, beginning.owner
    if replay is False or row.state == UNDONE:
        return
    earlier = Owner(owner.app, owner.job_id, row.epoch)
    # A loop goes on behind the items that are done.
    loop = and_(steps.c.kind == EACH, steps.c.state == ABANDONED, steps.c.cursor.is_not(None))
    kept = [of(earlier), or_(steps.c.state == DONE, loop)]
    if isinstance(replay, str):
        first = select(steps.c.n).where(of(earlier), steps.c.name == replay).scalar_subquery()
        kept.append(steps.c.n < func.coalesce(first, 2**31 - 1))
    state = case((loop, WAITING), else_=steps.c.state)
    taken = update(steps).where(*kept).values(epoch=owner.epoch, awaited=False, state=state)
    rows = connection.execute(taken.returning(steps.c.name, steps.c.kind)).all()
    for name in [row.name for row in rows if row.kind == MAP]:
        results = and_(_chunks_of(earlier), chunks.c.step == name)
        connection.execute(update(chunks).where(results).values(epoch=owner.epoch))


def _chunks_of(owner: Owner) -> ColumnElement[bool]:
    return and_(
        chunks.c.app == owner.app, chunks.c.job_id == owner.job_id, chunks.c.epoch == owner.epoch
    )


def of(owner: Owner) -> ColumnElement[bool]:
    """The steps of a job, in its epoch."""
    return and_(
        steps.c.app == owner.app, steps.c.job_id == owner.job_id, steps.c.epoch == owner.epoch
    )


def locked(connection: Connection, app: str, job_id: str) -> Any:
    """The row of a job, for this transaction alone; None if there is none."""
    query = select(durable).where(durable.c.app == app, durable.c.job_id == job_id)
    return connection.execute(query.with_for_update()).first()


LOADED = (
    steps.c.name, steps.c.kind, steps.c.n, steps.c.state, steps.c.fingerprint, steps.c.result,
    steps.c.error, steps.c.cursor, steps.c.child_id, steps.c.child, steps.c.due_at,
    steps.c.attempts, steps.c.awaited,
)  # fmt: skip


def load(
    connection: Connection, owner: Owner, names: Collection[str] | None = None
) -> dict[str, Step]:
    """The steps of a job, or of these names those that wait no more."""
    query = select(*LOADED).where(of(owner))
    if names is not None:
        wanted = among(connection, steps.c.name, names)
        query = query.where(wanted, steps.c.state != WAITING)
    return {row.name: step_of(row) for row in connection.execute(query)}


def step_of(row: Any) -> Step:
    """The step in a row."""
    return Step(
        row.name, row.kind, row.n, row.state, row.fingerprint,
        None if row.result is None else bytes(row.result), Failed.of_text(row.error), row.cursor,
        row.child_id, row.child, row.due_at, row.attempts, bool(row.awaited),
    )  # fmt: skip


def put(
    connection: Connection,
    owner: Owner,
    token: int,
    step: Step,
    now: ColumnElement[float],
    *,
    message: Prepared | None = None,
    wait: float | None = None,
) -> bool:
    """Write a step.

    Args:
        token: of the run.
        message: of the job that it waits for, which is sent.
        wait: seconds after which its waiting is over.

    Returns:
        False if nothing is written: a newer run has begun, or what was to be waited for has ended.
    """
    values = values_of(owner, step, now, message, wait)
    if not put_if_held(connection, token, values, now, wait):
        return False
    if message is not None:
        add(connection, outbox, owner.app, message, now)
    return True


def values_of(
    owner: Owner,
    step: Step,
    now: ColumnElement[float],
    message: Prepared | None,
    wait: float | None,
) -> dict[str, Any]:
    """The columns of a step, and of the messages that belong to it."""
    values: dict[str, Any] = {
        "app": owner.app, "job_id": owner.job_id, "epoch": owner.epoch, "name": step.name,
        "kind": step.kind, "n": step.n, "state": step.state, "awaited": step.awaited,
        "fingerprint": step.fingerprint, "result": step.result,
        "error": None if step.error is None else step.error.text(), "cursor": step.cursor,
        "attempts": step.attempts, "started_at": now,
        "ended_at": None if step.state in (WAITING, FEEDING) else now,
    }  # fmt: skip
    if wait is not None:
        values["due_at"] = now + wait
    if step.child is not None:
        values |= {"child": step.child, "child_id": step.child_id}
    if message is not None:
        values |= stored(message) | {"sends": 1, "sent_at": now}
        if message.due is not None:
            values["sent_at"] = message.due  # until then nothing is heard of it
    if (undo := step.undo) is not None:
        values |= {f"undo_{name}": value for name, value in stored(undo.message).items()}
        values |= {"undo": undo.message.job, "undo_id": undo.message.job_id}
        if undo.given:
            values["undo_body"] = None
    return values


def stored(message: Prepared) -> dict[str, Any]:
    """The columns of a message that may be sent again."""
    return {
        "routing_key": message.routing_key,
        "properties": encode_properties(message.properties),
        "body": message.body,
        "tracked": message.tracked,
    }


def put_cursor(
    connection: Connection, owner: Owner, token: int, step: Step, now: ColumnElement[float]
) -> bool:
    """Write how far a step has come. See `put`."""
    return put(connection, owner, token, replace(step, awaited=False), now)


def abandon(connection: Connection, owner: Owner) -> list[str]:
    """Abandon all steps that are waited for.

    Returns:
        The ids of the jobs that were waited for.
    """
    gone = (
        update(steps)
        .where(of(owner), steps.c.state.in_((WAITING, FEEDING)))
        .values(state=ABANDONED, awaited=False, properties=None, body=None, sent_at=None)
        .returning(steps.c.child_id, steps.c.kind)
    )
    rows = connection.execute(gone).all()
    if any(row.kind == MAP for row in rows):
        abandon_chunks(connection, owner)
    return [row.child_id for row in rows if row.child_id is not None]


def abandon_chunks(connection: Connection, owner: Owner, name: str | None = None) -> None:
    """Abandon the chunks of one map, or of all: workers drop those that they get."""
    mine = _chunks_of(owner)
    if name is not None:
        mine = and_(mine, chunks.c.step == name)
    connection.execute(
        update(chunks)
        .where(mine, chunks.c.state == WAITING)
        .values(state=ABANDONED, properties=None, body=None)
    )


def rows_of(connection: Connection, app: str, job_id: str) -> tuple[Any, Sequence[Any]]:
    """All that is kept of a job, for people: its row, and those of its steps in its epoch."""
    query = select(durable).where(durable.c.app == app, durable.c.job_id == job_id)
    row = connection.execute(query).first()
    if row is None:
        return None, ()
    own = of(Owner(app, job_id, row.epoch))
    return row, connection.execute(select(steps).where(own).order_by(steps.c.n)).all()
