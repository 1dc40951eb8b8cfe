"""A request that waits, and its reply. Changes when more has to be known of one."""

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.jobs.message.properties import Properties


class Reply(NamedTuple):
    """A reply as it came; anybody may have written it."""

    header: HeaderView
    body: bytes


class Question:
    """One request that waits. It is told itself what became of its message (see `Fate`): that
    spares each request a future and a turn of the event loop.

    Attributes:
        subject: the job's name, or the queue's of a service that is not ours.
        timeout: seconds, as the caller gave them.
        queue: where the request went.
        properties: of its message.
        of_job: whether our workers run it, and can be told to cancel it.
        is_last: of a service that may send several replies: which one ends the request; None for
            the first.
    """

    __slots__ = (
        "_sent", "future", "is_last", "of_job", "properties", "queue", "subject", "timeout",
        "timer",
    )  # fmt: skip

    def __init__(
        self,
        subject: str,
        timeout: float,
        queue: str,
        properties: Properties,
        *,
        of_job: bool,
        is_last: Callable[[bytes], bool] | None = None,
    ) -> None:
        self.subject = subject
        self.timeout = timeout
        self.queue = queue
        self.properties = properties
        self.of_job, self.is_last = of_job, is_last
        self._sent = False
        self.future: asyncio.Future[Reply]
        self.timer: asyncio.TimerHandle

    def done(self) -> bool:
        """Whether the fate of its message is known, or no longer matters."""
        return self._sent

    def cancel(self) -> bool:
        """The request no longer matters."""
        self._sent = True
        return True

    def set_result(self, result: None) -> None:
        """RabbitMQ has the message, which says nothing about the reply."""
        self._sent = True

    def set_exception(self, exception: BaseException) -> None:
        """It has not, and there will be no reply."""
        self._sent = True
        self.fail(exception)

    def fail(self, error: BaseException) -> None:
        """End it, unless it has ended."""
        if not self.future.done():
            self.future.set_exception(error)
