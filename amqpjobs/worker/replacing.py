"""Replacing a delivery by a copy: published, confirmed, and only then is the original acked.

One message's trouble is its own: its slot is free again within `SLOT_TIME`, and a copy that
RabbitMQ refuses for good is not tried for ever. Changes when the promise of a copy does.
"""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial

from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.fitting import send_fitting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import AmqpJobsError, PublishError, PublishRejected, Unroutable
from amqpjobs.jobs.message.copies import copied
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import (
    Answered,
    Done,
    Expired,
    Outcome,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
)
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


def _nothing() -> None:
    """Nobody wants to know."""


@dataclass(frozen=True, slots=True)
class Copy:
    """A message that is confirmed before a delivery is settled.

    Attributes:
        target: the queue that it goes to.
        due: when it is to be there, in seconds since the epoch; None for at once.
        instead: for a callback: the queue of dead letters that gets it where its own queue is gone,
            or RabbitMQ refuses it for good. None for a copy of the delivery itself.
        confirmed: called when it is confirmed.
    """

    properties: Properties
    body: bytes
    target: str
    due: float | None = None
    instead: str | None = None
    confirmed: Callable[[], None] = _nothing


class Replacing:
    """Publishes copies until they are confirmed.

    Args:
        publication: for copies.
        waiting: for copies that are to arrive later.
        settled: where it is remembered what must not run again.
        restore: declares the queues again, when one of them is not there.
        foreign: AMQP queues that others declare.
    """

    def __init__(
        self,
        publication: Publication,
        waiting: Waiting,
        settled: Settled,
        restore: Callable[[], Awaitable[None]],
        foreign: Collection[str] = (),
    ) -> None:
        self._foreign = foreign
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
        copies: Sequence[Copy],
        outcome: Outcome,
    ) -> Outcome:
        """Publish a copy, or several in this order, and settle the delivery.

        Returns:
            What became of it: the outcome, also when the copy is tried on beside other jobs;
            `Released` if the original comes again; `Rejected` if RabbitMQ itself puts the original
            into the dead letters.
        """
        one = _Replacement(self, delivery, copies, outcome)
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
            extra={"target": one.copy.target, **one.keys()},
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
            log.critical("a bug in amqpjobs", extra={"during": "replace"}, exc_info=error)

    async def publish(self, one: "_Replacement", alone: bool) -> None:
        """Send the copy, and wait for the confirm."""
        copy = one.copy
        publish = partial(self._publication.publish, "", copy.target)
        if copy.due is not None:
            publish = partial(self._delayed, copy.target, copy.due)
        send = lambda properties: publish(  # noqa: E731
            properties, copy.body, CONFIRM_TIMEOUT, through_alarms=True, alone=alone
        )
        await send_fitting(send, copy.properties, self._publication.frame_max)

    async def _delayed(
        self, target: str, due: float, copy: Properties, body: bytes, timeout: float, **more: bool
    ) -> None:
        await self._waiting.publish(target, copy, body, due, timeout, **more)

    async def fix(self, error: AmqpJobsError, pause: float) -> None:
        """Do what may help, and wait."""
        if isinstance(error, Unroutable):
            await self.restored()
        await asyncio.sleep(pause)

    async def restored(self) -> bool:
        """Declare the queues again; whether they are there."""
        try:
            await self._restore()
        except AmqpJobsError as failure:
            log.warning("topology not restored", extra={"error": str(failure)})
            return False
        return True

    def remember(self, delivery: Delivery) -> None:
        """Its copy is on its way."""
        self._settled.remember(delivery)

    def acked(self, delivery: Delivery) -> None:
        """Its job is over, and its callback is there."""
        self._settled.acked(delivery)

    async def keeps_rejected(self, queue: str) -> bool:
        """Whether the queue is known to dead-letter what is rejected: only as it was declared here.
        A queue without that would drop it."""
        return queue not in self._foreign and self._waiting.declares and await self.restored()


class _Replacement:
    """One delivery and its copies.

    Attributes:
        copy: the one that is published now.
    """

    def __init__(
        self,
        owner: Replacing,
        delivery: Delivery,
        copies: Sequence[Copy],
        outcome: Outcome,
    ) -> None:
        self.delivery = delivery
        self.copy, *self._next = copies
        self._owner = owner
        self._outcome = outcome
        self._is_over = isinstance(outcome, Done | Answered | Expired)  # all copies are callbacks
        self._refused: AmqpJobsError | None = None
        self._failures = 0
        self._refusals = 0

    async def run(self) -> Outcome:
        """Publish the copy, wait for its confirm, and only then ack the original. Without a confirm
        the original stays unacked, and the copy is tried again: giving the original back would run
        the job again, and again. So would a lost connection, if a job that is over, and has a
        callback, could not be known when it comes again: its callback is sent all the same."""
        end = asyncio.get_running_loop().time() + KEPT
        try:
            while self._is_over or not self.delivery.stale:
                try:
                    await self._owner.publish(self, alone=self._refusals > 0)
                    self.copy.confirmed()
                    if not self._next:
                        return self._confirmed()
                    self._begin(self._next.pop(0))
                except AmqpJobsError as error:
                    ended = await self._failed(error, end)
                    if ended is not None:
                        return ended
        except asyncio.CancelledError:
            if self.delivery.accepted:
                keys = {**self.keys(), "target": self.copy.target}
                log.error("copy lost, job runs at most once", extra=keys)  # noqa: TRY400
            if not self.delivery.settled:
                self.delivery.release()
            raise
        # RabbitMQ delivers it again; a copy now would be one too many.
        self.delivery.ack()
        return Released("the connection was lost")

    def _begin(self, copy: Copy) -> None:
        self.copy, self._failures, self._refusals = copy, 0, 0

    def _confirmed(self) -> Outcome:
        if self._refused is not None:
            return self._rejected(self._refused)
        if self._is_over:
            self._owner.acked(self.delivery)
        elif self.copy.due is not None and self.copy.instead is None:
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
            extra={**self.keys(), "target": self.copy.target, "error": str(error)},
        )
        if self.copy.instead is not None and self._is_undeliverable(error):
            self._put_aside(self.copy.instead, error)
            return None
        # Of an original that was acked before its job ran, the copy is all that is left.
        last = self.delivery.accepted
        if self._refusals >= REFUSALS and not last and await self._rejects():
            if not self._next:
                return self._rejected(error)
            self._refused = error
            self._begin(self._next.pop(0))
            return None
        if not last and asyncio.get_running_loop().time() > end and not self.delivery.settled:
            log.error("copy never confirmed, job requeued", extra=self.keys())
            self.delivery.release()
            return Released("its copy could not be published")
        await self._owner.fix(error, min(LONGEST_PAUSE, 0.1 * 2 ** min(self._failures, 10)))
        return None

    async def _rejects(self) -> bool:
        return await self._owner.keeps_rejected(self.delivery.queue)

    def _is_undeliverable(self, error: AmqpJobsError) -> bool:
        # Once: the queues of the app are declared again, and one of them may be the target.
        return self._refusals >= REFUSALS or (isinstance(error, Unroutable) and self._failures > 1)

    def _put_aside(self, dead: str, error: AmqpJobsError) -> None:
        """Let a callback that no queue takes be a dead letter of the queue of its job."""
        copy = self.copy
        log.error(
            "callback undeliverable, dead-lettered", extra={**self.keys(), "target": copy.target}
        )
        failure = Failure(
            "unroutable", f"a callback for the queue {copy.target!r}: {error}",
            job=copy.properties.type, queue=self.delivery.queue, worker=WORKER, time=time.time(),
        )  # fmt: skip
        properties = copied(copy.properties, failure)
        self._begin(Copy(properties, copy.body, dead, confirmed=copy.confirmed))

    def _rejected(self, error: AmqpJobsError) -> Outcome:
        """Let RabbitMQ put the original into the dead letters; it does not say why."""
        log.error(
            "copy refused, original dead-lettered by RabbitMQ",
            extra={**self.keys(), "error": str(error), "outcome": repr(self._outcome)[:1000]},
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

    def keys(self) -> dict[str, object]:
        """What its log lines carry."""
        job_id = self.copy.properties.message_id or ""
        return {"queue": self.delivery.queue, "job_id": job_id[:255]}


def _is_for_good(error: AmqpJobsError) -> bool:
    """Whether it says something about the message, which the next try will say again."""
    if isinstance(error, PublishRejected):
        return error.for_good
    return type(error) is PublishError  # AMQP cannot carry it, not even what fits of it
