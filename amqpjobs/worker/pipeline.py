"""The life of one delivery, as named steps: decode, resolve, validate, middleware, execution.

Every path through here ends in one `Outcome`; none settles anything. Changes when a step is added.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from amqpjobs.errors import DecodeError, JobProcessDied
from amqpjobs.jobs.context import Context, Stopping, current_context
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.handlers import PLAIN, landed
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.message.headers import read
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import JSON
from amqpjobs.jobs.middleware import onion
from amqpjobs.jobs.outcome import (
    DONE_NOTHING,
    Cancelled,
    Done,
    Expired,
    Outcome,
    Parked,
    Rejected,
    Released,
    Retried,
    Snoozed,
    Superseded,
)
from amqpjobs.jobs.retry import Retry
from amqpjobs.jobs.runtime import Runtime
from amqpjobs.jobs.verdicts import RateLimited, Reject, RetryAfter, Snooze, Verdict
from amqpjobs.worker.deferral import LONGEST_HOLD
from amqpjobs.worker.endings import Endings
from amqpjobs.worker.failures import exception_name, innermost_frames, words_of
from amqpjobs.worker.reading import (
    check_content,
    too_large,
)
from amqpjobs.worker.room import Room, lack_behind
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    from amqpjobs.worker.events import Announcer
    from amqpjobs.worker.execution.handlers import Execution
    from amqpjobs.worker.quarantine import Quarantine
    from amqpjobs.worker.recently_settled import Settled

log = logging.getLogger("amqpjobs.worker")


Layer: TypeAlias = Callable[[Run, Awaitable[object]], Awaitable[object]]
"""Waits for a run's middleware and handler, and returns or raises what they do."""


class Refused(Exception):
    """A step ended the job before its handler was called."""

    def __init__(self, outcome: Outcome) -> None:
        self.outcome = outcome


class Pipeline:
    """Turns a delivery into an outcome.

    Args:
        runtime: whose jobs.
        execution: how handlers are run.
        stopping: set when the worker is told to stop.
        only_jobs: by AMQP queue: the one job for messages that name none.
        max_size: bodies over this many bytes are refused.
        settled: what was settled here before, and may come again.
        taken_back: whether who asked for a run has taken it back before it started.
        announcer: who is told that a job has begun, and how far it is; None for nobody.
        endings: knows how the worker itself ends.
        room: is told of a job that found none.
        around: one more layer around each run's middleware and handler, such as its span.
    """

    def __init__(
        self,
        runtime: Runtime,
        execution: "Execution",
        stopping: Stopping,
        only_jobs: Mapping[str, Definition],
        max_size: int,
        settled: "Settled",
        taken_back: Callable[[Run], bool],
        announcer: "Announcer | None" = None,
        endings: Endings | None = None,
        room: Room | None = None,
        around: "Layer | None" = None,
    ) -> None:
        self._jobs = runtime.registry.jobs
        self._processing = runtime.registry.processing
        self._bare = not self._processing
        self._execution = execution
        self._stopping = stopping
        self._only_jobs = only_jobs
        self._max_size = max_size
        self._settled = settled
        self._taken_back = taken_back
        self._retry = runtime.registry.retry
        self._time = runtime.clock.time
        self._around = around
        self._endings = endings or Endings()
        self._room = room or Room(lambda: None)
        self._tell = announcer.progressed if announcer is not None else None
        self._begins = announcer.started if announcer is not None and announcer.enabled else None

    def knows(self, name: str | None, queue: str) -> bool:
        """Whether a message of this ``type`` from this AMQP queue has a job here."""
        return queue in self._only_jobs if name is None else name in self._jobs

    async def outcome_of(self, run: Run) -> Outcome:
        """Work on a delivery. Never raises, but for what ends the whole worker."""
        try:
            definition, context = self._open(run)
            token = current_context.set(context)
            try:
                calling = self._call(run, definition, context)
                if self._around is not None:
                    calling = self._around(run, calling)
                run.begun = run.started
                if self._begins is not None:
                    self._begins(run)
                result = await calling
                if type(result) not in PLAIN:
                    result = await landed(result)
            finally:
                current_context.reset(token)
        except Refused as refusal:
            return refusal.outcome
        except Verdict as verdict:
            return self._ruled(run, verdict)
        except BaseException as error:  # noqa: BLE001 - whatever a handler raises is its outcome
            return await self._raised(run, error)
        if result is None:
            return DONE_NOTHING
        if isinstance(result, Verdict):
            return self._ruled(run, result)
        return Done(result)

    def _open(self, run: Run) -> tuple[Definition, Context]:
        """Decode the properties, find the job, and see whether it should still run."""
        delivery = run.delivery
        try:
            header = delivery.header
            if header.reply_to is not None:
                run.asked = header.reply_to
            definition = self._resolve(run, header.type)
            run.definition = definition
            attempt, deadline, due, epoch = 1, None, None, 0
            if header.has_amqpjobs_headers:
                # Decoding a table costs more than all the rest here; most messages have none of
                # ours.
                attempt, deadline, due, epoch = read(header.headers)
            context = run.context = Context(
                definition.name,
                header.message_id or new_job_id(),
                definition.queue.name,
                attempt,
                deadline,
                self._stopping,
                delivery.properties,
                epoch,
                self._tell,
            )
        except DecodeError as error:
            raise Refused(self.rejected(run, "undecodable", error, error)) from None
        if delivery.redelivered and self._settled.knows(delivery):
            raise Refused(Superseded())
        if deadline is not None and deadline < self._time():
            raise Refused(Expired(deadline))
        if run.asked is not None and self._taken_back(run):
            raise Refused(Cancelled())
        if due is not None and due > self._time() + LONGEST_HOLD:
            raise Refused(Snoozed(due))
        return definition, context

    def _resolve(self, run: Run, name: str | None) -> Definition:
        if name is None:
            definition = self._only_jobs.get(run.delivery.queue)
            problem = "the message names no job (AMQP property `type`), and the queue has several"
        else:
            definition = self._jobs.get(name)
            problem = f"no job of this name here: {name[:200]!r}"
        if definition is None:
            raise Refused(Parked(self._failure(run, "unknown-job", problem)))
        return definition

    def _call(self, run: Run, definition: Definition, context: Context) -> Awaitable[object]:
        """What to wait for; not a coroutine of its own, which would cost and only pass it on."""
        if run.quarantine is not None:
            return self._isolate(run, run.quarantine, definition, context)
        arguments = self._validate(run, definition)
        if self._bare and definition.kind == "async" and definition.timeout is None:
            result: Awaitable[object] = definition.invoke(context, arguments)  # the commonest job
            return result
        return self._process(definition, context, arguments, run.delivery.body)

    def _validate(self, run: Run, definition: Definition) -> Arguments:
        try:
            self._check(run)
            return definition.payload.load(run.delivery.body)
        except DecodeError as error:
            raise Refused(self.rejected(run, "invalid", error, error)) from None

    def _check(self, run: Run) -> None:
        header, body = run.delivery.header, run.delivery.body
        if header.content_type != JSON or header.content_encoding is not None:
            check_content(header.content_type, header.content_encoding)
        if len(body) > self._max_size:
            too_large(body, self._max_size)

    async def _isolate(
        self, run: Run, quarantine: "Quarantine", definition: Definition, context: Context
    ) -> object:
        """Middleware around it, as around every job; it is validated where it runs."""
        self._check(run)
        execute = lambda inner: quarantine.run(definition, inner, run.delivery.body)  # noqa: E731
        return await onion(self._processing, execute)(context)

    def _process(
        self, definition: Definition, context: Context, arguments: Arguments, body: bytes
    ) -> Awaitable[object]:
        run = self._execution.run
        execute = lambda inner: run(definition, inner, arguments, body)  # noqa: E731
        return onion(self._processing, execute)(context)

    async def _raised(self, run: Run, error: BaseException) -> Outcome:
        """The outcome of a run that has raised, whatever it is: `sys.exit`, a cancellation of its
        own, KeyboardInterrupt, and panics of extension modules too. Through the event loop they
        would end this worker, and the next one that is given the job; given back, it would be here
        again at once."""
        if run.interrupted or run.cancelled:
            # Libraries turn a cancellation into errors of their own.
            return _ended_early(run)
        if self._endings.is_from_outside(error):
            raise error
        if (lack := lack_behind(error)) is not None:
            return await self._no_room(run, lack)
        return self._failed(run, error) if run.quarantine is None else self._judged(run, error)

    async def _no_room(self, run: Run, lack: str) -> Outcome:
        """Given back, and no attempt used: but not at once."""
        try:
            await self._room.lacking(lack)
        except asyncio.CancelledError as error:
            if self._endings.is_from_outside(error):
                raise
        return Cancelled() if run.cancelled else Released(f"no room in this worker: {lack}")

    def _ruled(self, run: Run, verdict: Verdict) -> Outcome:
        match verdict:
            case RateLimited(seconds=seconds):
                return Snoozed(self._time() + seconds, rate_limited=seconds)
            case Snooze(seconds=seconds):
                return Snoozed(self._time() + seconds)
            case RetryAfter(seconds=seconds):
                failure = self._failure(run, "failed", f"retry after {seconds:g} s", verdict)
                if run.context is not None and self._policy(run).has_left(run.context.attempt):
                    return self._again(run, failure, seconds, verdict)
                return Rejected(failure, verdict)
            case Reject(reason=reason):
                return self.rejected(run, "rejected", reason)
            case _:
                return self._failed(run, verdict)

    def _judged(self, run: Run, error: BaseException) -> Outcome:
        """What an error in quarantine says of the job. What its handler raised is a failure like
        any other, and comes as a `RemoteError`."""
        if isinstance(error, JobProcessDied):
            words = f"{error}; it ran by itself, since a worker may have died of it"
            return self.rejected(run, "poison", words, error)
        if isinstance(error, DecodeError):
            return self.rejected(run, "invalid", error, error)
        return self._failed(run, error)

    def _failed(self, run: Run, error: BaseException, message: str | None = None) -> Outcome:
        """What the retry policy makes of an error."""
        reason = "poison" if isinstance(error, JobProcessDied) else "failed"
        if message is None and isinstance(error, asyncio.CancelledError):
            message = "the job cancelled itself"
        failure = self._failure(run, reason, message or error, error)
        context, policy = run.context, self._policy(run)
        if context is None or not policy.wants(error, context.attempt):
            return Rejected(failure, error)
        pause = policy.pause(context.attempt, random.random())  # noqa: S311 - not a secret
        return self._again(run, failure, pause, error)

    def failed_by_us(self, run: Run, error: BaseException) -> Outcome:
        """The outcome of a run that a bug of amqpjobs has ended: an attempt."""
        failure = self._failure(run, "failed", f"a bug in amqpjobs: {words_of(error)}", error)
        context, policy = run.context, self._policy(run)
        if context is None or not policy.has_left(context.attempt):
            return Rejected(failure, error)
        return Retried(failure, policy.bound(context.attempt), error)

    def _again(
        self, run: Run, failure: Failure, pause: float, error: BaseException
    ) -> Retried | Rejected:
        deadline = run.context.deadline if run.context else None
        if deadline is not None and self._time() + pause >= deadline:
            # Nobody would start it any more; as a dead letter it is seen, and can be replayed.
            return Rejected(failure, error)
        return Retried(failure, pause, error)

    def _policy(self, run: Run) -> Retry:
        definition = run.definition
        return definition.retry if definition and definition.retry is not None else self._retry

    def rejected(
        self, run: Run, reason: str, message: object, error: BaseException | None = None
    ) -> Rejected:
        """The outcome of a run that will never succeed, with what is known of it."""
        return Rejected(self._failure(run, reason, message, error), error)

    def _failure(
        self, run: Run, reason: str, message: object, error: BaseException | None = None
    ) -> Failure:
        return Failure(
            reason=reason,
            message=words_of(message),
            exception=exception_name(error) if error is not None else None,
            frames=innermost_frames(error) if error is not None else (),
            job=run.definition.name if run.definition else None,
            queue=run.delivery.queue,
            worker=WORKER,
            time=self._time(),
            attempt=run.context.attempt if run.context else None,
        )


def _ended_early(run: Run) -> Outcome:
    return Cancelled() if run.cancelled else Released("the worker was told to stop")
