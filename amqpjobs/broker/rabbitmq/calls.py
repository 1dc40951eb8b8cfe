"""Calls of aiormq and aio-pika: a cancellation that is not ours becomes an error, and the reverse.

Changes when the libraries below confuse cancellation and errors in another way.
"""

import asyncio
import logging
from types import TracebackType
from typing import Any, Final, Self

from aiormq import exceptions as aiormq_errors

from amqpjobs.errors import BrokerUnavailable

log = logging.getLogger("amqpjobs.rabbitmq")

FAILURES: Final = (BrokerUnavailable, aiormq_errors.AMQPError, RuntimeError, OSError)
"""What a call may raise when its channel or its connection is gone; `TimeoutError` is an OSError.
aiormq raises `RuntimeError` for what is closed already."""


class from_broker:  # noqa: N801 - reads as a statement, as `contextlib.suppress` does
    """Around each await on aiormq or aio-pika.

    When a channel or a connection closes, aiormq ends the calls that wait on it with the error that
    closed it, and that may be `asyncio.CancelledError`: the caller's task was not cancelled, but
    the task would end, and a task group takes that for a task that was told to end. It is raised
    as `BrokerUnavailable` here. In the other direction, a call that is cancelled closes its
    channel, and may raise the error of that, or return: the cancellation is raised in its place,
    since who cancels a task waits for its end.

    Raises:
        BrokerUnavailable: the channel or the connection was closed during the call.
        asyncio.CancelledError: the caller's task was cancelled during the call.
    """

    __slots__ = ("_before", "_task")

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._before = self._task.cancelling() if self._task is not None else 0
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        cancelled = self._task is not None and self._task.cancelling() > self._before
        if error is None:
            if cancelled:  # the library has kept it to itself
                raise asyncio.CancelledError
        elif isinstance(error, asyncio.CancelledError):
            if not cancelled:
                raise BrokerUnavailable("the channel was closed during the call") from error
        elif cancelled and isinstance(error, FAILURES):
            raise asyncio.CancelledError from error


async def close_channel(channel: Any, timeout: float) -> None:
    """Close a channel of aiormq, if it is open; what was unsettled on it goes back to its queue.

    Args:
        channel: None if there is none.
        timeout: seconds for RabbitMQ to answer; a channel that cannot be closed is left.
    """
    if channel is None or channel.is_closed:
        return
    try:
        async with asyncio.timeout(timeout):
            with from_broker():
                await channel.close()
    except FAILURES as error:
        log.debug("closing a channel failed", extra={"error": repr(error)})


async def unused_callback(message: object) -> None:
    """The callback that aiormq wants for a consumer; the splitter takes every delivery before."""
