"""What a job needs of its app. Changes when it needs something else."""

from typing import Any, Protocol, TypeVar

from amqpjobs.jobs.message.handle import JobHandle
from amqpjobs.jobs.message.message import Message

R = TypeVar("R")


class Enqueuer(Protocol):
    """What a job needs of its app."""

    async def enqueue(self, message: Message[R]) -> JobHandle[R]:
        """Publish, and return when the broker has confirmed."""
        ...

    async def request(self, message: Message[R], /) -> R:
        """Publish, and return the result when it is there."""
        ...

    def within(self, transaction: Any, *, key: str | None = None) -> Any:
        """What sends messages by a transaction: a `Within`, or a `BlockingWithin`."""
        ...

    async def close(self) -> None:
        """Close what publishing has opened on this event loop."""
        ...
