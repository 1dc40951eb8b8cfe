"""Emits the events of a worker's jobs: started, progress, ended.

Nothing here waits, and nothing fails a job. Changes when there is something else to tell.
"""

import asyncio
import logging
import threading
from collections.abc import Iterable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from amqpjobs.errors import AmqpJobsError, DecodeError
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.events import (
    DONE,
    STARTED,
    Progress,
    clock,
    readable,
)
from amqpjobs.jobs.message.header_info import JobHeaders
from amqpjobs.jobs.message.headers import read_leniently, tags_of
from amqpjobs.jobs.outcome import (
    Done,
    Outcome,
)
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.jobs.results import dump_result
from amqpjobs.jobs.run_context import RunContext

if TYPE_CHECKING:
    from amqpjobs.broker.rabbitmq.event_publication import Announcements
    from amqpjobs.jobs.runtime import Runtime
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

PROGRESS_EVERY = 0.2
"""Seconds between two words of one job on its progress."""


class Announcer:
    """Makes events of what happens in a worker.

    Args:
        runtime: whose jobs, and whether to.
        queues: that are consumed.

    Attributes:
        enabled: whether anything but the log is told.
    """

    def __init__(self, runtime: "Runtime", queues: Iterable[Queue] = ()) -> None:
        settings = runtime.settings
        self._time = runtime.clock.time
        self._resolve = runtime.registry.resolve
        self.enabled = settings.events
        self._largest = settings.max_result_size
        self._ttl = settings.result_ttl
        self._queues = {lane.queue: queue.name for queue in queues for lane in lanes_of(queue)}
        self._out: Announcements | None = None
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._speaking: dict[RunContext, _Speech] = {}
        self._begun: dict[Run, None] = {}

    def __repr__(self) -> str:
        return f"<Announcer: {len(self._speaking)} jobs tell their progress, {self._out!r}>"

    def speak_through(self, out: "Announcements") -> None:
        """Where events go. Until this is known, nothing is told."""
        self._out = out
        out.gather.append(self._gather)

    def started(self, run: "Run") -> None:
        """The handler is about to be called. What has ended before the next message is made is told
        as ended only: its end says when it began, and most jobs are that short."""
        if self._out is not None:
            self._begun[run] = None
            self._out.wake()

    def _gather(self) -> None:
        begun, self._begun = self._begun, {}
        for run in begun:
            context, definition = run.context, run.definition
            if context is None or definition is None or not definition.track:
                continue
            progress = context.told
            if progress is None and run.delivery.header.has_amqpjobs_headers:
                progress = context.last_progress
            self._add(context, STARTED, run.begun, _tagged(context, _details_of(progress)))

    def _add(
        self, context: RunContext, state: str, begun: float, details: dict[str, Any] | None
    ) -> None:
        if self._out is not None:
            self._out.add(
                (
                    context.job_id, context.job, context.queue, state, context.epoch,
                    context.attempt, clock(), begun, details,
                )
            )  # fmt: skip

    def progressed(self, context: RunContext) -> None:
        """The job has told how far it is, in whatever thread."""
        if threading.get_ident() == self._thread:
            self._progressed(context)
        else:
            with suppress(RuntimeError):  # a thread that nobody waits for, after the end of all
                self._loop.call_soon_threadsafe(self._progressed, context)

    def _progressed(self, context: RunContext) -> None:
        if context.tell is None:
            return  # it has ended: a thread that nobody waits for goes on
        speech = self._speaking.get(context)
        if speech is None:
            speech = self._speaking[context] = _Speech()
        if speech.timer is None:
            self._say(context, speech)
        else:
            speech.more = True

    def _say(self, context: RunContext, speech: "_Speech") -> None:
        speech.more = False
        speech.timer = self._loop.call_later(PROGRESS_EVERY, self._may_speak, context, speech)
        context.log_progress()
        out = self._out
        if out is not None and out.listening and self._resolve(context.job).track:
            self._add(context, STARTED, 0.0, _tagged(context, _details_of(context.told)))

    def _may_speak(self, context: RunContext, speech: "_Speech") -> None:
        speech.timer = None
        if speech.more:
            self._say(context, speech)

    def ended(self, run: "Run", outcome: Outcome) -> None:
        """It is settled, or about to be."""
        self._begun.pop(run, None)
        context, definition = run.context, run.definition
        if context is not None:
            context.tell = None
            if context.told is not None:
                self._silence(context)
        out = self._out
        if out is None or (definition is not None and not definition.track):
            return
        if context is not None and isinstance(outcome, Done):  # the commonest
            details: dict[str, Any] | None = None
            size = 0
            if (
                definition is not None
                and run.chunk is None
                and (definition.keep_result or context.told is not None)
            ):
                details, size = self._of_success(definition, context, outcome, out)
            if context.carried is not None:
                details = _tagged(context, details)
            out.add(
                (
                    context.job_id, context.job, context.queue, DONE, context.epoch,
                    context.attempt, clock(), run.begun, details,
                ),
                size,
            )  # fmt: skip
            return
        self._ended_otherwise(run, outcome, out)

    def _silence(self, context: RunContext) -> None:
        speech = self._speaking.pop(context, None)
        if speech is None:
            return
        if speech.timer is not None:
            speech.timer.cancel()
        if speech.more:
            context.log_progress()  # its event is the one of its end

    def _of_success(
        self, definition: Definition, context: RunContext, done: Done, out: "Announcements"
    ) -> tuple[dict[str, Any] | None, int]:
        details = _details_of(context.told)
        if not definition.keep_result or not out.listening:
            return details, 0
        details = details or {}
        keep = definition.keep_result
        try:
            result = dump_result(definition, done.result, self._largest)
        except Exception as error:  # noqa: BLE001 - serializers are the user's
            why = error if isinstance(error, AmqpJobsError) else type(error).__name__
            log.warning("result not stored", extra={**context.log_keys(), "reason": str(why)})
            details["error"] = readable(f"the result is not stored: {why}")
            return details, 0
        details["result"] = result
        details["keep"] = self._ttl if keep is True else float(keep)
        return details, len(result)

    def _ended_otherwise(self, run: "Run", outcome: Outcome, out: "Announcements") -> None:
        state = outcome.state
        if state is None:
            return
        details = outcome.event(self._time())
        context = run.context
        if context is not None:
            told = context.told
            if told is None and run.delivery.header.has_amqpjobs_headers:
                told = context.last_progress
            details = _tagged(context, {**details, **(_details_of(told) or {})}) or {}
            job_id, job, epoch, attempt = (
                context.job_id, context.job, context.epoch, context.attempt,
            )  # fmt: skip
        else:
            named = _named(run)
            if named is None:
                return  # nobody knows its id
            job_id, job, epoch, attempt, tags = named
            if tags:
                details = {**details, "tags": tags}
        queue = self._queues.get(run.delivery.queue, run.delivery.queue)
        out.add((job_id, job, queue, state, epoch, attempt, clock(), run.begun, details or None))


class _Speech:
    """One job that tells its progress: whether it may speak now, and whether it has more to say."""

    __slots__ = ("more", "timer")

    def __init__(self) -> None:
        self.timer: asyncio.TimerHandle | None = None
        self.more = False


def _details_of(progress: Progress | None) -> dict[str, Any] | None:
    if progress is None:
        return None
    return {"progress": progress.fraction, "detail": progress.message}


def _tagged(context: RunContext, details: dict[str, Any] | None) -> dict[str, Any] | None:
    """The same with the tags of the job, which its publisher may not have told."""
    return {**(details or {}), "tags": context.tags} if context.tags else details


def _named(run: "Run") -> tuple[str, str, int, int, tuple[str, ...]] | None:
    """Id, job, epoch, attempt and tags of a message that got no context, as far as it says so."""
    try:
        header = run.delivery.header
        job_id, job = header.message_id, header.type
    except DecodeError:
        return None
    if not job_id:
        return None
    try:
        said, tags = read_leniently(header.headers), tags_of(header.headers)
    except DecodeError:
        said, tags = JobHeaders(), ()
    name = run.definition.name if run.definition is not None else job or ""
    return readable(job_id, 255), readable(name, 255), said.epoch, said.attempt, tags
