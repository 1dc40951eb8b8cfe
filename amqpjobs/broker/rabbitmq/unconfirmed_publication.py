"""Publishes without confirms: messages that may be lost.

Not on the channel of the publication: RabbitMQ closes a channel over an exchange that is not there
or may not be written to, and all that was unconfirmed on it would be in doubt. Changes when sending
what nobody waits for does.
"""

import asyncio
import logging
from collections import deque
from typing import Any, NamedTuple

from amqpjobs.broker.amqp.frames import encode_publish
from amqpjobs.broker.rabbitmq.background import end_if_cancelled
from amqpjobs.broker.rabbitmq.calls import FAILURES, from_broker
from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.run_context import context_of_nobody

log = logging.getLogger("amqpjobs.rabbitmq")

MAX_WAITING = 10_000
"""Notices. The oldest give way: they have lost most of their worth."""

TIMEOUT = 5.0
"""Seconds for the broker to open a channel, and to close it."""


class Notice(NamedTuple):
    """One message."""

    exchange: str
    routing_key: str
    properties: Properties
    body: bytes


class Notices:
    """Sends notices on one link, each batch on a channel of its own.

    Args:
        link: the connection.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._waiting: deque[Notice] = deque(maxlen=MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Notices: {len(self._waiting)} waiting>"

    def send(self, notice: Notice) -> None:
        """Send it soon, if there is a connection now."""
        self._waiting.append(notice)
        if self._task is None or self._task.done():
            loop = asyncio.get_running_loop()
            self._task = loop.create_task(
                self._run(), name="amqpjobs notices", context=context_of_nobody()
            )

    async def close(self) -> None:
        """Let what waits leave, for a second at most."""
        if self._task is not None:
            await asyncio.wait((self._task,), timeout=1)
            self._task.cancel()
            await asyncio.wait((self._task,))

    async def _run(self) -> None:
        # Again for what came while the last channel was being closed.
        while self._waiting:
            try:
                async with asyncio.timeout(TIMEOUT):
                    await self._send_all()
            except (AmqpJobsError, *FAILURES) as error:
                end_if_cancelled()
                log.debug("notices not sent", extra={"error": repr(error)})
                self._waiting.clear()

    async def _send_all(self) -> None:
        wire = self._link.wire
        if wire is None:
            self._waiting.clear()
            return
        channel: Any = await wire.channel()
        while self._waiting and not channel.is_closed:
            notice = self._waiting.popleft()
            frames = encode_publish(channel.number, *notice, wire.frame_max, mandatory=False)
            wire.protocol.write(frames)
        # An error closes the channel from the other side, and shows here.
        wire.protocol.flush()
        with from_broker():
            await channel.close()
