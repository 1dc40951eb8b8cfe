"""Where outboxes are: in the store, or in a database of the user's. Changes when they may be
elsewhere.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from sqlalchemy import ColumnElement, Connection, Engine, MetaData, Table
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, AsyncSession
from sqlalchemy.orm import sessionmaker

from amqpjobs.broker.rabbitmq.own_thread import in_own_thread
from amqpjobs.errors import ConfigurationError
from amqpjobs.state.store.errors import missing_table, ours
from amqpjobs.state.store.runs import Runs, now_of
from amqpjobs.state.store.tables import inbox, inbox_of, outbox, outbox_of
from amqpjobs.state.store.transactions import no_table

T = TypeVar("T")


class Bound(Runs):
    """A database of the user's, by its engine.

    Args:
        engine: of SQLAlchemy, asynchronous or not; one that is not is used in a thread.
    """

    def __init__(self, engine: Engine | AsyncEngine) -> None:
        self._engine = engine

    def __repr__(self) -> str:
        return f"<Bound: {self._engine.url.render_as_string(hide_password=True)}>"

    @property
    def name(self) -> str:
        """Of the database, for people; it holds no password."""
        url = self._engine.url
        where = "" if url.host is None else f" at {url.host}"
        database = (url.database or "").rpartition("/")[2] if url.host is None else url.database
        return f"{url.get_backend_name()} {database or 'in memory'}{where}"

    @property
    def now(self) -> ColumnElement[float]:
        """The time of the database."""
        return now_of(self._engine.dialect.name)

    def _ours(self, error: Exception) -> Exception:
        if (table := missing_table(error)) is not None:
            return no_table(self._engine.url.database, table)
        return ours(error, f"the database {self.name}")

    async def _once(self, work: Callable[[Connection], T]) -> T:
        engine = self._engine
        if isinstance(engine, AsyncEngine):
            async with engine.begin() as connection:
                return await connection.run_sync(work)

        def in_thread() -> T:
            with engine.begin() as connection:
                return work(connection)

        return await in_own_thread(in_thread, "amqpjobs outbox")


@dataclass(frozen=True, slots=True)
class Outbox:
    """The outbox of an app, and the inbox beside it: what `App.outbox` returns.

    Attributes:
        table: holds messages from the transaction that sends them until RabbitMQ has them.
        inbox: has a row for each job that was done with ``once=``.
        bind: the engine of their database; None for the one of ``AMQPJOBS_STORE_URL``.
    """

    table: Table
    inbox: Table
    bind: Engine | AsyncEngine | None = None


IN_STORE = Outbox(outbox, inbox)
"""The outbox of an app that says nothing else."""


def outbox_in(metadata: MetaData | None, bind: object, schema: str | None) -> Outbox:
    """An outbox as `App.outbox` is told.

    Raises:
        ConfigurationError: what is given is no metadata, or no engine.
    """
    if metadata is None:
        if bind is not None or schema is not None:
            raise ConfigurationError("app.outbox(bind=..., schema=...) needs a metadata, too")
        return IN_STORE
    if not isinstance(metadata, MetaData):
        raise ConfigurationError(
            f"app.outbox takes the MetaData of your models (Base.metadata), not {metadata!r}"
        )
    engine = _engine_of(bind)
    # Several apps may share one metadata: the rows say whose they are.
    outbox, inbox = (_in(metadata, schema, each.name) for each in (IN_STORE.table, IN_STORE.inbox))
    return Outbox(
        outbox_of(metadata, schema) if outbox is None else outbox,
        inbox_of(metadata, schema) if inbox is None else inbox,
        engine,
    )


def _in(metadata: MetaData, schema: str | None, name: str) -> Table | None:
    schema = schema or metadata.schema
    return metadata.tables.get(f"{schema}.{name}" if schema else name)


def _engine_of(bind: Any) -> Engine | AsyncEngine | None:
    if bind is None or isinstance(bind, Engine | AsyncEngine):
        return bind
    # A sessionmaker knows its engine; `async_sessionmaker` has the same attribute.
    inner = getattr(bind, "kw", {}).get("bind") if not isinstance(bind, type) else None
    if isinstance(inner, Engine | AsyncEngine):
        return inner
    made = isinstance(bind, sessionmaker)
    raise ConfigurationError(
        "app.outbox(metadata, bind=...) takes an Engine, an AsyncEngine, or a sessionmaker with a "
        f"bind, not {bind!r}" + (" without one" if made else "")
    )


def engine_of(session: Any) -> Engine | AsyncEngine:
    """The engine behind a session."""
    if isinstance(session, AsyncSession):
        bind = session.bind
        if isinstance(bind, AsyncConnection):
            return bind.engine
        return bind if isinstance(bind, AsyncEngine) else AsyncEngine(session.get_bind().engine)
    engine: Engine = session.get_bind().engine
    return engine
