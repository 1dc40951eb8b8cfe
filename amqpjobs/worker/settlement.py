"""Settling: the one place where an outcome becomes AMQP. Every delivery ends here, exactly once.

Changes when an outcome is added, or what is promised about one.
"""

import asyncio
import logging
from collections.abc import Awaitable
from dataclasses import replace
from typing import assert_never

from amqpjobs.copies import copied
from amqpjobs.errors import PublishError
from amqpjobs.message import HEADER_ERROR, Failure
from amqpjobs.outcome import Done, Expired, Outcome, Parked, Rejected, Released
from amqpjobs.rabbitmq.deliveries import Delivery
from amqpjobs.rabbitmq.publication import Publication

log = logging.getLogger("amqpjobs.worker")

CONFIRM_TIMEOUT = 10.0
"""Seconds for the confirm of a copy before the original is given back."""

LONGEST_PAUSE = 5.0
"""Seconds. When copies cannot be published, giving back at once would spin."""


class Settlement:
    """Acks, gives back, or puts aside.

    Args:
        publication: for copies; not on the consuming connection, which an alarm must not stop.
        dead: by AMQP queue: where rejected jobs go.
        parked: by AMQP queue: where unknown jobs go.
        limits: by AMQP queue: its delivery limit, if it has one.
    """

    def __init__(
        self,
        publication: Publication,
        dead: dict[str, str],
        parked: dict[str, str],
        limits: dict[str, int],
    ) -> None:
        self._publication = publication
        self._dead = dead
        self._parked = parked
        self._limits = limits
        self._failures = 0

    def settle(self, delivery: Delivery, outcome: Outcome) -> Awaitable[Outcome] | None:
        """Settle a delivery.

        Returns:
            None when it is settled; for a copy that has to be confirmed first, what to wait for:
            it returns the outcome in the end, which is `Released` if there was no confirm.
        """
        match outcome:
            case Done() | Expired():
                delivery.ack()
            case Released():
                return self._give_back(delivery, outcome)
            case Rejected(failure):
                return self._put_aside(delivery, self._dead[delivery.queue], failure, outcome)
            case Parked(failure):
                return self._put_aside(delivery, self._parked[delivery.queue], failure, outcome)
            case _:
                assert_never(outcome)
        return None

    def _give_back(self, delivery: Delivery, outcome: Outcome) -> Awaitable[Outcome] | None:
        limit = self._limits.get(delivery.queue)
        if limit is None or delivery.stale or delivery.returns < limit // 2:
            delivery.release()
            return None
        return self._renew(delivery, outcome)

    async def _renew(self, delivery: Delivery, outcome: Outcome) -> Outcome:
        """Give back a copy that was never given back before. Up to 4.2 RabbitMQ counts each time
        towards the delivery limit, and being interrupted often is no reason for the dead letters:
        half of the limit is left for what the limit is for."""
        original = delivery.readable_properties()
        properties = replace(copied(original), expiration=original.expiration)
        try:
            await self._publication.publish(
                "", delivery.queue, properties, delivery.body, CONFIRM_TIMEOUT
            )
        except (PublishError, asyncio.CancelledError):
            if not delivery.settled:
                delivery.release()
            return outcome
        if not delivery.settled:
            delivery.ack()
        return outcome

    async def _put_aside(
        self, delivery: Delivery, target: str, failure: Failure, outcome: Outcome
    ) -> Outcome:
        """Publish a copy, wait for its confirm, and only then ack the original."""
        if delivery.stale:
            # RabbitMQ delivers it again; a copy now would be one too many.
            delivery.ack()
            return Released("the connection was lost")
        try:
            await self._publish(delivery, target, failure)
        except PublishError as error:
            self._failures += 1
            log.warning(
                "a job could not be put aside, and is given back to its queue",
                extra={"queue": delivery.queue, "target": target, "error": str(error)},
            )
            await self._pause(delivery)
            return Released(f"no copy in {target}: {error}")
        except asyncio.CancelledError:
            if not delivery.settled:
                delivery.release()
            raise
        self._failures = 0
        if not delivery.settled:
            delivery.ack()
        return outcome

    async def _publish(self, delivery: Delivery, target: str, failure: Failure) -> None:
        properties = copied(delivery.readable_properties(), failure)
        publish = self._publication.publish
        try:
            await publish("", target, properties, delivery.body, CONFIRM_TIMEOUT)
        except PublishError as error:
            if type(error) is not PublishError:
                raise
            # Headers that just fit into a frame do not fit with ours added: ours matter more.
            bare = replace(properties, headers={HEADER_ERROR: properties.headers[HEADER_ERROR]})
            await publish("", target, bare, delivery.body, CONFIRM_TIMEOUT)

    async def _pause(self, delivery: Delivery) -> None:
        try:
            # An exponent with a limit: 2**1024 is no float, and failures can go on for days.
            pause = 0.1 * 2 ** min(self._failures, 20)
            await asyncio.sleep(min(LONGEST_PAUSE, pause))
        finally:
            if not delivery.settled:
                delivery.release()
