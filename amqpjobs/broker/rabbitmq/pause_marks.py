"""Marks paused queues on the broker, so that other processes can see the pause.

A mark is an exclusive queue, so that it is gone with its worker's connection. Changes when it is
told otherwise that a queue is paused.
"""

import asyncio
import logging
from collections.abc import Iterable

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import FAILURES
from amqpjobs.broker.rabbitmq.connection import Link, Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.lives import Lives
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.errors import AmqpJobsError, TopologyMismatch

log = logging.getLogger("amqpjobs.rabbitmq")

PREFIX = "amqpjobs.paused."

END_TIMEOUT = 2.0
"""Seconds for the broker to delete a mark."""


def mark_of(queue: str) -> str:
    """The mark's name. Queues' names leave room for it."""
    return PREFIX + queue


class Mark:
    """One queue's mark, held by this worker unless another one holds it already.

    Without permission to configure queues of its name there is none: then only the log tells.

    Args:
        link: the connection that it lives on.
        queue: the name of the queue that is paused.
    """

    def __init__(self, link: Link, queue: str) -> None:
        self._link = link
        self._name = mark_of(queue)
        self._held_on: Wire | None = None

    async def hold(self) -> None:
        """Set it, and again on each new connection, until cancelled."""
        async for wire, _ in Lives(self._link.up, self._declare, self._not_set):
            await wire.lost.wait()

    async def _not_set(self, wire: Wire, error: Exception, failures: int) -> None:
        log.info("pause mark not set", extra={"error": str(error)})

    async def _declare(self, wire: Wire) -> None:
        async with Declarer(wire) as declarer:
            self._held_on = wire
            try:
                await declarer.call(lambda c: c.queue_declare(self._name, exclusive=True))
            except aiormq_errors.ChannelLockedResource:
                log.debug("pause mark held by another worker", extra={"mark": self._name})
                self._held_on = None
            except aiormq_errors.ChannelAccessRefused as error:
                refusal = refusal_of(error, "configure")
                log.info("pause mark not set", extra={"error": str(refusal)})
                self._held_on = None

    async def remove(self) -> None:
        """Take it away, if it is ours."""
        wire, self._held_on = self._held_on, None
        if wire is None or wire.lost.is_set():
            return
        try:
            async with asyncio.timeout(END_TIMEOUT), Declarer(wire) as declarer:
                await declarer.call(lambda c: c.queue_delete(self._name))
        except (AmqpJobsError, *FAILURES) as error:
            log.warning("pause mark not removed", extra={"mark": self._name, "error": repr(error)})


async def marked(wire: Wire, queues: Iterable[str]) -> set[str]:
    """Which of these queues some worker has paused."""

    async def one(declarer: Declarer, queue: str) -> bool:
        try:
            await declarer.look(mark_of(queue))
        except TopologyMismatch:
            return False
        except aiormq_errors.ChannelLockedResource:
            return True  # it is there, and another connection's
        return False

    names = list(queues)
    async with Declarer(wire) as declarer:
        answers = await declarer.side_by_side(names, one)
    return {queue for queue, answer in zip(names, answers, strict=True) if answer}
