"""The store: the status of every job in one table of SQLite or PostgreSQL.

Writing is upserts only: nothing is read first, so any number of recorders may write the same jobs
at once, and an event that comes late or twice changes nothing. Changes when what is kept, or asked
for, does.
"""

import time
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import ColumnElement, Select, case, delete, func, or_, select, tuple_, update
from sqlalchemy.dialects import postgresql, sqlite

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.message.events import Event
from amqpjobs.jobs.message.status import JobStatus
from amqpjobs.state.status.table import cancelled, jobs
from amqpjobs.state.status.values import Row, merged, row_of, status_of
from amqpjobs.state.store.engine import open_engine, try_file
from amqpjobs.state.store.errors import Unfit, errors
from amqpjobs.state.store.migrate import look, migrate

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from amqpjobs.settings import Settings

PRUNE_BATCH = 1_000
"""Rows that one transaction of pruning takes: writers wait for it."""

LONGEST_LIST = 1_000


class Store:
    """The statuses of jobs.

    Args:
        settings: where it is.

    Raises:
        ConfigurationError: ``AMQPJOBS_STORE_URL`` cannot be used, or ``sql`` is not installed.
    """

    def __init__(self, settings: "Settings") -> None:
        self._engine = open_engine(settings)
        self._upsert = _upsert(self._engine.dialect.name)

    def __repr__(self) -> str:
        return f"<Store: {self._engine.url.render_as_string(hide_password=True)}>"

    async def open(self) -> Self:
        """See that it is there and up to date. SQLite is made, and migrated; PostgreSQL is not,
        since a migration of what many share is a decision of people.

        Raises:
            ConfigurationError: it is behind; says what to run.
            StoreUnavailable: it cannot be reached.
        """
        async with errors():
            await try_file(self._engine)
            migration = await look(self._engine)
            if migration.needed:
                if self._engine.dialect.name != "sqlite":
                    raise ConfigurationError(
                        f"the store has version {migration.before or 'none'}, and this amqpjobs "
                        f"needs {migration.after}: run `amqpjobs migrate`"
                    )
                await migrate(self._engine)
        return self

    async def close(self) -> None:
        """Close its connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def _writing(self) -> AsyncIterator["AsyncConnection"]:
        async with errors(), self._engine.begin() as connection:
            yield connection

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator["AsyncConnection"]:
        async with errors(), self._engine.connect() as connection:
            yield connection

    async def record(self, events: Iterable[Event]) -> int:
        """Write events, in one transaction.

        Returns:
            How many jobs could not be written, since the database cannot hold what is said of them.

        Raises:
            StoreUnavailable: nothing was written; it may be tried again.
        """
        rows: dict[str, Row] = {}
        for event in events:
            row = row_of(event)
            known = rows.get(row["id"])
            rows[row["id"]] = row if known is None else merged(known, row)
        # In one order for all: two recorders that lock the same rows crosswise would wait for ever.
        ordered = [rows[job_id] for job_id in sorted(rows)]
        try:
            await self._write(ordered)
        except Unfit:
            return await self._write_each(ordered)
        return 0

    async def _write(self, rows: Sequence[Row]) -> None:
        if rows:
            async with self._writing() as connection:
                await connection.execute(self._upsert, rows)

    async def _write_each(self, rows: Sequence[Row]) -> int:
        unfit = 0
        for row in rows:
            try:
                await self._write([row])
            except Unfit:
                unfit += 1
        return unfit

    async def row(self, job_id: str) -> Row | None:
        """What is kept of a job, by column.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        async with self._reading() as connection:
            found = await connection.execute(select(jobs).where(jobs.c.id == job_id))
            row = found.mappings().first()
            return dict(row) if row is not None else None

    async def get(self, job_id: str) -> JobStatus | None:
        """The status of a job; None for one that nobody has told of, or that was pruned.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        row = await self.row(job_id)
        return None if row is None else status_of(row, time.time())

    async def recent(
        self,
        *,
        states: Iterable[str] = (),
        queue: str | None = None,
        job: str | None = None,
        before: int | None = None,
        limit: int = 50,
    ) -> list[JobStatus]:
        """The newest statuses, newest first.

        Args:
            states: only these; all if none.
            queue: only of this queue.
            job: only of the job of this name.
            before: only older than this `JobStatus.sequence`: the next page.
            limit: how many at most, up to 1,000.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        query = select(jobs).order_by(jobs.c.sequence.desc(), jobs.c.id)
        query = _filtered(query, tuple(states), queue, job, before)
        async with self._reading() as connection:
            found = await connection.execute(query.limit(max(1, min(limit, LONGEST_LIST))))
            now = time.time()
            return [status_of(dict(row), now) for row in found.mappings()]

    async def cancel(self, app: str, job_id: str, reason: str, now: float, until: float) -> None:
        """Keep that a job was cancelled.

        Args:
            now: cancellations that were to be kept until before this time are forgotten.
            until: seconds since the epoch.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        same = (cancelled.c.id == job_id) & (cancelled.c.app == app)
        values = {"id": job_id, "app": app, "reason": reason, "expires_at": until}
        insert: Any = sqlite.insert if self._engine.dialect.name == "sqlite" else postgresql.insert
        keys = [cancelled.c.id, cancelled.c.app]
        async with self._writing() as connection:
            await connection.execute(delete(cancelled).where(cancelled.c.expires_at < now))
            await connection.execute(
                insert(cancelled)
                .values(values)
                .on_conflict_do_update(index_elements=keys, set_=values, where=same)
            )

    async def cancelled(self, app: str, now: float, most: int) -> list[tuple[str, str, float]]:
        """Ids, reasons and ends of the newest cancellations, the oldest of them first.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        query = (
            select(cancelled.c.id, cancelled.c.reason, cancelled.c.expires_at)
            .where(cancelled.c.app == app, cancelled.c.expires_at > now)
            .order_by(cancelled.c.expires_at.desc())
            .limit(most)
        )
        async with self._reading() as connection:
            rows = (await connection.execute(query)).all()
        return [(row.id, row.reason, row.expires_at) for row in reversed(rows)]

    async def prune(self, older_than: float, now: float) -> int:
        """Forget some of what is old: one batch, so that nobody waits for long.

        Args:
            older_than: seconds since the epoch; what has not changed since then goes, unless it is
                still to run.
            now: results that are to be kept until before this time go.

        Returns:
            How many rows were changed; less than `PRUNE_BATCH` when all is done.

        Raises:
            StoreUnavailable: it cannot be reached.
        """
        old = (
            select(jobs.c.id)
            .where(jobs.c.sequence < int(older_than * 1_000_000))
            .where(or_(jobs.c.due_at.is_(None), jobs.c.due_at < older_than))
            .limit(PRUNE_BATCH)
        )
        expired = select(jobs.c.id).where(jobs.c.result_expires_at < now).limit(PRUNE_BATCH)
        async with self._writing() as connection:
            gone = await connection.execute(delete(jobs).where(jobs.c.id.in_(old)))
        async with self._writing() as connection:
            emptied = await connection.execute(
                update(jobs)
                .where(jobs.c.id.in_(expired))
                .values(result=None, result_expires_at=None)
            )
        return max(gone.rowcount, emptied.rowcount)


def _filtered(
    query: Select[Any],
    states: tuple[str, ...],
    queue: str | None,
    job: str | None,
    before: int | None,
) -> Select[Any]:
    if states:
        query = query.where(jobs.c.state.in_(states))
    if queue is not None:
        query = query.where(jobs.c.queue == queue)
    if job is not None:
        query = query.where(jobs.c.job == job)
    if before is not None:
        query = query.where(jobs.c.sequence < before)
    return query


def _upsert(dialect: str) -> Any:
    """`amqpjobs.state.status.values.merged` in SQL; a test holds one against the other."""
    insert: Any = sqlite.insert if dialect == "sqlite" else postgresql.insert
    statement = insert(jobs)
    given = statement.excluded
    names = ("epoch", "attempt", "ended", "sequence")
    newer = tuple_(*(given[name] for name in names)) > tuple_(*(jobs.c[name] for name in names))
    values: dict[str, ColumnElement[Any]] = {
        column.name: case((newer, given[column.name]), else_=column)
        for column in jobs.c
        if column.name != "id"
    }
    first, last = jobs.c.queued_at, jobs.c.started_at
    values["queued_at"] = _either(first, given.queued_at, given.queued_at < first)
    values["started_at"] = _either(last, given.started_at, given.started_at > last)
    return statement.on_conflict_do_update(index_elements=[jobs.c.id], set_=values)


def _either(one: Any, other: Any, other_wins: Any) -> ColumnElement[Any]:
    return case((other_wins, other), else_=func.coalesce(one, other))
