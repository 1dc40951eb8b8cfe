"""Cancellation: a caller that gives up tells every worker of the queue.

It counts only with the id, the correlation id and the reply address of the request, which only
the caller knows all of. Changes when the message does.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import TypeAlias

from amqpjobs.broker.amqp.frames import HeaderView
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.errors import ConfigurationError, DecodeError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.headers import read_leniently
from amqpjobs.jobs.message.properties import CANCEL
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.jobs.queue.topology import CONTROL_EXCHANGE, FLEET
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
        other: called with each message that is no cancellation.
        interrupted: called when messages may have been missed.
    """

    def __init__(
        self,
        link: Link,
        queues: Iterable[Queue],
        running: Mapping[Run, "asyncio.Task[None]"],
        clock: Clock = MACHINE,
        other: Callable[[HeaderView, bytes], None] = lambda _, __: None,
        interrupted: Callable[[], None] = lambda: None,
    ) -> None:
        self._time = clock.time
        self._other = other
        self._refused = asyncio.Event()
        keys = [FLEET, *(lane.queue for queue in queues for lane in lanes_of(queue))]
        bindings = [(CONTROL_EXCHANGE, key) for key in keys]
        self._listener = Listener(link, self._told, bindings, lambda _: interrupted())
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
            self._refused.set()

    async def ready(self) -> None:
        """Wait until it listens, or may not."""
        waits = [asyncio.ensure_future(w) for w in (self._listener.ready(), self._refused.wait())]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def takes_back(self, run: Run) -> bool:
        """Whether a run that is about to start was taken back. Asked once: it is forgotten."""
        if not self._taken_back:
            return False
        until = self._taken_back.pop(_key_of(run.delivery.header), None)
        return until is not None and until > self._time()

    def _told(self, header: HeaderView, body: bytes) -> None:
        if header.type != CANCEL:
            self._other(header, body)
            return
        key = _key_of(header)
        if None in key:
            return
        for run, task in self._running.items():
            # `asked` is set once its task has begun, and until its answer is sent.
            if run.asked != header.reply_to or run.ended:
                continue
            if _key_of(run.delivery.header) == key:
                run.cancelled = True
                task.cancel("the caller gave up")
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
