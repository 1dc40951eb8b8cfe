"""One delivery being worked on, and what is known of it so far.

Changes when more is known of it.
"""

import time
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.header_names import CALLBACKS_ENCODED, PARENT_ENCODED, TICK_ENCODED
from amqpjobs.jobs.run_context import RunContext

if TYPE_CHECKING:
    from amqpjobs.state.durable.run import DurableRun
    from amqpjobs.state.limits.turn import Ending
    from amqpjobs.telemetry.traces.job_spans import TracedRun
    from amqpjobs.worker.chunks import Chunk
    from amqpjobs.worker.quarantine import Quarantine


class Run:
    """One delivery being worked on, and what is known of it so far.

    Attributes:
        quarantine: where it runs if a worker may have died of it, else None.
        begun: when its handler began, by the monotonic clock; 0 if it did not.
        ended: when there was an outcome, by the same; 0 if there was none yet.
        asked: where the answer goes, if somebody waits for one.
        interrupted: the worker was told to stop, and cancels it.
        cancelled: the caller gave up, or the job was cancelled, and it is ended.
        exclusive: what it has of slots and claims; None where it has none.
        why: it was cancelled; there only if it was, and not by its caller.
        traced: its span, if it has one.
        callbacks: whether its message may have callbacks.
        ticked: whether a schedule may have sent it.
        parented: whether a durable job may wait for it.
        durable: the run of a durable job; None for another job, and before it has begun.
        family: whether it is one of these two, so that its end has to be stored.
        chunk: the items that it runs, of a map; None for any other job.
    """

    __slots__ = (
        "asked", "begun", "callbacks", "cancelled", "chunk", "context", "definition", "delivery",
        "durable", "ended", "exclusive", "family", "interrupted", "parented", "quarantine",
        "started", "ticked", "traced", "why",
    )  # fmt: skip

    def __init__(self, delivery: Delivery, quarantine: "Quarantine | None" = None) -> None:
        self.delivery = delivery
        self.quarantine = quarantine
        self.definition: Definition | None = None
        self.context: RunContext | None = None
        self.started = time.monotonic()
        self.begun = self.ended = 0.0
        self.interrupted = self.callbacks = self.ticked = self.parented = self.family = False
        self.durable: DurableRun | None = None
        self.chunk: Chunk | None = None
        self.asked: str | None = None
        self.cancelled = False
        self.exclusive: Ending | None = None
        self.why: str
        self.traced: TracedRun | None = None

    def runs(self, context: RunContext) -> bool:
        """Whether this is the context of its handler."""
        return self.context is context or (self.chunk is not None and self.chunk.context is context)

    def carries(self, raw_headers: bytes) -> None:
        """See what else its headers may say, before they are decoded."""
        self.callbacks = CALLBACKS_ENCODED in raw_headers
        self.ticked = TICK_ENCODED in raw_headers
        if PARENT_ENCODED in raw_headers:
            self.parented = self.family = True
