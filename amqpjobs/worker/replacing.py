"""Replacing a delivery by a copy: published, confirmed, and only then is the original acked.

One message's trouble is its own: its slot is free again within `SLOT_TIME`, and a copy that
RabbitMQ refuses for good is not tried for ever. Changes when the promise of a copy does.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.fitting import send_fitting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import AmqpJobsError, PublishError, PublishRejected, Unroutable
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import Outcome, Parked, Rejected, Released, Retried, Snoozed
from amqpjobs.worker.recently_settled import Settled

log = logging.getLogger("amqpjobs.worker")

CONFIRM_TIMEOUT = 10.0
"""Seconds for the confirm of a copy before it is tried again."""

LONGEST_PAUSE = 5.0
"""Seconds. When copies cannot be published, trying again at once would spin."""

REFUSALS = 2
"""How often RabbitMQ may refuse what a copy is, when it is sent alone; before that it was sent once
on the channel that all share. Nothing about the message changes between two tries, so more would
only cost more channels."""

SLOT_TIME = 30.0
"""Seconds for which a delivery that waits for its copy keeps its slot. A broker that restarts, or a
queue that elects a leader, is back by then; after that the copy is tried beside other jobs, and the
delivery only counts towards the prefetch."""

KEPT = 600.0
"""Seconds until a delivery whose copy is still not confirmed is given back, and runs again: a third
of RabbitMQ's consumer timeout, which would take back all that the channel holds."""


class Replacing:
    """Publishes copies until they are confirmed.

    Args:
        publication: for copies.
        waiting: for copies that are to arrive later.
        settled: where it is remembered what must not run again.
        restore: declares the queues again, when one of them is not there.
    """

    def __init__(
        self,
        publication: Publication,
        waiting: Waiting,
        settled: Settled,
        restore: Callable[[], Awaitable[None]],
    ) -> None:
        self._publication = publication
        self._waiting = waiting
        self._settled = settled
        self._restore = restore
        self._beside: set[asyncio.Task[Outcome]] = set()

    def __repr__(self) -> str:
        return f"<Replacing: {len(self._beside)} copies are tried beside other jobs>"

    async def replace(
        self,
        delivery: Delivery,
        copy: Properties,
        target: str,
        outcome: Outcome,
        due: float | None = None,
    ) -> Outcome:
        """Publish a copy, and settle the delivery.

        Returns:
            What became of it: the outcome, also when the copy is tried on beside other jobs;
            `Released` if the original comes again; `Rejected` if RabbitMQ itself puts the original
            into the dead letters.
        """
        one = _Replacement(self, delivery, copy, target, outcome, due)
        task = asyncio.ensure_future(one.run())
        try:
            await asyncio.wait((task,), timeout=SLOT_TIME)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise
        if task.done():
            return task.result()
        log.error(
            "copy not confirmed, slot freed",
            extra={"queue": delivery.queue, "target": target, "job_id": copy.message_id},
        )
        one.delivery = delivery.hand_over()
        self._beside.add(task)
        task.add_done_callback(self._end)
        return outcome

    def leave(self) -> None:
        """Give back what is tried beside other jobs: the worker stops."""
        for task in self._beside:
            task.cancel()

    def _end(self, task: "asyncio.Task[Outcome]") -> None:
        self._beside.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.critical("a bug in amqpjobs around a copy", exc_info=error)

    async def publish(self, one: "_Replacement", alone: bool) -> None:
        """Send the copy, and wait for the confirm."""
        publish = partial(self._publication.publish, "", one.target)
        if one.due is not None:
            publish = partial(self._delayed, one.target, one.due)
        send = lambda copy: publish(  # noqa: E731
            copy, one.delivery.body, CONFIRM_TIMEOUT, through_alarms=True, alone=alone
        )
        await send_fitting(send, one.copy, self._publication.frame_max)

    async def _delayed(
        self, target: str, due: float, copy: Properties, body: bytes, timeout: float, **more: bool
    ) -> None:
        await self._waiting.publish(target, copy, body, due, timeout, **more)

    async def mend(self, error: AmqpJobsError, pause: float) -> None:
        """Do what may help, and wait."""
        if isinstance(error, Unroutable):
            await self.restored()
        await asyncio.sleep(pause)

    async def restored(self) -> bool:
        """Declare the queues again; whether they are there."""
        try:
            await self._restore()
        except AmqpJobsError as failure:
            log.warning("topology: %s", failure)
            return False
        return True

    def remember(self, delivery: Delivery) -> None:
        """Its copy is on its way."""
        self._settled.remember(delivery)

    async def keeps_rejected(self) -> bool:
        """Whether the queue is known to dead-letter what is rejected: only as it was declared here.
        A queue without that would drop it."""
        return self._waiting.declares and await self.restored()


class _Replacement:
    """One delivery and its copy."""

    def __init__(
        self,
        owner: Replacing,
        delivery: Delivery,
        copy: Properties,
        target: str,
        outcome: Outcome,
        due: float | None,
    ) -> None:
        self.delivery = delivery
        self.copy = copy
        self.target = target
        self.due = due
        self._owner = owner
        self._outcome = outcome
        self._failures = 0
        self._refusals = 0

    async def run(self) -> Outcome:
        """Publish the copy, wait for its confirm, and only then ack the original. Without a confirm
        the original stays unacked, and the copy is tried again: giving the original back would run
        the job again, and again."""
        end = asyncio.get_running_loop().time() + KEPT
        try:
            while not self.delivery.stale:
                try:
                    await self._owner.publish(self, alone=self._refusals > 0)
                    return self._confirmed()
                except AmqpJobsError as error:
                    ended = await self._failed(error, end)
                    if ended is not None:
                        return ended
        except asyncio.CancelledError:
            if not self.delivery.settled:
                self.delivery.release()
            raise
        # RabbitMQ delivers it again; a copy now would be one too many.
        self.delivery.ack()
        return Released("the connection was lost")

    def _confirmed(self) -> Outcome:
        if self.due is not None:
            self._owner.remember(self.delivery)
        if not self.delivery.settled:
            self.delivery.ack()
        return self._outcome

    async def _failed(self, error: AmqpJobsError, end: float) -> Outcome | None:
        """What to do next; None to try again."""
        self._failures += 1
        self._refusals += _is_for_good(error)
        log.warning(
            "copy is not confirmed, trying again",
            extra={**self._keys(), "target": self.target, "error": str(error)},
        )
        if self._refusals >= REFUSALS and await self._owner.keeps_rejected():
            return self._rejected(error)
        if asyncio.get_running_loop().time() > end and not self.delivery.settled:
            log.error("copy never confirmed, job given back", extra=self._keys())
            self.delivery.release()
            return Released("its copy could not be published")
        await self._owner.mend(error, min(LONGEST_PAUSE, 0.1 * 2 ** min(self._failures, 10)))
        return None

    def _rejected(self, error: AmqpJobsError) -> Outcome:
        """Let RabbitMQ put the original into the dead letters; it does not say why."""
        log.error(
            "copy refused, original dead-lettered by RabbitMQ",
            extra={**self._keys(), "error": str(error), "outcome": repr(self._outcome)[:1000]},
        )
        if not self.delivery.settled:
            self.delivery.reject()
        match self._outcome:
            case Rejected() as rejected:
                return rejected
            case Retried(failure, _, cause):
                return Rejected(failure, cause)
            case Parked(failure):
                return Rejected(failure)
            case Snoozed() | _:
                return Rejected(Failure("refused", f"RabbitMQ refuses its copy: {error}"), error)

    def _keys(self) -> dict[str, object]:
        return {"queue": self.delivery.queue, "job_id": (self.copy.message_id or "")[:255]}


def _is_for_good(error: AmqpJobsError) -> bool:
    """Whether it says something about the message, which the next try will say again."""
    if isinstance(error, PublishRejected):
        return error.for_good
    return type(error) is PublishError  # AMQP cannot carry it, not even what fits of it
