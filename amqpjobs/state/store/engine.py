"""Opening the database of the store: SQLite or PostgreSQL, by its URL.

Changes when another database is understood, or one is set up otherwise.
"""

import math
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.hints import install

if TYPE_CHECKING:
    from sqlalchemy import URL, Engine
    from sqlalchemy.ext.asyncio import AsyncEngine

    from amqpjobs.settings import Settings

BUSY_TIMEOUT = 10.0
"""Seconds that SQLite waits for whoever else is writing."""

QUERY_TIMEOUT = 10.0
"""Seconds that one statement may take in PostgreSQL, and connecting to it."""

IDLE = 1.0
"""Seconds without use, from which on a connection to PostgreSQL is looked at before it is used."""

POOL = 5
"""Connections to PostgreSQL that one process keeps, at most."""

_DRIVERS = {
    "sqlite": "sqlite+aiosqlite",
    "sqlite+aiosqlite": "sqlite+aiosqlite",
    "postgres": "postgresql+asyncpg",
    "postgresql": "postgresql+asyncpg",
    "postgresql+asyncpg": "postgresql+asyncpg",
}


def open_engine(settings: "Settings") -> "AsyncEngine":
    """The engine for statuses in the database of ``AMQPJOBS_STORE_URL``; it connects when it is
    used.

    Raises:
        ConfigurationError: a URL that cannot be used (it is never shown: it may hold a password),
            or the extra ``sql`` is not installed.
    """
    url = url_of(settings)
    try:
        from sqlalchemy import event
        from sqlalchemy.ext.asyncio import create_async_engine
        from sqlalchemy.pool import NullPool

        if url.get_backend_name() != "sqlite":
            return ping_idle(create_async_engine(url, **limits()))
        # No pool: each connection is a thread, which would keep the process alive when nobody
        # closes the store, and opening a file costs next to nothing.
        engine = create_async_engine(
            url, connect_args={"timeout": BUSY_TIMEOUT}, poolclass=NullPool
        )
        listen_for_file(engine.sync_engine)
        event.listen(engine.sync_engine, "connect", _set_up_sqlite)
        return engine
    except ImportError as error:
        raise missing(error) from error


def url_of(settings: "Settings") -> "URL":
    """The URL of the store, with the driver that we use.

    Raises:
        ConfigurationError: see `open_engine`.
    """
    try:
        from sqlalchemy.engine import make_url
        from sqlalchemy.exc import ArgumentError
    except ImportError as error:
        raise missing(error) from error
    try:
        url = make_url(settings.store_url.get_secret_value())
    except (ArgumentError, ValueError):
        raise _unusable("is no URL") from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise _unusable("names a database that is not supported")
    url = url.set(drivername=driver)
    if not driver.startswith("sqlite"):
        return _for_asyncpg(url)
    if not url.database or url.database == ":memory:":
        raise _unusable("names no file, which several processes could share")
    return url


def listen_for_file(engine: "Engine") -> None:
    """Make the file of SQLite before it is first opened, so that others cannot read it."""
    from sqlalchemy import event

    database = engine.url.database
    if database and not database.startswith("file:"):
        event.listen(engine, "do_connect", lambda *_: _make_private(database))


def limits() -> dict[str, Any]:
    """Of PostgreSQL: connections, and how long anything may take."""
    return {
        "pool_size": POOL,
        "max_overflow": 0,
        "pool_timeout": QUERY_TIMEOUT,
        "connect_args": {"command_timeout": QUERY_TIMEOUT, "timeout": QUERY_TIMEOUT},
    }


def ping_idle(engine: "AsyncEngine") -> "AsyncEngine":
    """Have connections to PostgreSQL that were idle looked at before they are used, as SQLAlchemy's
    ``pool_pre_ping`` does each time: with asyncpg that takes three round trips, as long as all
    else of a short transaction. One that the server has closed is known without asking."""
    from sqlalchemy import event

    dialect = engine.dialect

    def returned(_: object, record: Any) -> None:
        record.info["returned"] = time.monotonic()

    def taken(connection: Any, record: Any, _: object) -> None:
        if connection.driver_connection.is_closed() or (
            time.monotonic() - record.info.get("returned", math.inf) > IDLE
            and not answers(connection)
        ):
            from sqlalchemy.exc import DisconnectionError

            raise DisconnectionError  # the pool takes another one

    def answers(connection: Any) -> bool:
        try:
            return dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            return not dialect.is_disconnect(error, connection, None)

    event.listen(engine.sync_engine, "checkin", returned)
    event.listen(engine.sync_engine, "checkout", taken)
    return engine


def _for_asyncpg(url: "URL") -> "URL":
    query = dict(url.query)
    if "sslmode" in query:
        # libpq's word; asyncpg takes the same values by another.
        query["ssl"] = query.pop("sslmode")
    return url.set(query=query)


async def try_file(engine: "AsyncEngine") -> None:
    """Open SQLite's file once without aiosqlite, whose thread outlives a connection that cannot be
    opened, and writes a traceback when it finds the event loop gone.

    Raises:
        sqlite3.OperationalError: it cannot be opened, or made.
    """
    place = engine.url.database
    if engine.dialect.name == "sqlite" and place and not place.startswith("file:"):
        import sqlite3  # whoever keeps no statuses needs none

        _make_private(place)
        await in_own_thread(lambda: sqlite3.connect(place).close(), "amqpjobs store")


def _make_private(place: str) -> None:
    """Make the file ahead of SQLite, which would let everybody on the machine read errors and
    results. Its journals get the permissions of the file (https://www.sqlite.org/wal.html). One
    that is there is as its owner wants it."""
    with suppress(OSError):  # what is wrong is said by SQLite
        os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))


def store_exists(settings: "Settings") -> bool:
    """Whether there may be a store: SQLite makes a file by being asked, and whoever only reads
    should not."""
    scheme, _, place = settings.store_url.get_secret_value().partition(":///")
    return not scheme.startswith("sqlite") or not place or Path(place.partition("?")[0]).is_file()


def _set_up_sqlite(connection: Any, _: object) -> None:
    import sqlite3  # whoever keeps no statuses needs none

    cursor = connection.cursor()
    # Readers do not wait for the writer (https://www.sqlite.org/wal.html). With WAL a power cut
    # may take the last transactions, and events are worth no more.
    # Whoever is the first sets it for the file, and SQLite does not wait while somebody does.
    with suppress(sqlite3.OperationalError):
        cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()


def missing(error: ImportError) -> ConfigurationError:
    """The error for what is not installed."""
    found = error.name or str(error)  # SQLAlchemy's own error, without greenlet, names no module
    return ConfigurationError(
        f"the store needs what is not installed ({found}): {install('amqpjobs[sql]')}"
    )


def _unusable(problem: str) -> ConfigurationError:
    return ConfigurationError(
        f"AMQPJOBS_STORE_URL {problem}: write sqlite:///file.db, or "
        "postgresql://user:password@host/database"
    )
