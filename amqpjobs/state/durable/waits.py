"""Wakes durable jobs by a signal, or when the time of a wait has come.

Changes when a job may wait for something else.
"""

from typing import Any

from sqlalchemy import ColumnElement, Connection, and_, func, select, update

from amqpjobs.state.durable.ends import wake
from amqpjobs.state.durable.rows import Owner, locked, of
from amqpjobs.state.durable.values import (
    DONE,
    ENDED,
    FAILED,
    SIGNAL,
    SLEEP,
    UNDOING,
    WAITING,
    Failed,
)
from amqpjobs.state.store.tables import durable, steps
from amqpjobs.state.store.upsert import insert_into


def send_signal(
    connection: Connection, app: str, job_id: str, name: str, body: bytes, now: ColumnElement[float]
) -> tuple[bool, bool]:
    """Store a signal for a job. An early signal is kept.

    Returns:
        Whether it was stored, and whether the job was woken. It is not stored if the job has ended,
        or has had a signal of this name.
    """
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
        The number of steps, the ids of called jobs that must be cancelled, and the number of
        durable jobs that were woken.
    """
    # The jobs before their steps, as all do that write both: or two could wait for each other.
    of_job = and_(durable.c.app == steps.c.app, durable.c.job_id == steps.c.job_id)
    due = (
        select(steps.c.job_id, steps.c.epoch, steps.c.name, steps.c.kind, steps.c.child_id)
        .select_from(steps.join(durable, of_job))
        .where(
            steps.c.app == app, steps.c.due_at.is_not(None), steps.c.state == WAITING,
            steps.c.due_at <= now,
        )
        .order_by(steps.c.job_id)
        .limit(most)
        .with_for_update(of=durable, skip_locked=True)
    )  # fmt: skip
    rows = connection.execute(due).all()
    orphans, woken = [], 0
    for row in rows:
        owner = Owner(app, row.job_id, row.epoch)
        mine = and_(of(owner), steps.c.name == row.name, steps.c.state == WAITING)
        over = Failed("timeout", f"not done in time: {row.name}", reason="timeout")
        values: dict[str, Any] = {"state": FAILED, "error": over.text()}
        if row.kind == SLEEP:
            values = {"state": DONE, "result": b"null"}
        values |= {"ended_at": now, "properties": None, "body": None, "sent_at": None}
        if connection.execute(update(steps).where(mine).values(**values)).rowcount == 0:
            continue
        if row.child_id is not None:
            orphans.append(row.child_id)
        woken += wake(connection, owner, now)
    return len(rows), orphans, woken
