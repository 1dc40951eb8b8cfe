"""The rows of an inbox: a job that was done, in the transaction of what it did.

All are functions of a connection. Changes when what is kept of a job does.
"""

import weakref
from dataclasses import dataclass
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Connection,
    Table,
    and_,
    bindparam,
    delete,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite

PRUNE_BATCH = 1_000
"""Rows that one transaction of pruning takes."""


@dataclass(frozen=True, slots=True)
class Entry:
    """Which job it is.

    Attributes:
        app: its app.
        job: its name.
        job_id: its id.
        epoch: how often it was replayed from the dead letters: then it runs again.
    """

    app: str
    job: str
    job_id: str
    epoch: int


@dataclass(frozen=True, slots=True)
class Done:
    """It was done before.

    Attributes:
        result: what it returned, as JSON, if somebody was to get it.
    """

    result: bytes | None


def enter(
    connection: Connection, table: Table, entry: Entry, now: ColumnElement[float]
) -> Done | None:
    """Note that a job is done in this transaction.

    A transaction that does the same job at the same time is waited for.

    Returns:
        None if nobody has done it before, so that it has to run now.
    """
    values = {"app": entry.app, "job": entry.job, "job_id": entry.job_id, "epoch": entry.epoch}
    if connection.execute(_insert(connection.dialect.name, table, now), values).first() is not None:
        return None
    found = connection.execute(select(table.c.result).where(_same(table, entry))).first()
    if found is None:
        # Gone between the two statements: it was pruned. It was done all the same.
        return Done(None)
    return Done(None if found.result is None else bytes(found.result))


_inserts: "weakref.WeakKeyDictionary[Table, dict[str, Any]]" = weakref.WeakKeyDictionary()


def _insert(dialect: str, table: Table, now: ColumnElement[float]) -> Any:
    """The statement, made once for each table: making it costs as much as running it."""
    by_dialect = _inserts.setdefault(table, {})
    statement = by_dialect.get(dialect)
    if statement is None:
        made: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
        names = ("app", "job", "job_id", "epoch")
        values = {name: bindparam(name, type_=table.c[name].type) for name in names}
        # Not by `rowcount`: of an INSERT it is -1 with some drivers (psycopg).
        statement = by_dialect[dialect] = (
            made(table)
            .values(**values, done_at=now)
            .on_conflict_do_nothing()
            .returning(table.c.job_id)
        )
    return statement


def keep_result(connection: Connection, table: Table, entry: Entry, result: bytes) -> None:
    """Keep what the job has returned, for a duplicate of its request."""
    connection.execute(update(table).where(_same(table, entry)).values(result=result))


def prune(
    connection: Connection, table: Table, app: str, now: ColumnElement[float], ttl: float
) -> int:
    """Forget some of what was done so many seconds ago.

    Returns:
        How many; `PRUNE_BATCH` when there may be more.
    """
    keys = (table.c.app, table.c.job, table.c.job_id, table.c.epoch)
    old = select(*keys).where(table.c.app == app, table.c.done_at < now - ttl).limit(PRUNE_BATCH)
    return connection.execute(delete(table).where(tuple_(*keys).in_(old))).rowcount


def _same(table: Table, entry: Entry) -> ColumnElement[bool]:
    return and_(
        table.c.app == entry.app,
        table.c.job == entry.job,
        table.c.job_id == entry.job_id,
        table.c.epoch == entry.epoch,
    )
