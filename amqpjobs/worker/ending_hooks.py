"""Calls the hooks of an app when a job has ended: after its settlement, beside the other jobs.

Changes when another end has hooks, or what happens to those that take long does.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextlib import AsyncExitStack
from contextvars import Context as Variables
from inspect import isawaitable
from typing import TYPE_CHECKING

from anyio import CapacityLimiter, to_thread

from amqpjobs.errors import DecodeError
from amqpjobs.jobs.ending import Ended, EndingHook, EndingHooks, Hooked
from amqpjobs.jobs.handlers import is_async
from amqpjobs.jobs.message.compression import SHOWN
from amqpjobs.jobs.message.content import received
from amqpjobs.jobs.message.event_codec import WORKER
from amqpjobs.jobs.message.failure import Failure
from amqpjobs.jobs.outcome import Answered, Done, Expired, Outcome, Rejected, Retried

if TYPE_CHECKING:
    from amqpjobs.worker.intake import Intake
    from amqpjobs.worker.run import Run

log = logging.getLogger("amqpjobs.worker")

MOST = 1_000
"""Ends whose hooks were not done yet; with more, no job starts. What they hold is in memory."""

BEHIND = "hooks are behind"

UNREAD = frozenset({"invalid", "undecodable"})
"""Reasons of failures whose arguments are known not to fit."""


def hook_calls_of(
    hooks: EndingHooks,
    home: Variables,
    intake: "Intake",
    threads: int,
    stack: AsyncExitStack,
) -> "HookCalls | None":
    """What calls the hooks of an app, closed with the stack; None for an app without any."""
    if not hooks:
        return None
    calls = HookCalls(hooks, home, intake, threads)
    stack.push_async_callback(calls.close)
    return calls


class HookCalls:
    """An observer of the worker that calls hooks. It has a task for each end that has a hook.

    Args:
        hooks: of the app.
        home: the context that hooks run in: no job's, with the resources of the app.
        intake: is paused while hooks are behind.
        threads: how many plain functions run at once.
        most: ends that may wait for their hooks.
    """

    def __init__(
        self,
        hooks: EndingHooks,
        home: Variables,
        intake: "Intake",
        threads: int,
        most: int = MOST,
    ) -> None:
        self._hooks = hooks
        self._home = home
        self._intake = intake
        self._loop = asyncio.get_running_loop()
        self._threads = CapacityLimiter(threads)
        self._most = most
        self._behind = False
        self._tasks: set[asyncio.Task[None]] = set()

    def __repr__(self) -> str:
        return f"<HookCalls: {len(self._tasks)} under way>"

    @property
    def idle(self) -> bool:
        """Whether all hooks that were called are done."""
        return not self._tasks

    def ended(self, run: "Run", outcome: Outcome) -> None:
        """A job has ended, and is settled."""
        hooks = self._for(outcome)
        if not hooks:
            return
        job = _name_of(run)
        chosen = [each.function for each in hooks if each.jobs is None or job in each.jobs()]
        if not chosen:
            return
        calling = self._call(chosen, job, run, outcome)
        task = self._loop.create_task(calling, name="amqpjobs hook", context=self._home.copy())
        self._tasks.add(task)
        task.add_done_callback(self._done)
        if len(self._tasks) >= self._most and not self._behind:
            self._behind = True
            self._intake.pause(BEHIND)
            log.warning("hooks are behind", extra={"waiting": len(self._tasks)})

    def _for(self, outcome: Outcome) -> Sequence[Hooked]:
        match outcome:
            case Done():
                return self._hooks.succeeded
            case Retried():
                return self._hooks.retried
            case Rejected() | Answered() | Expired():
                return self._hooks.failed
            case _:
                return ()

    def _done(self, task: "asyncio.Task[None]") -> None:
        self._tasks.discard(task)
        if self._behind and len(self._tasks) <= self._most // 2:
            self._behind = False
            self._intake.resume(BEHIND)

    async def _call(
        self, functions: list[EndingHook], job: str, run: "Run", outcome: Outcome
    ) -> None:
        ended = ended_by(job, run, outcome)
        for function in functions:
            try:
                await self._call_one(function, ended)
            except BaseException as error:
                task = asyncio.current_task()
                if isinstance(error, asyncio.CancelledError) and task and task.cancelling():
                    raise
                keys = {"job": ended.job, "job_id": ended.id, "outcome": ended.outcome}
                name = getattr(function, "__qualname__", repr(function))
                log.exception("hook failed", extra={**keys, "hook": name})

    async def _call_one(self, function: EndingHook, ended: Ended) -> None:
        if is_async(function):
            result = function(ended)
        else:
            result = await to_thread.run_sync(
                function, ended, abandon_on_cancel=True, limiter=self._threads
            )
        if isawaitable(result):
            await result

    async def finish(self, until: float) -> None:
        """Let hooks end, and cancel those that have not by then.

        Args:
            until: by the event loop's clock.
        """
        if not self._tasks:
            return
        left = max(0.0, until - self._loop.time())
        _, late = await asyncio.wait(tuple(self._tasks), timeout=left)
        if late:
            log.warning("hooks cancelled, worker is stopping", extra={"hooks": len(late)})
        await self.close()

    async def close(self) -> None:
        """Cancel what is left."""
        left = tuple(self._tasks)
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=0.1)


def ended_by(job: str, run: "Run", outcome: Outcome) -> Ended:
    """What hooks get."""
    context = run.context
    failure = outcome.failure
    if isinstance(outcome, Expired):
        failure = Failure(
            "expired", "its deadline passed before it was started", job=job,
            queue=run.delivery.queue, worker=WORKER, attempt=context.attempt if context else None,
        )  # fmt: skip
    return Ended(
        job=job,
        id=context.job_id if context is not None else _id_of(run),
        queue=run.delivery.queue,
        attempt=context.attempt if context is not None else 1,
        outcome=outcome.word,
        failure=failure,
        arguments=_arguments_of(run, outcome),
        result=outcome.result if isinstance(outcome, Done) else None,
        error=outcome.error,
    )


def _arguments_of(run: "Run", outcome: Outcome) -> dict[str, object] | None:
    # In quarantine its own process validates them: that may be what ends a process.
    if run.definition is None or run.quarantine is not None or outcome.word in UNREAD:
        return None
    payload, delivery = run.definition.payload, run.delivery
    try:
        body = received(run.definition.body, delivery.header, delivery.body, SHOWN)
        return payload.by_name(payload.load(body))
    except BaseException:  # noqa: BLE001 - validators are the user's, and one may call `sys.exit`
        return None


def _name_of(run: "Run") -> str:
    if run.definition is not None:
        return run.definition.name
    try:
        return (run.delivery.header.type or "")[:255]
    except DecodeError:
        return ""


def _id_of(run: "Run") -> str:
    try:
        return (run.delivery.header.message_id or "")[:255]
    except DecodeError:
        return ""
