"""Whether a transaction of the user's engine is one: all of it is kept, or nothing.

Changes when another engine cannot keep that promise.
"""

import weakref
from typing import Any

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from amqpjobs.errors import ConfigurationError
from amqpjobs.state.store.errors import missing_table

_checked: "weakref.WeakSet[Engine]" = weakref.WeakSet()

SQLITE = """\
this SQLite engine does not begin transactions itself, so that a savepoint is kept although its \
transaction is rolled back. Set it up once, where it is made:

    from sqlalchemy import event

    sync_engine = engine.sync_engine  # of an AsyncEngine; else the engine itself

    @event.listens_for(sync_engine, "connect")
    def connected(connection, record):
        connection.isolation_level = None

    @event.listens_for(sync_engine, "begin")
    def begun(connection):
        connection.exec_driver_sql("BEGIN IMMEDIATE")"""


def check_transaction(connection: Connection) -> None:
    """See that what is written now is kept with the rest of a transaction, or not at all. An engine
    that has passed is not looked at again.

    Raises:
        ConfigurationError: it commits each statement, or loses savepoints; says how to fix it.
    """
    options = connection.get_execution_options()
    if options.get("isolation_level") == "AUTOCOMMIT":
        raise ConfigurationError(
            "this connection is in AUTOCOMMIT: each statement is kept by itself, so nothing can be "
            "sent with it. Use one with transactions"
        )
    if connection.engine in _checked:
        return
    if connection.dialect.name == "sqlite":
        _check_sqlite(connection)
    elif connection.dialect.name != "postgresql":
        raise ConfigurationError(
            f"an outbox is kept in PostgreSQL or SQLite, not in {connection.dialect.name}"
        )
    elif _is_autocommit(connection):
        raise ConfigurationError(
            "this engine was made with isolation_level='AUTOCOMMIT': each statement is kept by "
            "itself, so nothing can be sent with it. Use one with transactions"
        )
    _checked.add(connection.engine)


def _is_autocommit(connection: Connection) -> bool:
    return connection.get_isolation_level() == "AUTOCOMMIT"


def _check_sqlite(connection: Connection) -> None:
    """Python's sqlite3 begins a transaction before the first INSERT, and none before a SAVEPOINT,
    which then is a transaction of its own (https://docs.sqlalchemy.org/en/20/dialects/sqlite.html,
    "Serializable isolation / Savepoints / Transactional DDL")."""
    driver: Any = connection.connection.driver_connection
    inner: Any = getattr(driver, "_conn", driver)  # aiosqlite's has it in there
    begun = getattr(inner, "isolation_level", "") is None and inner.in_transaction
    # From Python 3.12 on a connection may be made to begin by itself.
    if not begun and getattr(inner, "autocommit", None) is not False:
        raise ConfigurationError(SQLITE)


def told(connection: Connection, table: str, error: DBAPIError) -> Exception:
    """An error of a statement of ours in the user's database: that the table is missing is said
    with what to do."""
    if missing_table(error) is None:
        return error
    return no_table(connection.engine.url.database, table)


def no_table(database: str | None, table: str) -> ConfigurationError:
    """The error for a table of ours that a database of the user's does not have."""
    return ConfigurationError(
        f"the database {database!r} has no table {table}: declare it by "
        "app.outbox(Base.metadata) and migrate your models, or set AMQPJOBS_STORE_URL to this "
        "database and run `amqpjobs migrate`"
    )
