"""Writes one log line for each job when it ends, and calls the observers.

Changes when the line does.
"""

import logging
import time
from collections.abc import Callable, Iterable
from typing import TypeAlias

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.clock import MACHINE, Clock
from amqpjobs.jobs.message.compression import readable
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.outcome import (
    Done,
    Outcome,
    Rejected,
)
from amqpjobs.telemetry.safe_text import text_or_size
from amqpjobs.worker.done_lines import DoneLines
from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

Observer: TypeAlias = Callable[[Run, Outcome], None]
"""Told once of each delivery that has ended and is settled, whatever the log's level. What it
raises is logged, and costs the job nothing."""


class Observers:
    """Tells its observers of the end of a delivery, in order. Never fails the job.

    Args:
        observers: who is told.
        ticked: is told of jobs that a schedule may have sent; None for nobody.
    """

    def __init__(self, observers: Iterable[Observer], ticked: Observer | None = None) -> None:
        self.observers = tuple(observers)
        self._ticked = ticked

    def tell(self, run: Run, outcome: Outcome) -> None:
        """A delivery has ended, and is settled."""
        for observer in self.observers:
            try:
                observer(run, outcome)
            except Exception:
                log.exception("observer of jobs failed", extra={"observer": repr(observer)})
        if run.ticked and self._ticked is not None:
            self._ticked(run, outcome)


class Reporting:
    """Writes the line.

    Args:
        arguments: whether the job's arguments are part of it.
        clock: by which jobs are due.
    """

    def __init__(self, *, arguments: bool, clock: Clock = MACHINE) -> None:
        self._arguments = arguments
        self._clock = clock
        self._lines = None if arguments else DoneLines(log)

    def report(self, run: Run, outcome: Outcome) -> None:
        """Log how a delivery ended."""
        level = outcome.level
        if not log.isEnabledFor(level):
            return
        running = time.monotonic() - run.started
        if (
            type(outcome) is Done
            and (lines := self._lines) is not None
            and (buffer := lines.buffer()) is not None
            and lines.put(buffer, run, waiting_time(run, running), running)
        ):
            return
        keys = dict(run.context.log_keys()) if run.context else _bare_keys(run)
        word = keys["outcome"] = outcome.word
        keys["worker"] = WORKER
        if run.delivery.stale:
            # Its channel was lost meanwhile: RabbitMQ delivers it again, to run once more.
            keys["stale"] = True
        keys.update(outcome.detail(self._clock.time()))
        waited = waiting_time(run, running)
        if waited is not None:
            keys["waited_ms"] = round(waited * 1000, 1)
        keys["running_ms"] = round(running * 1000, 1)
        if self._arguments:
            keys["arguments"] = text_or_size(_body(run), 2000)
        # A message that did not fit has no place in our code worth showing; what somebody asked
        # for is an answer, and shown where it was asked.
        shown = outcome.error if isinstance(outcome, Rejected) and word == "failed" else None
        log.log(level, "job %s", word, extra=keys, exc_info=shown)


def waiting_time(run: Run, running: float) -> float | None:
    """Seconds between enqueueing and start: by the id, which is a UUID with its time in it, else
    by the AMQP timestamp, which is whole seconds. Clocks of two machines differ; never negative."""
    context = run.context
    if context is None:
        return None
    made = _time_of(context.job_id)
    if made is None:
        timestamp = run.delivery.header.timestamp  # readable even where the headers are not
        if timestamp is None:
            return None
        made = float(timestamp)
    return max(0.0, time.time() - running - made)


def _time_of(job_id: str) -> float | None:
    if len(job_id) == 36 and job_id[14] == "7":
        try:
            return int(job_id[:8] + job_id[9:13], 16) / 1000
        except ValueError:
            return None
    return None


def _body(run: Run) -> bytes:
    try:
        return readable(run.delivery.body, run.delivery.header.content_encoding)
    except DecodeError:
        return run.delivery.body


def _bare_keys(run: Run) -> dict[str, object]:
    keys: dict[str, object] = {"queue": run.delivery.queue}
    try:
        keys["job"] = (run.delivery.header.type or "")[:255]
        keys["job_id"] = (run.delivery.header.message_id or "")[:255]
    except DecodeError:
        keys["job"] = ""
    return keys
