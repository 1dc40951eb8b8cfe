"""Runs the items of a chunk one after the other. Each item is validated, passes the middleware, has
its own timeout, and fails independently.

Changes when an item of a map is run in another way; `amqpjobs.state.durable` stores its result.
"""

import time
from collections.abc import Awaitable, Callable

from pydantic_core import from_json, to_json

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import AmqpJobsError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.family import Family
from amqpjobs.jobs.message.ids import derived_id
from amqpjobs.jobs.outcome import (
    DONE_NOTHING,
    Answered,
    Done,
    Expired,
    Outcome,
    Rejected,
    Released,
    Retried,
    Skipped,
    Snoozed,
    Undoing,
)
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.state.durable import lines
from amqpjobs.state.durable.values import Failed

LARGEST = 8 * 1024 * 1024
"""Bytes of the result of an item."""

RunsItem = Callable[[RunContext, bytes], Awaitable[Outcome]]
"""Runs one item, given its context and its body as JSON. Never raises."""


class Chunk:
    """A chunk, while a worker runs it.

    Args:
        app: of the durable job.
        family: the map that it belongs to.
        first: the index of its first item.
        results: the results of its items so far: see `amqpjobs.state.durable.lines`.
        clock: tells the time, in seconds since the epoch.

    Attributes:
        context: of the item that runs; None between two.
        began: when its run began, by the monotonic clock.
    """

    def __init__(
        self,
        app: str,
        family: Family,
        first: int,
        results: list[bytes],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._app = app
        self._time = clock
        self.family = family
        self.results = results
        self._first = first
        self.context: RunContext | None = None
        self.began = time.monotonic()
        self._again: Retried | None = None
        self._later: Snoozed | None = None

    def __repr__(self) -> str:
        return f"<Chunk {self.family.n} of {self.family.step!r}: {len(self.results)} items>"

    @property
    def seconds(self) -> float:
        """The seconds for which it has run."""
        return time.monotonic() - self.began

    async def run(
        self,
        delivery: Delivery,
        definition: Definition,
        context: RunContext,
        body: bytes,
        item: RunsItem,
    ) -> Outcome:
        """Run the items that have not ended.

        Args:
            context: of the chunk.
            body: of the message: a list of what items have as their bodies.
            item: runs one.

        Returns:
            The outcome of the chunk: done when all items have ended, also if some have failed.

        Raises:
            ValueError: the body is not a list of these items.
        """
        bodies = _bodies(body, len(self.results))
        for index in list(lines.open_in(self.results)):
            ended = self._over(delivery, context)
            if ended is None:
                self.context = self._context_of(definition, context, index)
                ended = self._take(
                    definition, index, self.context, await item(self.context, bodies[index])
                )
                self.context = None
            if ended is not None:
                return ended
        return self._again or self._later or DONE_NOTHING

    def _over(self, delivery: Delivery, context: RunContext) -> Outcome | None:
        """Why no further item may begin; None if one may."""
        if context.stopping.is_set():
            return Released("the worker is stopping")
        if delivery.stale:
            return Released("its channel was lost")
        if context.deadline is not None and context.deadline < self._time():
            return Expired(context.deadline)
        return None

    def _context_of(self, definition: Definition, chunk: RunContext, index: int) -> RunContext:
        """The context of an item. The id of the item is the same in each run of the chunk."""
        family = self.family
        job_id = derived_id(
            "item", self._app, family.parent, str(family.epoch), family.step,
            str(self._first + index),
        )  # fmt: skip
        context = RunContext(
            definition.name, job_id, chunk.queue, chunk.attempt, chunk.deadline, chunk.stopping,
            chunk._properties, chunk.epoch,
        )  # fmt: skip
        context.carried, context.span = chunk.carried, chunk.span
        context.redelivered = chunk.redelivered
        return context

    def _take(
        self, definition: Definition, index: int, context: RunContext, outcome: Outcome
    ) -> Outcome | None:
        """Keep the result of an item. Returns the outcome if it ends the chunk."""
        match outcome:
            case Done(result):
                self.results[index] = _line(definition, context, result)
            case Rejected() | Answered() | Undoing():
                error = Failed.of_failure(outcome.failure, definition.name, context.job_id)
                self.results[index] = lines.failed(error)
            case Retried():
                if self._again is None or outcome.pause > self._again.pause:
                    self._again = outcome
            case Snoozed():
                if self._later is None or outcome.due > self._later.due:
                    self._later = outcome
                if outcome.rate_limited is not None:
                    return self._again or outcome
            case Skipped() | Expired():
                words = str(outcome.detail(self._time()).get("reason", outcome.word))
                self.results[index] = lines.failed(
                    Failed(outcome.word, words, definition.name, context.job_id, context.attempt)
                )
            case _:
                return outcome
        return None


def _line(definition: Definition, context: RunContext, result: object) -> bytes:
    try:
        return lines.done(dump_result(definition, result, LARGEST))
    except AmqpJobsError as invalid:
        job_id, attempt = context.job_id, context.attempt
        return lines.failed(Failed("InvalidResult", str(invalid), definition.name, job_id, attempt))


def _bodies(body: bytes, count: int) -> list[bytes]:
    found = from_json(body)
    if not isinstance(found, list) or len(found) != count:
        raise ValueError(f"the body of a chunk is a list of its {count} items")
    return [to_json(each) for each in found]
