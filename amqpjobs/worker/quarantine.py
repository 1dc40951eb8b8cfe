"""Quarantine: a job that a worker may have died of runs in a process of its own, whatever its kind.

So the culprit kills a process of its own, and is known; innocents that were held beside
it run to their end. Changes when suspects are run differently.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.worker.execution.handlers import Execution, within
from amqpjobs.worker.intake import Intake

if TYPE_CHECKING:
    from amqpjobs.worker.execution.pool import ProcessPool

log = logging.getLogger("amqpjobs.worker")

PLACES = 2
"""Suspects that run at once. They are few, and each may take all memory there is."""

ALONE = "a suspect runs alone"
"""Why the intake is paused then."""

START_TIME = 15.0
"""Seconds, on top of a job's timeout, until its process is killed: it is started, and imports the
app, first. An ``async def`` is cancelled in it at its timeout."""


class Quarantine:
    """Holds suspects, and runs them a few at a time, in no slot of the others.

    Args:
        start: called with each delivery whose turn it is; `finished` gives its place back.
        intake: is paused for a job that can only run in this process; when it is closed, nothing is
            started here either, and its gates hold suspects back as they do the others.
        execution: runs that one.
    """

    def __init__(
        self, start: Callable[[Delivery], None], intake: Intake, execution: Execution
    ) -> None:
        self._start = start
        self._intake = intake
        self._execution = execution
        self._free = PLACES
        self._waiting: deque[Delivery] = deque()
        self._alone = asyncio.Lock()
        self._turn: object = None  # of what runs alone
        self._pool: ProcessPool | None = None

    def __repr__(self) -> str:
        return f"<Quarantine: {PLACES - self._free} running, {len(self._waiting)} waiting>"

    @property
    def waiting(self) -> tuple[Delivery, ...]:
        """What waits for a place."""
        return tuple(self._waiting)

    def offer(self, delivery: Delivery) -> None:
        """Take a suspect: start it, or keep it until there is a place."""
        self._waiting.append(delivery)
        self._fill()

    def finished(self) -> None:
        """A place is free again."""
        self._free += 1
        self._fill()
        if self._free == PLACES and self._pool is not None:
            self._pool.rest()

    def drop(self, unwanted: Callable[[Delivery], bool]) -> list[Delivery]:
        """Take out of what waits."""
        dropped = [delivery for delivery in self._waiting if unwanted(delivery)]
        for delivery in dropped:
            self._waiting.remove(delivery)
        return dropped

    def give_up(self) -> None:
        """One that runs alone does not end, and is not waited for, neither by other suspects."""
        self._end_turn(self._turn)

    def take_waiting(self) -> list[Delivery]:
        """Everything that waits, in the order in which it came, and it waits no more."""
        waiting = list(self._waiting)
        self._waiting.clear()
        return waiting

    def open(self) -> None:
        """Ask the gates of the queues again."""
        self._fill()

    def _fill(self) -> None:
        for delivery in tuple(self._waiting):
            if not self._free or self._intake.closed or self._alone.locked():
                return
            if not delivery.stale:
                if not self._intake.admits(delivery):
                    continue
                self._free -= 1
                self._start(delivery)
            self._waiting.remove(delivery)

    async def run(self, definition: Definition, context: RunContext, body: bytes) -> object:
        """Run a suspect's handler, and return its result.

        The body is validated in the process too: that may be what kills.

        Raises:
            JobProcessDied: it is guilty.
            DecodeError: the body does not fit the job.
            JobTimeout: it ran longer than its timeout.
            NoRoom: no process can be started for it.
            RemoteError, Verdict: the handler's own.
        """
        log.warning("suspected job runs in quarantine", extra=context.log_keys())
        own = context.timeout_of(definition.timeout)
        limit = None if own is None else own + START_TIME
        try:
            return await within(limit, self._processes().run(definition, context, body))
        except ConfigurationError as error:
            if definition.kind == "process":
                raise
            return await self._run_alone(definition, context, body, error)

    async def _run_alone(
        self, definition: Definition, context: RunContext, body: bytes, problem: ConfigurationError
    ) -> object:
        """The next best: in here, and nothing else is started until it ends. What was held beside
        it may come back as often as it does; the queue's delivery limit ends that."""
        log.warning(
            "suspected job runs in the worker",
            extra={**context.log_keys(), "reason": str(problem)},
        )
        arguments = definition.payload.load(body)
        await self._alone.acquire()
        turn = self._turn = context
        self._intake.pause(ALONE)
        try:
            return await self._execution.run(definition, context, arguments, body)
        finally:
            self._end_turn(turn)

    def _end_turn(self, turn: object) -> None:
        if turn is not None and turn is self._turn:  # else it was given up, and others had theirs
            self._turn = None
            self._alone.release()
            self._intake.resume(ALONE)

    def _processes(self) -> "ProcessPool":
        if self._pool is None:
            from amqpjobs.worker.execution.pool import ProcessPool

            self._pool = ProcessPool(
                PLACES, expendable=True, home=self._execution.home, logs=self._execution.logs
            )
        return self._pool

    async def close(self) -> None:
        """End the processes."""
        if self._pool is not None:
            await self._pool.close()
