"""Enqueuing: messages on their way through the publishing middleware to the publisher.

Changes when what surrounds publishing does; `amqpjobs.publisher` makes the AMQP messages.
"""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from amqpjobs.errors import PublishError, PublishManyFailed
from amqpjobs.message import JobHandle, Message
from amqpjobs.middleware import Publishing, each_through, onion

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
        if self._publishing:
            results: Sequence[object] = await each_through(
                onion(self._publishing, publisher.enqueue), messages
            )
        else:
            results = await publisher.enqueue_many(messages)
        failed = [r for r in results if isinstance(r, PublishError)]
        if failed:
            raise PublishManyFailed(
                f"{len(failed)} of {len(results)} messages were not handed over; the first: "
                f"{failed[0]}",
                results=list(results),
            ) from failed[0]
        return results  # type: ignore[return-value]
