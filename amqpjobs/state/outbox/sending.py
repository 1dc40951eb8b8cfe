"""What an app has for jobs that a transaction sends: `App.within`, `App.outbox`.

Changes when a program may say something else about its outbox.
"""

from typing import TYPE_CHECKING, Any, overload

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.within import AsyncTransaction, BlockingWithin, Transaction, Within
from amqpjobs.state.store.engine import missing

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.jobs.registry import Registry
    from amqpjobs.state.outbox.places import Outbox


class SendsWithin:
    """What an `App` has for jobs that a transaction sends."""

    _registry: "Registry"

    @property
    def client(self) -> "Client":
        """The client of the app."""
        raise NotImplementedError

    @overload
    def within(self, transaction: AsyncTransaction, *, key: str | None = None) -> Within: ...
    @overload
    def within(self, transaction: Transaction, *, key: str | None = None) -> BlockingWithin: ...
    def within(self, transaction: Any, *, key: str | None = None) -> Any:
        """Send messages by a transaction of yours: they are stored in it, in the outbox, and sent
        after its commit; if it is rolled back they never were. `Job.within` is this for one call.

        The process that has committed sends them within milliseconds. Should it die before that,
        the housekeeping of another does, in ``amqpjobs consume``, ``web`` or ``record``.

        Args:
            transaction: an AsyncSession, Session, AsyncConnection or Connection of SQLAlchemy 2, of
                the database of ``AMQPJOBS_STORE_URL``, or the one that `outbox` has named.
            key: messages of one key are sent in the order of their commits; a transaction waits
                for another one that sends with the same key. One that RabbitMQ refuses for good
                holds back those of its key that come later.

        Raises:
            ConfigurationError: a transaction that cannot keep this promise, or there is no outbox
                in its database; says how to fix it.

        Example:
            >>> async with Sessions.begin() as session:
            ...     handle = await app.within(session).enqueue(build_report.message(12))
        """
        try:
            from amqpjobs.state.memory import memory_of
            from amqpjobs.state.outbox.within import within
        except ImportError as error:
            raise missing(error) from error
        return within(memory_of(self.client), transaction, key)

    def outbox(
        self, metadata: Any = None, *, bind: Any = None, schema: str | None = None
    ) -> "Outbox":
        """Have the tables of the outbox and the inbox in your own database: they are added to your
        metadata, so that your migrations (Alembic) make them. Without a call of this they are in
        the store, whose migrations are ours.

        Args:
            metadata: of your models: ``Base.metadata``. None for the store.
            bind: your Engine or AsyncEngine, or a sessionmaker with one; None if the database is
                that of ``AMQPJOBS_STORE_URL``. The processes that send what a crash has left behind
                read the outbox by it.
            schema: of the tables, in PostgreSQL.

        Raises:
            ConfigurationError: called twice; or what is given is no metadata, or no engine.

        Example:
            >>> outbox = app.outbox(Base.metadata, bind=engine)
            >>> outbox.table.name
            'amqpjobs_outbox'
        """
        try:
            from amqpjobs.state.outbox.places import outbox_in
        except ImportError as error:
            raise missing(error) from error
        if self._registry.outbox is not None:
            raise ConfigurationError("app.outbox was called before: an app has one outbox")
        made = self._registry.outbox = outbox_in(metadata, bind, schema)
        return made
