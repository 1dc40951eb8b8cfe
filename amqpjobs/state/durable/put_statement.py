"""The statement that writes a step. It is built once for each set of columns, since building it
takes as long as its execution in PostgreSQL.

Changes when a step is written under another condition.
"""

import weakref
from typing import Any

from sqlalchemy import BindParameter, ColumnElement, Connection, and_, bindparam, select
from sqlalchemy.engine import Dialect

from amqpjobs.state.durable.values import WAITING
from amqpjobs.state.store.tables import durable, steps
from amqpjobs.state.store.upsert import insert_into

KEPT = frozenset({"app", "job_id", "epoch", "name", "started_at", "n"})
"""Columns of a step that stay as they were when it is written again."""

_made: "weakref.WeakKeyDictionary[Dialect, dict[Any, Any]]" = weakref.WeakKeyDictionary()


def put_if_held(
    connection: Connection,
    token: int,
    values: dict[str, Any],
    now: ColumnElement[float],
    wait: float | None,
) -> bool:
    """Write a step, if a run with this token has its job.

    Args:
        values: by column; what is an expression is the time of the database, or that and `wait`.

    Returns:
        Whether it was written. What has ended, such as a signal that came early, is not waited for
        again.
    """
    waits = values["state"] == WAITING
    timed = tuple(name for name, value in values.items() if isinstance(value, ColumnElement))
    given = isinstance(now, BindParameter)
    shape = tuple(values), timed, waits, given
    known = _made.setdefault(connection.dialect, {})
    statement = known.get(shape)
    if statement is None:
        statement = known[shape] = _make(connection, tuple(values), timed, waits, now, given=given)
    params = {f"p_{name}": value for name, value in values.items() if name not in timed}
    params |= {"p_token": token}
    if given:
        params["p_now"] = now.value
    if wait is not None:
        params["p_wait"] = wait
    return connection.execute(statement, params).first() is not None


def _make(
    connection: Connection,
    columns: tuple[str, ...],
    timed: tuple[str, ...],
    waits: bool,
    now: ColumnElement[float],
    *,
    given: bool,
) -> Any:
    time: ColumnElement[float] = bindparam("p_now", type_=now.type) if given else now
    held = and_(
        durable.c.app == bindparam("p_app"), durable.c.job_id == bindparam("p_job_id"),
        durable.c.token == bindparam("p_token"), durable.c.epoch == bindparam("p_epoch"),
    )  # fmt: skip
    chosen = []
    for name in columns:
        value: ColumnElement[Any] = bindparam(f"p_{name}", type_=steps.c[name].type)
        if name in timed:
            value = time + bindparam("p_wait", type_=now.type) if name == "due_at" else time
        chosen.append(value.label(name))
    insert = insert_into(connection, steps).from_select(columns, select(*chosen).where(held))
    return insert.on_conflict_do_update(
        index_elements=["app", "job_id", "epoch", "name"],
        set_={name: insert.excluded[name] for name in columns if name not in KEPT},
        where=steps.c.state == WAITING if waits else None,
    ).returning(steps.c.n)
