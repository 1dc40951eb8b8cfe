"""Collects the jobs of batches, and runs their handlers. Each job keeps a run of its own, which is
validated, answered, settled and reported by itself.

Changes when a batch is collected or run differently.
"""

import asyncio
import time
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeAlias

from amqpjobs.errors import BatchFailed, InvalidResult, JobTimeout, NoRoom
from amqpjobs.jobs.batch import LONGEST_EACH, Rows, errors_of, results_of
from amqpjobs.jobs.clock import Clock, Timer
from amqpjobs.jobs.context import Stopping
from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.message.ids import new_job_id
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.outcome import Expired, Outcome, Released
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.refusal import Refused
from amqpjobs.jobs.run_context import RunContext, current_context
from amqpjobs.jobs.verdicts import Reject, Verdict
from amqpjobs.worker.run import Run

if TYPE_CHECKING:
    from amqpjobs.worker.execution.handlers import Execution
    from amqpjobs.worker.intake import Intake

GIVES_UP = 3
"""So many jobs of a batch that has failed, run one by one, fail at first until the rest is not
tried: what all of them need is down."""

Ended: TypeAlias = tuple[object, BaseException | None, TracebackType | None]
"""What a job has returned; or what it has raised, and from where."""


class _Member:
    """One job of a batch, and what becomes of it."""

    __slots__ = ("arguments", "context", "ended", "run")

    def __init__(
        self, run: Run, context: RunContext, arguments: Arguments, ended: "asyncio.Future[Ended]"
    ) -> None:
        self.run = run
        self.context = context
        self.arguments = arguments
        self.ended: asyncio.Future[Ended] | None = ended

    @property
    def row(self) -> Any:
        args, kwargs = self.arguments
        return args[0] if args else next(iter(kwargs.values()))

    def end(self, result: object = None, error: BaseException | None = None) -> None:
        """It is over, if it was not cancelled meanwhile. An error is no error of the future: it
        would be logged where nobody waits any more."""
        if self.ended is not None and not self.ended.done():
            # The same error may be that of many jobs: each time that it is raised its traceback
            # grows, so this is kept of it.
            traceback = None if error is None else error.__traceback__
            self.ended.set_result((result, error, traceback))

    @property
    def over(self) -> bool:
        """Whether it has ended, or was cancelled."""
        return self.ended is None or self.ended.done()

    async def result(self) -> object:
        """Wait for its end. It is not kept: the traceback of an error leads back to here, and what
        its frames hold would be there until the garbage collector runs."""
        assert self.ended is not None  # noqa: S101 - waited for once
        result, error, traceback = await self.ended
        self.ended = None
        if error is None:
            return result
        try:
            raise error.with_traceback(traceback)
        finally:
            del error, traceback


class _Gathering:
    """One batch, from its first job to its end.

    Attributes:
        timer: of its collecting.
        task: in which it runs; None until then.
        context: what its handler is given.
        given_up: nobody waits for any of its jobs; it was cancelled.
        over: set when its task has ended, or is waited for no more.
    """

    def __init__(self, definition: Definition) -> None:
        self.definition = definition
        self.members: list[_Member] = []
        self.timer: Timer | None = None
        self.task: asyncio.Task[None] | None = None
        self.context: RunContext | None = None
        self.given_up = False
        self.over = asyncio.Event()

    async def abandon(self) -> None:
        """Cancel it, and wait until its handler has cleaned up, or may take no longer for it."""
        if self.task is not None and not self.over.is_set():
            self.given_up = True
            self.task.cancel()
            await self.over.wait()


class Batches:
    """The batches of one worker.

    A job that waits for its batch lends its slot to others. A batch takes one slot, whatever its
    size, when it starts; that goes before all that waits.

    Args:
        execution: runs handlers.
        intake: has the slots.
        clock: by which they are collected.
        stopping: set when the worker is told to stop.
    """

    def __init__(
        self, execution: "Execution", intake: "Intake", clock: Clock, stopping: Stopping
    ) -> None:
        self._execution = execution
        self._intake = intake
        self._clock = clock
        self._stopping = stopping
        self._loop = asyncio.get_running_loop()
        self._open: dict[str, _Gathering] = {}  # by the name of the job
        self._waiting: dict[_Gathering, None] = {}  # those, and the full ones without a slot
        self._running: dict[asyncio.Task[None], _Gathering] = {}
        self._flushed = self._closed = False

    def __repr__(self) -> str:
        return f"<Batches: {len(self.collected)} jobs collected, {len(self._running)} running>"

    @property
    def collected(self) -> list[Run]:
        """The runs whose batch has not started."""
        return [member.run for each in self._waiting for member in each.members]

    def context_of(self, task: "asyncio.Task[Any]") -> RunContext | None:
        """The context of the batch that runs in a task. Called from another thread, too."""
        found = self._running.get(task)
        return None if found is None else found.context

    def ends(self, context: RunContext, error: BaseException) -> "asyncio.Task[None] | None":
        """End a batch whose handler does not end, with this error, and free its slot. Returns the
        handler's task; None if no batch has this context."""
        for task, gathering in self._running.items():
            if gathering.context is context:
                del self._running[task]
                for member in gathering.members:
                    member.end(error=error)
                gathering.over.set()
                self._intake.finished()
                return task
        return None

    async def join(
        self, run: Run, definition: Definition, context: RunContext, arguments: Arguments
    ) -> object:
        """Run a job with others, and return its result, or raise its error.

        Raises:
            Refused: it was not started.
        """
        batch = definition.batch
        if self._closed:
            raise Refused(_unstarted())
        again = batch is not None and batch.on_failure == "each" and context.attempt > 1
        if self._flushed or again:
            # It failed by itself, or its whole batch did, and must not take others along again. Or
            # there is nothing more to collect.
            body = run.delivery.body
            return await self._execution.run(definition, context, arguments, body)
        member = _Member(run, context, arguments, self._loop.create_future())
        gathering = self._add(member, definition)
        self._intake.lend()
        try:
            return await member.result()
        except asyncio.CancelledError:
            await self._leave(gathering, member)
            raise
        finally:
            self._intake.reclaim()

    def flush(self) -> None:
        """Run what is collected at once, and what still comes by itself: a worker that is recycled
        has started these jobs, and one that runs few would never run a batch otherwise."""
        self._flushed = True
        self._open.clear()
        for gathering in tuple(self._waiting):
            if gathering.timer is not None:
                gathering.timer.cancel()
            self._intake.reclaim()  # its slot, whether one is free or not
            for member in gathering.members:
                member.run.started = time.monotonic()  # its timeout counts from now
            self._start(gathering)

    def release(self) -> None:
        """Give back what has not started, and take no more."""
        self._closed = True
        for gathering in self._waiting:
            if gathering.timer is not None:
                gathering.timer.cancel()
            for member in gathering.members:
                member.end(error=Refused(_unstarted()))
        self._open.clear()
        self._waiting.clear()

    def _add(self, member: _Member, definition: Definition) -> _Gathering:
        batch = definition.batch
        assert batch is not None  # noqa: S101 - `join` has looked
        gathering = self._open.get(definition.name)
        if gathering is None:
            gathering = self._open[definition.name] = _Gathering(definition)
            self._waiting[gathering] = None
            gathering.timer = self._clock.call_later(batch.seconds, self._full, gathering)
        gathering.members.append(member)
        if len(gathering.members) >= batch.size:
            self._full(gathering)
        return gathering

    def _full(self, gathering: _Gathering) -> None:
        """It has all its jobs, or its time is over: it starts when there is a slot."""
        if gathering.timer is not None:
            gathering.timer.cancel()
        if self._open.get(gathering.definition.name) is gathering:
            del self._open[gathering.definition.name]
            self._intake.claim(lambda: self._start(gathering))

    def _start(self, gathering: _Gathering) -> None:
        self._waiting.pop(gathering, None)
        home = self._execution.home.copy()
        task = self._loop.create_task(self._run(gathering), context=home)
        gathering.task = task
        self._running[task] = gathering
        task.add_done_callback(self._over)

    def _over(self, task: "asyncio.Task[None]") -> None:
        """Give the slot back; a thread cannot be in it, since handlers are on the event loop."""
        gathering = self._running.pop(task, None)
        if gathering is None:
            return  # it was ended before
        for member in gathering.members:  # of a task that was cancelled before its first step
            member.end(error=Refused(_unstarted()))
        gathering.over.set()
        self._intake.finished()

    async def _leave(self, gathering: _Gathering, member: _Member) -> None:
        """A job was cancelled: by its caller, or with all others, since the worker stops."""
        if gathering.task is None:
            gathering.members.remove(member)
            return
        if member.run.interrupted or all(each.over for each in gathering.members):
            await gathering.abandon()

    async def _run(self, gathering: _Gathering) -> None:
        members = [each for each in gathering.members if self._may_start(each)]
        if not members:
            return
        definition, now = gathering.definition, time.monotonic()
        for member in members:
            member.run.started = member.run.begun = now
        context = gathering.context = _context_of(definition, members, self._stopping)
        rows = Rows(member.row for member in members)
        current_context.set(context)
        try:
            result = await self._execution.run(definition, context, ((rows,), {}), b"")
            results = results_of(result, len(members))
        except BatchFailed as failed:
            _end_some(members, failed)
        except BaseException as error:  # noqa: BLE001 - what a handler raises is its jobs' outcome
            await self._failed(gathering, members, error)
        else:
            for member, each in zip(members, results, strict=True):
                member.end(each)

    def _may_start(self, member: _Member) -> bool:
        """Whether it still waits, and for a delivery that is still ours."""
        outcome: Outcome | None = None
        deadline = member.context.deadline
        if member.run.delivery.stale:
            outcome = Released("its channel was lost before its batch started")
        elif deadline is not None and deadline < self._clock.time():
            outcome = Expired(deadline)
        if outcome is not None:
            member.end(error=Refused(outcome))
        return not member.over

    async def _failed(
        self, gathering: _Gathering, members: list[_Member], error: BaseException
    ) -> None:
        batch = gathering.definition.batch
        one_by_one = batch is not None and batch.on_failure == "each" and len(members) > 1
        if not gathering.given_up and one_by_one and _is_of_one(error):
            error = await self._each(gathering, members, error)
        for member in members:
            member.end(error=error)

    async def _each(
        self, gathering: _Gathering, members: list[_Member], error: BaseException
    ) -> BaseException:
        """Run them one by one; returns the error of those that are left."""
        failed, succeeded, end = 0, False, time.monotonic() + LONGEST_EACH
        for member in members:
            hopeless = failed >= GIVES_UP and not succeeded
            if gathering.given_up or hopeless or time.monotonic() > end:
                break
            if member.over:
                continue
            current_context.set(member.context)
            gathering.context, body = member.context, member.run.delivery.body
            member.run.started = time.monotonic()
            try:
                member.end(
                    await self._execution.run(
                        gathering.definition, member.context, member.arguments, body
                    )
                )
            except BaseException as own:  # noqa: BLE001 - as in `_run`
                member.end(error=own)
                failed += 1
            else:
                succeeded = True
        return error


def prefetch_for(jobs: Iterable[Definition], queue: Queue, wanted: int) -> int:
    """How many deliveries a worker holds of a queue: those of the batch that runs, and of the one
    that is collected meanwhile."""
    sizes = [job.batch.size for job in jobs if job.batch and job.queue.name == queue.name]
    return max([wanted, *(2 * size for size in sizes)])


def _end_some(members: list[_Member], failed: BatchFailed) -> None:
    try:
        errors = errors_of(failed, len(members))
        results = results_of(failed.results, len(members))
    except InvalidResult as error:
        for member in members:
            member.end(error=error)
        return
    for place, (member, result) in enumerate(zip(members, results, strict=True)):
        own = errors.get(place)
        member.end(result if own is None else None, own)


def _is_of_one(error: BaseException) -> bool:
    """Whether one job may be the reason, so that the others are worth another try."""
    if isinstance(error, Verdict):
        return isinstance(error, Reject)
    return isinstance(error, Exception) and not isinstance(
        error, JobTimeout | NoRoom | InvalidResult
    )


def _context_of(definition: Definition, members: list[_Member], stopping: Stopping) -> RunContext:
    """What the handler is given as its context: the batch has an id of its own."""
    attempt = max(member.context.attempt for member in members)
    queue = definition.queue.name
    return RunContext(definition.name, new_job_id(), queue, attempt, None, stopping, Properties)


def _unstarted() -> Outcome:
    return Released("not started before the worker stopped")
