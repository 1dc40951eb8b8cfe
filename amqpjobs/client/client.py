"""Enqueuing: messages on their way through the publishing middleware to the publisher.

Changes when what surrounds publishing does; `amqpjobs.client.publisher` makes the AMQP messages.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from amqpjobs.errors import PublishManyFailed
from amqpjobs.jobs.message.message import JobHandle, Message
from amqpjobs.jobs.middleware import Publishing, each_through, onion

if TYPE_CHECKING:
    from amqpjobs.app import App

R = TypeVar("R")


class Enqueuing:
    """Enqueues on behalf of one app.

    Args:
        app: whose publisher.
        publishing: its middleware around every message that is published.
    """

    def __init__(self, app: "App", publishing: Sequence[Publishing]) -> None:
        self._app = app
        self._publishing = tuple(publishing)

    async def one(self, message: Message[R]) -> JobHandle[R]:
        """Publish one message. See `App.enqueue`."""
        publisher = await self._app.open_publisher()
        if not self._publishing:
            return await publisher.enqueue(message)
        return await onion(self._publishing, publisher.enqueue)(message)

    async def many(self, messages: Iterable[Message[Any]]) -> list[JobHandle[Any]]:
        """Publish many. See `App.later_many`."""
        publisher = await self._app.open_publisher()
        taken = _Taken(messages)
        results: list[JobHandle[Any] | Exception] = (
            await each_through(onion(self._publishing, publisher.enqueue), taken)
            if self._publishing
            else await publisher.enqueue_many(taken)
        )
        if taken.error is not None:
            results.append(taken.error)
        failed = [r for r in results if isinstance(r, Exception)]
        if failed:
            raise PublishManyFailed(
                f"{len(failed)} of {len(results)} messages were not handed over; the first: "
                f"{type(failed[0]).__name__}: {failed[0]}",
                results=list[object](results),
            ) from failed[0]
        return results  # type: ignore[return-value]


class _Taken:
    """The messages one by one. An error of whatever makes them ends them, and is kept: by then some
    are on their way, and what became of those must not be lost with it."""

    def __init__(self, messages: Iterable[Message[Any]]) -> None:
        self._messages = messages
        self.error: Exception | None = None

    def __iter__(self) -> Iterator[Message[Any]]:
        try:
            yield from self._messages
        except Exception as error:  # noqa: BLE001 - whatever the caller's code raises
            self.error = error
