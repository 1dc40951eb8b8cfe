"""Marks on the broker for queues that a worker has paused: there is no other place to say so.

A mark is an exclusive queue, so that it is gone with its worker's connection. Changes when it is
told otherwise that a queue is paused.
"""

import asyncio
import logging
from collections.abc import Iterable

from aiormq import exceptions as aiormq_errors

from amqpjobs.background import end_if_cancelled
from amqpjobs.errors import AmqpJobsError, TopologyMismatch
from amqpjobs.rabbitmq.calls import FAILURES
from amqpjobs.rabbitmq.connection import Link, Wire
from amqpjobs.rabbitmq.declaration import Declarer
from amqpjobs.rabbitmq.refusals import refusal_of

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
        while True:
            wire = await self._link.up()
            try:
                await self._declare(wire)
            except (AmqpJobsError, *FAILURES) as error:
                end_if_cancelled()
                log.info("a paused queue cannot be marked: %s", error)
            await wire.lost.wait()

    async def _declare(self, wire: Wire) -> None:
        async with Declarer(wire) as declarer:
            self._held_on = wire
            try:
                await declarer.call(lambda c: c.queue_declare(self._name, exclusive=True))
            except aiormq_errors.ChannelLockedResource:
                log.debug("mark %s: another worker has it", self._name)
                self._held_on = None
            except aiormq_errors.ChannelAccessRefused as error:
                log.info("a paused queue cannot be marked: %s", refusal_of(error, "configure"))
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
            log.warning("a paused queue stays marked until this worker ends: %r", error)


async def marked(wire: Wire, queues: Iterable[str]) -> set[str]:
    """Which of these queues some worker has paused."""
    paused = set()
    async with Declarer(wire) as declarer:
        for queue in queues:
            try:
                await declarer.look(mark_of(queue))
            except TopologyMismatch:
                continue
            except aiormq_errors.ChannelLockedResource:
                paused.add(queue)  # it is there, and another connection's
    return paused
