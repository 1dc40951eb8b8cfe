"""The store for what is promised: each piece of work is a function of a connection, run in one
transaction that is on the disk when it has returned.

Changes when a database has to be set up otherwise for that.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import ColumnElement, Connection, Double, create_engine, event, literal, select
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.state.store.engine import (
    BUSY_TIMEOUT,
    limits,
    listen_for_file,
    open_engine,
    ping_idle,
    url_of,
)
from amqpjobs.state.store.errors import errors
from amqpjobs.state.store.migrate import look, migrate
from amqpjobs.state.store.runs import Runs, now_of

if TYPE_CHECKING:
    from amqpjobs.settings import Settings

T = TypeVar("T")

IDLE_IN_TRANSACTION = 15_000
"""Milliseconds after which PostgreSQL ends the session of a process that was frozen inside of a
transaction: others wait for its locks."""


class DurableStore(Runs):
    """Transactions in the database of ``AMQPJOBS_STORE_URL``, on one event loop.

    SQLite writes through to the disk (``synchronous=FULL``) and begins with ``BEGIN IMMEDIATE``, in
    one thread; PostgreSQL has a time limit for every statement.

    Args:
        settings: where it is.
        clock: another one than the machine's replaces the database's, for tests.

    Raises:
        ConfigurationError: ``AMQPJOBS_STORE_URL`` cannot be used, or ``sql`` is not installed.
    """

    def __init__(self, settings: "Settings", clock: Clock = MACHINE) -> None:
        self._settings = settings
        self._clock = clock
        self._url = url_of(settings)
        self.dialect = self._url.get_backend_name()
        self._engine: AsyncEngine | None = None
        self._thread: ThreadPoolExecutor | None = None
        if self.dialect == "sqlite":
            self._sqlite = create_engine(
                self._url.set(drivername="sqlite"),
                connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False},
                poolclass=StaticPool,
            )
            listen_for_file(self._sqlite)
            event.listen(self._sqlite, "connect", _set_up_sqlite)
            if clock is not MACHINE:
                event.listen(self._sqlite, "connect", _hurry)
            event.listen(self._sqlite, "begin", begin_immediate)
            self._thread = ThreadPoolExecutor(1, "amqpjobs store")
        else:
            self._engine = ping_idle(create_async_engine(self._url, **limits()))
            event.listen(self._engine.sync_engine, "connect", _set_up_postgresql)

    def __repr__(self) -> str:
        return f"<DurableStore: {self._url.render_as_string(hide_password=True)}>"

    @property
    def now(self) -> ColumnElement[float]:
        """The time of the database, in seconds since the epoch, for a statement."""
        if self._clock is not MACHINE:
            return literal(self._clock.time(), Double)
        return now_of(self.dialect)

    async def open(self) -> Self:
        """See that it is there and up to date. SQLite is made, and migrated.

        Raises:
            ConfigurationError: it is behind; says what to run.
            StoreUnavailable: it cannot be reached.
        """
        engine = open_engine(self._settings)
        try:
            async with errors():
                migration = await look(engine)
                if migration.needed and self.dialect == "sqlite":
                    await migrate(engine)
                elif migration.needed:
                    raise ConfigurationError(
                        f"the store has version {migration.before or 'none'}, and this amqpjobs "
                        f"needs {migration.after}: run `amqpjobs migrate`"
                    )
        finally:
            await engine.dispose()
        return self

    async def close(self) -> None:
        """Close its connections. What is under way in SQLite ends first."""
        if self._engine is not None:
            await self._engine.dispose()
        if self._thread is not None:
            thread, self._thread = self._thread, None
            await asyncio.get_running_loop().run_in_executor(thread, self._sqlite.dispose)
            thread.shutdown(wait=False)

    async def _once(self, work: Callable[[Connection], T]) -> T:
        if self._engine is not None:
            async with self._engine.begin() as connection:
                return await connection.run_sync(work)
        if self._thread is None:
            raise RuntimeError(f"{self!r} was closed")
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._in_thread, work)

    def _in_thread(self, work: Callable[[Connection], T]) -> T:
        with self._sqlite.begin() as connection:
            return work(connection)

    async def time(self) -> float:
        """The time of the database now."""
        return await self.run(lambda connection: float(connection.scalar(select(self.now)) or 0))


def begin_immediate(connection: Connection) -> None:
    """Begin as a writer: one that has read first and writes then fails at once if another has
    written in between (https://www.sqlite.org/lang_transaction.html)."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _set_up_sqlite(connection: Any, _: object) -> None:
    import sqlite3
    from contextlib import suppress

    connection.isolation_level = None  # Python's own BEGIN would come too late: `begin_immediate`
    cursor = connection.cursor()
    with suppress(sqlite3.OperationalError):  # whoever is the first sets it for the file
        cursor.execute("PRAGMA journal_mode=WAL")
    # With WAL, NORMAL may lose the last transactions in a power cut
    # (https://www.sqlite.org/pragma.html#pragma_synchronous): what is promised must not be lost.
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.close()


def _hurry(connection: Any, _: object) -> None:
    """A test's store does not outlive the machine: its transactions need not wait for the disk."""
    connection.execute("PRAGMA synchronous=OFF").close()


def _set_up_postgresql(connection: Any, _: object) -> None:
    statement = f"SET idle_in_transaction_session_timeout = {IDLE_IN_TRANSACTION}"
    connection.run_async(lambda driver: driver.execute(statement))
