"""The loop of everything that has to be opened again on each new connection.

Consumers, listeners, publishers, events and pause marks wait for a connection, open what they need,
use it until it is lost, and do the same on the next connection. Changes when waiting for a loss, or
the pause before another attempt, does.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, Self, TypeAlias, TypeVar, overload

from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.errors import AmqpJobsError

T = TypeVar("T")

RESTART_PAUSE = 0.5
"""Seconds before what was lost is opened again; five times that at most."""

INTERNAL_ERROR = 541
"""AMQP's code for an error of the broker itself. RabbitMQ closes the connection with it over
`basic.consume` on a quorum queue without a leader (seen on 3.10.8 and 4.3.6)."""

LONGEST_DOWN = 60.0
"""Seconds between two attempts to consume a queue that is down."""

Failed: TypeAlias = Callable[[Wire, Exception, int], Awaitable[float | None]]


class Lives(Generic[T]):
    """Opens something on each connection, and yields both as soon as it could be opened::

        async for wire, channel in Lives(link.up, self._open, self._failed):
            reason = await until_lost(wire, channel)

    The body of the loop uses what was opened, and ends when that is lost. Its errors are its own:
    only those of `open_on` lead to another attempt.

    Args:
        next_wire: waits for a connection, as `Link.up` does; None ends the loop.
        open_on: opens what is needed on a connection.
        failed: called when that failed, with the connection, the error, and how many attempts have
            failed in a row. It returns for how many seconds to wait, None to wait for the next
            connection. What it raises ends the loop.
    """

    def __init__(
        self,
        next_wire: Callable[[], Awaitable[Wire | None]],
        open_on: Callable[[Wire], Awaitable[T]],
        failed: Failed,
    ) -> None:
        self._next_wire = next_wire
        self._open_on = open_on
        self._failed = failed
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Lives: {self._failures} failures in a row>"

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> tuple[Wire, T]:
        while (wire := await self._next_wire()) is not None:
            try:
                opened = await self._open_on(wire)
            except (AmqpJobsError, *FAILURES) as error:
                end_if_cancelled()
                self._failures += 1
                seconds = await self._failed(wire, error, self._failures)
            else:
                self._failures = 0
                return wire, opened
            await pause(wire, seconds)
        raise StopAsyncIteration


@overload
async def until_lost(wire: Wire, channel: Any) -> str: ...


@overload
async def until_lost(wire: Wire, channel: Any, *events: asyncio.Event) -> str | None: ...


async def until_lost(wire: Wire, channel: Any, *events: asyncio.Event) -> str | None:
    """Wait until the connection or the channel is lost, or one of the events is set.

    Args:
        wire: the connection.
        channel: aiormq's, on that connection.
        events: end the wait as well.

    Returns:
        Why it was lost; None if it was not, and one of the events is set.
    """
    closing = channel.closing
    waits = [asyncio.ensure_future(event.wait()) for event in (wire.lost, *events)]
    try:
        await asyncio.wait((closing, *waits), return_when=asyncio.FIRST_COMPLETED)
        if wire.lost.is_set():
            return wire.reason or "the connection was lost"
        if closing.done():
            error = None if closing.cancelled() else closing.exception()
            return str(error or "the channel was closed")
        return None
    finally:
        for wait in (closing, *waits):
            wait.cancel()


async def pause(wire: Wire, seconds: float | None) -> None:
    """Wait that long, or until the connection is lost: the next one need not be waited for.

    Args:
        wire: the connection.
        seconds: at most; None for as long as the connection lasts.
    """
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await wire.lost.wait()


def is_down(wire: Wire) -> bool:
    """Whether RabbitMQ has closed this connection over an error of its own, as it does for a
    consumer of a quorum queue without a leader."""
    refusal = wire.protocol.refusal
    return refusal is not None and refusal[0] == INTERNAL_ERROR


def down_pause(failures: int) -> float:
    """Seconds to wait before such a queue is consumed again, whatever becomes of the connection.
    Others on that connection start again at once and fail with it: no two wait equally long."""
    return min(LONGEST_DOWN, 2.0**failures) * random.uniform(0.5, 1)  # noqa: S311 - not a secret


def restart_pause(failures: int) -> float:
    """Seconds to wait after so many failures in a row, so that a connection which opens nothing
    does not keep the process busy."""
    return min(failures, 5) * RESTART_PAUSE
