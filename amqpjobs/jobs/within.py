"""Jobs that are sent by a transaction: ``job.within(session).later(...)``.

Changes when a job may be sent in another way by one.
"""

from collections.abc import Iterable
from typing import Any, Generic, ParamSpec, Protocol, TypeVar

from amqpjobs.jobs.message.handle import BlockingJobHandle, JobHandle
from amqpjobs.jobs.message.message import Message

P = ParamSpec("P")
R = TypeVar("R")


class AsyncTransaction(Protocol):
    """An ``AsyncSession`` or ``AsyncConnection`` of SQLAlchemy."""

    async def commit(self) -> None:
        """Commit it."""


class Transaction(Protocol):
    """A ``Session`` or ``Connection`` of SQLAlchemy."""

    def commit(self) -> None:
        """Commit it."""


class Within(Protocol):
    """Sends messages within an asynchronous transaction: what `App.within` returns for an
    ``AsyncSession`` or ``AsyncConnection``."""

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Store one message; it is sent after the commit. See `App.within`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     handle = await app.within(session).enqueue(build_report.message(12))
        """
        ...

    async def later_many(self, messages: Iterable[Message[R]]) -> list[JobHandle[R]]:
        """Store many, in order.

        Example:
            >>> async with Sessions.begin() as session:
            ...     messages = [build_report.message(month) for month in (10, 11)]
            ...     handles = await app.within(session).later_many(messages)
        """
        ...

    async def publish(
        self, exchange: Any, key: str = "", payload: Any = None, **options: Any
    ) -> str:
        """Store an event; it is published after the commit. See `App.publish`.

        Args:
            exchange: the exchange, or its name.
            key: the routing key.
            payload: what happened.
            options: ``headers``, ``type``, ``id``, ``priority`` and ``body`` of `App.publish`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     await app.within(session).publish(orders, "order.placed", {"order": 7})
        """
        ...


class BlockingWithin(Protocol):
    """The same for a ``Session`` or ``Connection``, without ``await``."""

    def enqueue(self, message: Message[R]) -> BlockingJobHandle[R]:
        """Store one message; it is sent after the commit. See `App.within`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     handle = app.within(session).enqueue(build_report.message(12))
        """
        ...

    def later_many(self, messages: Iterable[Message[R]]) -> list[BlockingJobHandle[R]]:
        """Store many, in order.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     messages = [build_report.message(month) for month in (10, 11)]
            ...     handles = app.within(session).later_many(messages)
        """
        ...

    def publish(self, exchange: Any, key: str = "", payload: Any = None, **options: Any) -> str:
        """Store an event; it is published after the commit. See `Within.publish`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     event_id = app.within(session).publish(orders, "order.placed", {"order": 7})
        """
        ...


class JobWithin(Generic[P, R]):
    """A job that is sent by an asynchronous transaction. Made by `Job.within`.

    Args:
        job: which.
        within: its app, within the transaction.
    """

    def __init__(self, job: Any, within: Within) -> None:
        self._job = job
        self._within = within

    def __repr__(self) -> str:
        return f"<{self._job!r} within a transaction>"

    async def later(self, *args: P.args, **kwargs: P.kwargs) -> JobHandle[R]:
        """Store the call in the transaction. It is sent after the commit, and never if that does
        not come.

        Returns:
            Its handle; the id is known at once.

        Raises:
            InvalidArguments, MessageTooLarge: before anything is stored.
            ConfigurationError: see `App.within`.

        Example:
            >>> async with Sessions.begin() as session:
            ...     handle = await build_report.within(session).later(12)
        """
        return await self._within.enqueue(self._job.message(*args, **kwargs))


class BlockingJobWithin(Generic[P, R]):
    """A job that is sent by a synchronous transaction. Made by `Job.within`.

    Args:
        job: which.
        within: its app, within the transaction.
    """

    def __init__(self, job: Any, within: BlockingWithin) -> None:
        self._job = job
        self._within = within

    def __repr__(self) -> str:
        return f"<{self._job!r} within a transaction>"

    def later(self, *args: P.args, **kwargs: P.kwargs) -> BlockingJobHandle[R]:
        """Store the call in the transaction. See `JobWithin.later`.

        Example:
            >>> with BlockingSessions.begin() as session:
            ...     handle = build_report.within(session).later(12)
        """
        return self._within.enqueue(self._job.message(*args, **kwargs))
