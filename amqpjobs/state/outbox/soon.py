"""Sends what this process has just committed, without looking for it in the outbox: the rows are
its own for a while, and should it die a relay sends them.

Changes when a message is sent in another way right after its commit.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING
from uuid import uuid4

from amqpjobs.client.prepared import publish_prepared
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable, StoreUnavailable
from amqpjobs.jobs.run_context import context_of_nobody
from amqpjobs.state.outbox.places import IN_STORE
from amqpjobs.state.outbox.relay import CONFIRM, LEASE, Relay
from amqpjobs.state.outbox.rows import Row, Sends

if TYPE_CHECKING:
    from amqpjobs.client.client import Client
    from amqpjobs.state.store.durable import DurableStore

log = logging.getLogger("amqpjobs.outbox")

AT_ONCE = 500
"""Rows that are deleted, or given back, in one transaction."""


class SendsSoon:
    """Sends rows of the store's outbox right after their commit, on one event loop.

    Args:
        client: whose messages.
        relay: settles them.
        store: opens the store.
    """

    def __init__(
        self, client: "Client", relay: Relay, store: "Callable[[], Awaitable[DurableStore]]"
    ) -> None:
        self._client = client
        self._relay = relay
        self._store = store
        self._lease = uuid4().hex
        self._timeout = min(CONFIRM, client.runtime.settings.publish_timeout)
        self._sent: list[tuple[Row, AmqpJobsError | None]] = []
        self._settling: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<SendsSoon: {len(self._tasks)} on their way>"

    @property
    def idle(self) -> bool:
        """Whether nothing is on its way."""
        return not self._tasks

    def sends(self) -> Sends:
        """For a transaction that is about to add messages."""
        return Sends(self._lease, LEASE * self._timeout)

    def send(self, rows: Sequence[Row]) -> None:
        """Send what was committed. It never waits."""
        self._begin(self._send(rows))

    def _begin(self, work: Coroutine[None, None, None]) -> "asyncio.Task[None]":
        loop = asyncio.get_running_loop()
        task = loop.create_task(work, context=context_of_nobody())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _send(self, rows: Sequence[Row]) -> None:
        errors: list[AmqpJobsError | None]
        try:
            publisher = await self._client.publisher()
            if publisher.link.wire is None or publisher.publication.blocked is not None:
                raise BrokerUnavailable("RabbitMQ is away", temporary=True)
            messages = [row.message for row in rows]
            errors = await publish_prepared(publisher, messages, self._timeout)
        except AmqpJobsError as error:
            errors = [error] * len(rows)
        self._sent += zip(rows, errors, strict=True)
        if self._settling is None or self._settling.done():
            self._settling = self._begin(self._settle())

    async def _settle(self) -> None:
        """Delete what is confirmed; what comes meanwhile goes together the next time."""
        while self._sent:
            sent, self._sent = self._sent[:AT_ONCE], self._sent[AT_ONCE:]
            rows, errors = [row for row, _ in sent], [error for _, error in sent]
            try:
                store = await self._store()
                await self._relay.settle(IN_STORE, store, self._lease, rows, errors)
            except StoreUnavailable as error:
                # They are sent again when their lease is over, and are known by their ids.
                log.warning("sent messages stay in outbox", extra={"error": str(error)})

    async def finish(self, seconds: float) -> None:
        """Wait until nothing is on its way, for so long at most."""
        end = asyncio.get_running_loop().time() + seconds
        while self._tasks and (left := end - asyncio.get_running_loop().time()) > 0:
            await asyncio.wait(set(self._tasks), timeout=left)
        for task in list(self._tasks):
            task.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks))
