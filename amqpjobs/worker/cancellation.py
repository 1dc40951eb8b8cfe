"""The word to cancel: an asker that does not wait any more tells every worker of the queue.

It counts only with the id, the correlation id and the reply address of the request, which nobody
but the asker knows all of. Changes when workers are told something else.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.jobs.message.properties import CANCEL
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import CONTROL_EXCHANGE
from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

REMEMBERED = 10_000
"""Requests that were taken back before they started here. One that is forgotten is run in vain."""

WITHOUT_DEADLINE = 60.0
"""Seconds for which a request without a deadline is remembered."""

LONGEST = 86_400.0
"""Seconds for which one with a deadline is, whatever it says."""

Key: TypeAlias = tuple[str | None, str | None, str | None]


class Control:
    """Listens for requests that were taken back.

    Args:
        link: the consuming connection.
        queues: that are consumed.
        running: what runs here, and its task.
        clock: what deadlines are told by.
    """

    def __init__(
        self,
        link: Link,
        queues: Iterable[Queue],
        running: Mapping[Run, "asyncio.Task[None]"],
        clock: Clock = MACHINE,
    ) -> None:
        self._time = clock.time
        lanes = (lane.queue for queue in queues for lane in queue.lanes)
        self._listener = Listener(link, self._told, [(CONTROL_EXCHANGE, name) for name in lanes])
        self._running = running
        self._taken_back: OrderedDict[Key, float] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Control: {len(self._taken_back)} requests were taken back>"

    async def run(self) -> None:
        """Listen until cancelled; without the permission to, requests run to their end."""
        try:
            await self._listener.run()
        except ConfigurationError as error:
            log.info("requests cannot be cancelled here", extra={"reason": str(error)})

    async def ready(self) -> None:
        """Wait until it listens."""
        await self._listener.ready()

    def takes_back(self, run: Run) -> bool:
        """Whether a run that is about to start was taken back. Asked once: it is forgotten."""
        if not self._taken_back:
            return False
        until = self._taken_back.pop(_key_of(run.delivery.header), None)
        return until is not None and until > self._time()

    def _told(self, header: HeaderView, body: bytes) -> None:
        if header.type != CANCEL:
            return
        key = _key_of(header)
        if None in key:
            return
        for run, task in self._running.items():
            # `asked` is set once its task has begun, and until its handler has ended.
            if run.asked == header.reply_to and _key_of(run.delivery.header) == key:
                run.cancelled = True
                task.cancel("who asked does not wait any more")
                return
        self._taken_back[key] = _until(header, self._time())
        if len(self._taken_back) > REMEMBERED:
            self._taken_back.popitem(last=False)


def _key_of(header: HeaderView) -> Key:
    return header.message_id, header.correlation_id, header.reply_to


def _until(header: HeaderView, now: float) -> float:
    """How long to remember it, in seconds since the epoch."""
    try:
        deadline = read_leniently(header.headers).deadline
    except DecodeError:
        deadline = None
    if deadline is None:
        return now + WITHOUT_DEADLINE
    return min(deadline, now + LONGEST)
