"""One run of a durable job without a store. Its message carries its steps.

Changes when a step is executed or suspended in another way than with a store.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any, NoReturn

from amqpjobs.errors import ConfigurationError, InvalidResult, StepChanged
from amqpjobs.jobs.durable.asked import Asked, arguments_changed
from amqpjobs.jobs.durable.calling import called
from amqpjobs.jobs.durable.running import Given, StepInTransaction
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.durable.unstored import fix, refusal
from amqpjobs.jobs.message.steps import LARGEST_STEPS, MARK, CarriedStep, size_of
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.state.durable.looping import loop_over
from amqpjobs.state.durable.typed import fingerprint, typed_of
from amqpjobs.state.durable.values import DONE, EACH, STEP, WAITING, Step


class CarriedRun:
    """The run of a durable job without a store.

    Args:
        context: of the run.
        steps: that the message carries.

    Attributes:
        context: of the run.
        known: its steps, by their names.
        changed: whether they differ from the steps in the message.
        suspending: whether the run is being suspended.
        failure: an error that ends the job for good, since each run would raise it.
        waits: always empty: the job is sent again at once.
    """

    def __init__(self, context: RunContext, steps: list[CarriedStep]) -> None:
        self.context = context
        self.known = {step.name: _stored(step, n) for n, step in enumerate(steps, 1)}
        self._sizes = {step.name: size_of(step) for step in steps}
        self._asked = Asked()
        self._busy: set[asyncio.Future[None]] = set()
        self.changed = self.suspending = False
        self.failure: Exception | None = None
        self.waits: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<CarriedRun {self.context.job_id}: {len(self.known)} steps>"

    @property
    def carried(self) -> list[CarriedStep]:
        """The steps that copies of the message carry."""
        return [_carried(step) for step in sorted(self.known.values(), key=lambda step: step.n)]

    async def step(
        self, name: str, function: Callable[..., Any], given: Given, options: Mapping[str, Any]
    ) -> Any:
        """See `Steps.step`."""
        if options["undo"] is not None:
            self._refuse("undo= of ctx.step")
        self.ask(name, STEP)
        args, kwargs = given
        mark, known = fingerprint(args, kwargs)[:MARK], self.known.get(name)
        typed = typed_of(f"the step {name!r}", function)
        if known is not None and known.state == DONE:
            if known.fingerprint == mark:
                return typed.load(known.result or b"null")
            self._changed(name, strict=options["strict"])
        self._leave_if_told(name)
        busy: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._busy.add(busy)
        try:
            data = typed.dump(await called(function, args, kwargs))
            self.move(Step(name, STEP, self.number(known), DONE, mark, data))
        finally:
            self._busy.discard(busy)
            busy.set_result(None)
        return typed.load(data)

    def _changed(self, name: str, *, strict: bool) -> None:
        try:
            arguments_changed(self.context.log_keys(), name, strict=strict)
        except StepChanged as error:
            self.failure = error
            raise

    def _leave_if_told(self, name: str) -> None:
        """Begin no more steps when the worker stops. A copy carries the steps that are done. Each
        run does at least one step, since the worker may stop right after the start of the run."""
        if self.context.stopping.is_set() and self.changed:
            self.leave()
            raise Suspend(name)

    def each(self, name: str, items: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
        """See `Steps.each`."""
        return loop_over(self, name, items, options)

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager[StepInTransaction]:
        """It needs the store."""
        self._refuse("ctx.step_in")

    async def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Any:
        """It needs the store."""
        self._refuse("ctx.call")

    async def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Any:
        """It needs the store."""
        self._refuse("ctx.map")

    async def sleep(self, name: str, seconds: float) -> None:
        """It needs the store."""
        self._refuse("ctx.sleep")

    async def signal(self, name: str, kind: Any, timeout: float | None) -> Any:
        """It needs the store."""
        self._refuse("ctx.signal")

    def _refuse(self, what: str) -> NoReturn:
        self.failure = refusal(what)
        raise self.failure

    # What loops ask for, too.

    def ask(self, name: str, kind: str) -> None:
        """A name is used in this run; once.

        Raises:
            ConfigurationError: it was used before, or is none.
            Suspend: the handler is being left.
        """
        try:
            self._asked.check(name)
            if self.suspending:
                raise Suspend(name)
            known = self.known.get(name)
            self._asked.use(name, kind, None if known is None else known.kind)
        except ConfigurationError as error:
            self.failure = error
            raise

    def number(self, known: Step | None) -> int:
        """Of a step that begins."""
        return len(self.known) + 1 if known is None else known.n

    def move(self, step: Step) -> None:
        """A step is done, or a loop has come so far.

        Raises:
            InvalidResult: the message cannot carry that.
        """
        carried = _carried(step)
        sizes = self._sizes | {step.name: size_of(carried)}
        if (size := sum(sizes.values())) > LARGEST_STEPS:
            self.failure = InvalidResult(
                f"the steps of this job take {size} bytes with {step.name!r}, and without a store "
                f"its message carries at most {LARGEST_STEPS}: return less, such as the location "
                f"of a result, or {fix()}"
            )
            raise self.failure
        self._sizes, self.known[step.name], self.changed = sizes, step, True

    async def flush(self, name: str | None = None) -> None:
        """Nothing is stored before the run has ended."""

    def leave(self) -> None:
        """Suspend the handler. It runs again in a later run."""
        self.suspending = True

    async def calm(self) -> None:
        """Wait for the steps that still run, so that the copy carries their results, too."""
        while self._busy:
            await asyncio.wait(list(self._busy))


def _stored(step: CarriedStep, n: int) -> Step:
    result = None if step.result is None else step.result.encode()
    state = WAITING if result is None else DONE
    kind = EACH if step.kind == "each" else STEP
    return Step(step.name, kind, n, state, step.mark, result, cursor=step.cursor)


def _carried(step: Step) -> CarriedStep:
    done = step.state == DONE and step.result is not None
    return CarriedStep(
        step.name, "each" if step.kind == EACH else "step", step.fingerprint or "",
        step.result.decode() if done and step.result is not None else None,
        None if done else step.cursor,
    )  # fmt: skip
