"""Sends what is in an outbox: claims rows, publishes them, deletes those that RabbitMQ confirmed.

A relay that dies in between leaves rows that another one sends again, with the same ids. Changes
when sending does.
"""

import asyncio
import logging
from typing import TYPE_CHECKING
from uuid import uuid4

from amqpjobs.client.prepared import publish_prepared
from amqpjobs.errors import (
    AmqpJobsError,
    BrokerUnavailable,
    NotConfirmed,
    PublishError,
    PublishRejected,
)
from amqpjobs.state.outbox.places import Outbox
from amqpjobs.state.outbox.rows import Row, claim, fail, free, remove
from amqpjobs.state.store.runs import Runs

if TYPE_CHECKING:
    from amqpjobs.client.client import Client

log = logging.getLogger("amqpjobs.outbox")

BATCH = 500
"""Rows that are claimed at a time."""

CONFIRM = 10.0
"""Seconds that RabbitMQ has to confirm a batch, or fewer by ``AMQPJOBS_PUBLISH_TIMEOUT``."""

LEASE = 1.5
"""Times that, for which the rows of a batch are one relay's. What one that died has taken waits for
so long."""

AGAIN = 5.0
"""Seconds until a message is tried again that RabbitMQ refused for now: its queue is full."""


class Relay:
    """Sends the outbox of an app, on one event loop.

    Args:
        client: whose messages.

    Attributes:
        sent: how many messages it has sent.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._app = client.runtime.registry.name
        self._one = asyncio.Lock()
        self.sent = 0

    def __repr__(self) -> str:
        return f"<Relay of {self._app}: {self.sent} sent>"

    async def send(self, outbox: Outbox, place: Runs) -> int:
        """Send one batch.

        Returns:
            How many rows it took; `BATCH` when there may be more.

        Raises:
            StoreUnavailable: the database is away.
            PublishError, BrokerUnavailable: RabbitMQ is away; what was claimed is free again.
        """
        async with self._one:
            publisher = await self._client.publisher()
            # What is claimed here and not sent would be kept from a relay that can send it.
            if publisher.link.wire is None:
                raise BrokerUnavailable("RabbitMQ is away", temporary=True)
            if publisher.publication.blocked is not None:
                return 0
            timeout = min(CONFIRM, self._client.runtime.settings.publish_timeout)
            lease = uuid4().hex
            seconds = LEASE * timeout
            rows = await place.run(claim, outbox.table, self._app, place.now, lease, seconds, BATCH)
            if rows:
                errors = await publish_prepared(publisher, [row.message for row in rows], timeout)
                await self.settle(outbox, place, lease, rows, errors)
            return len(rows)

    async def settle(
        self,
        outbox: Outbox,
        place: Runs,
        lease: str,
        rows: list[Row],
        errors: list[AmqpJobsError | None],
    ) -> None:
        """Delete the rows that RabbitMQ has confirmed, and give back those that it has not.

        Args:
            lease: by which they are this process's.
            errors: for each row None if it was confirmed, else why not.

        Raises:
            StoreUnavailable: the database is away.
        """
        by_fate: dict[str, list[int]] = {"done": [], "refused": [], "unsent": []}
        failed = []
        for row, error in zip(rows, errors, strict=True):
            fate = _fate_of(error)
            if fate == "failed":
                failed.append((row.id, str(error)))
                self._log(row, error)
            elif fate != "unknown":
                by_fate[fate].append(row.id)
        if done := by_fate["done"]:
            await place.run(remove, outbox.table, lease, done)
            self.sent += len(done)
        if refused := by_fate["refused"]:
            await place.run(free, outbox.table, lease, refused, place.now + AGAIN)
        if unsent := by_fate["unsent"]:
            await place.run(free, outbox.table, lease, unsent, place.now)
        if failed:
            await place.run(fail, outbox.table, lease, failed, place.now)

    @staticmethod
    def _log(row: Row, error: AmqpJobsError | None) -> None:
        message = row.message
        log.error(
            "stored message cannot be sent",
            extra={"job": message.job, "job_id": message.job_id, "error": str(error)},
        )


def _fate_of(error: AmqpJobsError | None) -> str:
    match error:
        case None:
            return "done"
        case PublishRejected():
            return "refused"
        case NotConfirmed(sent=True):
            return "unknown"  # it may have arrived: its lease ends, and it is sent again
        case NotConfirmed():
            return "unsent"
        case PublishError():
            return "failed"
        case _:
            return "unsent"
