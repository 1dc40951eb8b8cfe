"""One run of a durable job: what its handler asks of the context, remembered.

Changes when a step is carried out in another way; `amqpjobs.state.durable.rows` stores it.
"""

import asyncio
import inspect
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

from anyio import to_thread

from amqpjobs.errors import (
    ConfigurationError,
    JobFailed,
    SignalTimeout,
    StepChanged,
    StoreUnavailable,
)
from amqpjobs.jobs.durable.running import Given, StepInTransaction
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.message.family import LONGEST_NAME
from amqpjobs.jobs.run_context import RunContext, context_of_nobody
from amqpjobs.state.durable.blocked import is_blocked
from amqpjobs.state.durable.rows import Begun, Owner, load, put, put_cursor
from amqpjobs.state.durable.typed import Typed, fingerprint, typed_of
from amqpjobs.state.durable.values import (
    CALL,
    DONE,
    FAILED,
    SIGNAL,
    SLEEP,
    STEP,
    WAITING,
    Failed,
    Step,
)

if TYPE_CHECKING:
    from amqpjobs.state.durable.durables import Durables

log = logging.getLogger("amqpjobs.durable")

LOOK = 0.05
"""Seconds between two looks whether the handler does anything but wait."""

FIRST_LOOKS = 3
"""Looks that come at once: a handler that only waits is left within a millisecond."""

POLL = 1.0
"""Seconds between two looks into the store, while a handler waits and does something else, too."""

LONGEST_LIVE = 60.0
"""Seconds for which a handler may await what is not known here, such as a socket, while all else
that it does is waiting. Then it is left all the same, and starts anew when it is woken."""

STORE_TRIES = 5
"""Times that a step is written, when the store is away, before its job waits on its queue."""


class DurableRun:
    """The run of a durable job.

    Args:
        durables: of the worker.
        context: of the run.
        owner: which job.
        begun: what was found of it.
        task: in which its handler runs.

    Attributes:
        suspending: whether its handler is being left.
        superseded: whether a newer run of the job has begun.
        unstored: why the store could not be reached; None if it could.
        waits: the names of what it waits for, once it is left.
        maps: the names of the maps that have items to send.
    """

    def __init__(
        self,
        durables: "Durables",
        context: RunContext,
        owner: Owner,
        begun: Begun,
        task: "asyncio.Task[Any]",
    ) -> None:
        self.durables = durables
        self.context = context
        self.owner = owner
        self.token = begun.token
        self.known = begun.steps
        self._task = task
        self._next = max((step.n for step in self.known.values()), default=0) + 1
        self._asked: dict[str, str] = {}
        self._parked: dict[str, asyncio.Future[None]] = {}
        self._watching: asyncio.Task[None] | None = None
        self._cursors: dict[str, Step] = {}
        self.suspending = self.superseded = False
        self.unstored: StoreUnavailable | None = None
        self.waits: tuple[str, ...] = ()
        self.maps: set[str] = set()
        self._soon = asyncio.Event()
        self.failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<DurableRun {self.owner.job_id}: {len(self._asked)} steps asked>"

    # What handlers ask for.

    async def step(
        self, name: str, function: Callable[..., Any], given: Given, options: Mapping[str, Any]
    ) -> Any:
        """See `Steps.step`."""
        self.ask(name, STEP)
        args, kwargs = given
        mark, known = fingerprint(args, kwargs), self.known.get(name)
        typed = typed_of(f"the step {name!r}", function)
        if known is not None and known.state == DONE:
            if known.fingerprint == mark:
                return typed.load(known.result or b"null")
            self._changed(name, strict=options["strict"])
        attempts = 1 if known is None else known.attempts + (known.state == FAILED)
        undo = await self.durables.undo_of(options["undo"], self.owner, name)
        step = Step(name, STEP, self._number(known), DONE, mark, attempts=attempts, undo=undo)
        try:
            result = await self._called(function, args, kwargs)
        except Exception as error:
            await self._note_failure(step, error)
            raise
        step.result = typed.dump(result)
        await self.write(step)
        return typed.load(step.result)

    async def _called(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        call = partial(function, *args, **kwargs)
        result = await to_thread.run_sync(call, abandon_on_cancel=False)
        return await result if inspect.isawaitable(result) else result

    async def _note_failure(self, step: Step, error: Exception) -> None:
        """For people: what is done again at the next run needs no note."""
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        step.state, step.error, step.undo = FAILED, Failed(name, str(error)[:1000]), None
        try:
            await self.durables.groups.run(
                self.owner.job_id, put, self.owner, self.token, step, self.durables.now
            )
        except Exception as other:  # noqa: BLE001 - the handler gets its own error
            log.debug("failure of a step not noted", extra={"error": str(other)})

    def _changed(self, name: str, *, strict: bool) -> None:
        if strict:
            raise StepChanged(
                f"the step {name!r} was done with other arguments, and is strict: give it another "
                "name, or replay the job with --restart",
                step=name,
            )
        keys = {**self.context.log_keys(), "step": name}
        log.warning("step called again, its arguments changed", extra=keys)

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager[StepInTransaction]:
        """See `Steps.step_in`."""
        from amqpjobs.state.durable.within import step_in

        self.ask(name, STEP)
        return step_in(self, session, name)

    async def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Any:
        """See `Steps.call`."""
        from amqpjobs.state.durable.children import Child

        self.ask(name, CALL)
        child = Child.of(self, name, job, given)
        known = self.known.get(name)
        if known is None or known.state not in (DONE, WAITING, FAILED):
            undo = await self.durables.undo_of(options["undo"], self.owner, name)
            message = await child.prepared()
            step = Step(
                name, CALL, self._number(known), WAITING, child.fingerprint, awaited=True,
                child=message.job, child_id=message.job_id, undo=undo,
            )  # fmt: skip
            await self.write(step, message=message, wait=options["timeout"])
            self.durables.nudge()
        elif known.fingerprint != child.fingerprint:
            keys = {**self.context.log_keys(), "step": name}
            log.warning("call has other arguments, its first ones count", extra=keys)
        step = await self.result_of(name)
        if step.state == FAILED:
            raise self.failed(step)
        return child.load(step.result or b"null")

    async def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Any:
        """See `Steps.map`."""
        from amqpjobs.state.durable.mapping import run_map

        return await run_map(self, name, job, items, options)

    def each(self, name: str, items: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
        """See `Steps.each`."""
        from amqpjobs.state.durable.looping import loop_over

        return loop_over(self, name, items, options)

    async def sleep(self, name: str, seconds: float) -> None:
        """See `Steps.sleep`."""
        self.ask(name, SLEEP)
        if name not in self.known:
            step = Step(name, SLEEP, self._number(None), WAITING, awaited=True)
            await self.write(step, wait=seconds)
        await self.result_of(name)

    async def signal(self, name: str, kind: Any, timeout: float | None) -> Any:
        """See `Steps.signal`."""
        self.ask(name, SIGNAL)
        if name not in self.known:
            step = Step(name, SIGNAL, self._number(None), WAITING, awaited=True)
            await self.write(step, wait=timeout)
        step = await self.result_of(name)
        if step.state == FAILED:
            self.failure = SignalTimeout(f"the signal {name!r} did not come in time", name=name)
            raise self.failure
        return Typed(f"the signal {name!r}", kind).load(step.result or b"null")

    # What those have in common.

    def ask(self, name: str, kind: str) -> None:
        """A name is used in this run; once.

        Raises:
            ConfigurationError: it was used before, or is none.
            Suspend: the handler is being left.
        """
        if not isinstance(name, str) or not 0 < len(name) <= LONGEST_NAME or "\0" in name:
            raise ConfigurationError(
                f"the name of a step is a text of 1 to {LONGEST_NAME} characters, not {name!r}"
            )
        if self.suspending:
            raise Suspend(name)
        place = _caller()
        if (before := self._asked.get(name)) is not None:
            raise ConfigurationError(
                f"two steps of one run are called {name!r}: {before} and {place}. A step is known "
                'by its name: in a loop, number them, as f"page {n}"'
            )
        self._asked[name] = place
        known = self.known.get(name)
        if known is not None and known.kind != kind:
            raise ConfigurationError(
                f"{name!r} was a {known.kind} when this job ran before, and is a {kind} now: give "
                "it another name"
            )

    def _number(self, known: Step | None) -> int:
        if known is not None:
            return known.n
        self._next += 1
        return self._next - 1

    number = _number

    async def write(self, step: Step, **more: Any) -> None:
        """Store a step. A store that is away is waited for a little; then the job waits on its
        queue, and no attempt is used.

        Raises:
            Suspend: nothing more is to be done here.
        """
        for attempt in range(1, STORE_TRIES + 1):
            try:
                written = await self.durables.groups.run(
                    self.owner.job_id, put, self.owner, self.token, step, self.durables.now, **more
                )
            except StoreUnavailable as error:
                if attempt == STORE_TRIES:
                    self.unstored = error
                    self.leave()
                    raise Suspend(step.name) from None
                await asyncio.sleep(attempt)
                continue
            if written:
                self.known[step.name] = step
                return
            break
        found = await self._loaded([step.name])
        if step.state == WAITING and step.name in found:
            self.known[step.name] = found[step.name]
            return
        self.supersede()

    def supersede(self) -> NoReturn:
        """A newer run of the job has begun: this one changes nothing more.

        Raises:
            Suspend: always.
        """
        self.superseded = True
        self.leave()
        raise Suspend("superseded")

    async def _loaded(self, names: list[str]) -> dict[str, Step]:
        return await self.durables.groups.run(self.owner.job_id, load, self.owner, names)

    async def result_of(self, name: str) -> Step:
        """Wait until a step has ended.

        Raises:
            Suspend: all that the handler does is wait, so it is left.
        """
        while (step := self.known[name]).state == WAITING:
            if self.suspending:
                raise Suspend(name)
            future = self._parked[name] = asyncio.get_running_loop().create_future()
            if self._watching is None or self._watching.done():
                self._watching = asyncio.get_running_loop().create_task(
                    self._watch(), context=context_of_nobody()
                )
            try:
                await future
            finally:
                self._parked.pop(name, None)
        return step

    def failed(self, step: Step) -> JobFailed:
        """The error of a call that has failed: the same in every run, so that the job need not be
        tried again for it."""
        error = step.error or Failed("failed", "it failed")
        self.failure = JobFailed(
            error.message, error=error.error, job=error.job or step.child or step.name,
            attempt=error.attempt, job_id=error.job_id or step.child_id,
        )  # fmt: skip
        return self.failure

    async def _watch(self) -> None:
        """Leave the handler when all that it does is wait; until then, see what has ended."""
        looks = 0
        polled = begun = time.monotonic()
        while self._parked and not self.suspending:
            await asyncio.sleep(0 if looks < FIRST_LOOKS else LOOK)
            looks += 1
            if is_blocked(self._task, set(self._parked.values())):
                if self._soon.is_set() or looks > FIRST_LOOKS + 1:
                    await self._poll()  # what has ended by now need not wake it
                    if not is_blocked(self._task, set(self._parked.values())):
                        begun = time.monotonic()
                        continue
                self.leave()
                return
            if time.monotonic() - begun > LONGEST_LIVE:
                keys = {**self.context.log_keys(), "seconds": LONGEST_LIVE}
                log.warning("durable job left while it awaits something else", extra=keys)
                self.leave()
                return
            if self._soon.is_set() or time.monotonic() - polled > POLL:
                polled = time.monotonic()
                if await self._poll():
                    begun = polled

    def look_soon(self) -> None:
        """Something that it waits for has ended."""
        self._soon.set()

    async def _poll(self) -> bool:
        self._soon.clear()
        try:
            found = await self._loaded(list(self._parked))
        except StoreUnavailable:
            return False
        for name, step in found.items():
            self.known[name] = step
            if (future := self._parked.get(name)) is not None and not future.done():
                future.set_result(None)
        return bool(found)

    def leave(self) -> None:
        """Leave the handler: everything that waits in it raises `Suspend`."""
        self.suspending = True
        self.waits = tuple(self._parked)
        for name, future in self._parked.items():
            if not future.done():
                future.set_exception(Suspend(name))

    # Loops.

    def move(self, step: Step) -> None:
        """A loop has come so far; it is stored by `flush`."""
        self._cursors[step.name] = step
        self.known[step.name] = step

    async def flush(self, name: str | None = None) -> None:
        """Store how far loops have come.

        Raises:
            StoreUnavailable: the store is away.
        """
        for step in list(self._cursors.values()):
            if name is not None and step.name != name:
                continue
            written = await self.durables.groups.run(
                self.owner.job_id, put_cursor, self.owner, self.token, step, self.durables.now
            )
            self._cursors.pop(step.name, None)
            if not written:
                self.superseded = True

    async def close(self) -> None:
        """The handler has ended."""
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.wait((self._watching,))


def _caller() -> str:
    """Where the handler is: the innermost frame outside of amqpjobs."""
    frame = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("amqpjobs."):
        if frame.f_back is None:
            break
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
