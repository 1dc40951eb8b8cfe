"""Keeps one job of a singleton queue at a time here, and the queue's consumer until none runs.

Changes when a worker keeps, or gives up, a singleton queue in another way.
"""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.worker.execution.outliving import LOST_FOR, Outliving

if TYPE_CHECKING:
    from amqpjobs.jobs.queue.queue import Queue
    from amqpjobs.worker.flow.place import Place
    from amqpjobs.worker.intake import Intake
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")


class Singletons:
    """The singleton queues of a worker.

    Args:
        queues: that are consumed.
        intake: whose gates have the places.
        outliving: threads whose jobs are over. One of a singleton queue keeps its place.
        open: called with a queue's name when its next job may start.

    Attributes:
        places: by queue, which is its only AMQP queue as well.
    """

    def __init__(
        self,
        queues: "Iterable[Queue]",
        intake: "Intake",
        outliving: Outliving,
        open: Callable[[str], object],  # noqa: A002 - as `Intake.open`
    ) -> None:
        gates = {queue.name: intake.gate_of(queue) for queue in queues if queue.singleton}
        self.places: dict[str, Place] = {
            name: gate.place for name, gate in gates.items() if gate and gate.place
        }
        self._outliving = outliving
        self._open = open
        self._home = copy_context()  # of no job, for what is logged of the worker
        self._closing: asyncio.Task[None] | None = None
        for name, place in self.places.items():
            place.threads = partial(self._has_thread, name)
        if self.places:
            outliving.is_dear = lambda context: context.queue in self.places

    def __repr__(self) -> str:
        return f"<Singletons: {', '.join(map(repr, self.places.values()))}>"

    @property
    def taken(self) -> bool:
        """Whether a job of one of them runs here, or goes on."""
        return any(place.taken for place in self.places.values())

    def connect(self, subscriptions: Iterable[Subscription]) -> None:
        """Let the consumers, and the intake, know when a place is free again."""
        for subscription in subscriptions:
            place = self.places.get(subscription.queue)
            if place is not None:
                place.vacated += (subscription.vacated, partial(self._open, place.queue))

    def freeing(self, run: "Run", free: Callable[[], object]) -> Callable[[], object]:
        """What to call when a run is over, and its thread, in place of `free`."""
        place = self.places.get(run.delivery.queue)
        if place is None:
            return free

        def leave() -> None:
            free()
            place.leave()

        return leave

    def linger(self, queue: str, task: "asyncio.Task[None]") -> None:
        """A run of this AMQP queue is over, and its handler is not. For long, it is the end of this
        worker: no other one gets a job of the queue before."""
        place = self.places.get(queue)
        if place is None or task.done():
            return
        place.linger(task)
        reason = f"a job of the singleton queue {queue!r} does not end"
        recycle = self._outliving.recycle
        loop = asyncio.get_running_loop()
        end = loop.call_later(LOST_FOR, recycle, reason, context=self._home)

        def over(_: object) -> None:
            end.cancel()
            place.end(task)

        task.add_done_callback(over)

    def when_free(self, close: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Call this when nothing of them goes on here any more, if the process lives so long."""

        def look() -> None:
            if not self.taken and self._closing is None:
                self._closing = asyncio.ensure_future(close())

        for place in self.places.values():
            place.vacated.append(look)

    def tell_taken(self) -> None:
        """Say what keeps the connection of a worker that has stopped."""
        for name, place in self.places.items():
            if place.taken:
                log.warning("job of a singleton queue goes on", extra={"queue": name})

    def _has_thread(self, queue: str) -> bool:
        return any(context.queue == queue for context in self._outliving.calls)


def singletons_of(
    queues: "Iterable[Queue]",
    intake: "Intake",
    outliving: Outliving,
    open: Callable[[str], object],  # noqa: A002 - as above
) -> Singletons | None:
    """The singleton queues among these; None if there is none."""
    found = [queue for queue in queues if queue.singleton]
    return Singletons(found, intake, outliving, open) if found else None
