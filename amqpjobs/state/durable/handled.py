"""Implements the context methods of a durable job in a worker.

Changes when a step is executed in another way.
"""

import logging
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

from pydantic import PydanticUserError

from amqpjobs.errors import ConfigurationError, InvalidResult, SignalTimeout, StepChanged
from amqpjobs.jobs.durable.asked import arguments_changed
from amqpjobs.jobs.durable.calling import called
from amqpjobs.jobs.durable.running import Given, StepInTransaction
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.state.durable.children import Child, undo_of
from amqpjobs.state.durable.looping import loop_over
from amqpjobs.state.durable.mapping import run_map
from amqpjobs.state.durable.rows import put
from amqpjobs.state.durable.run import DurableRun
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
from amqpjobs.state.durable.within import step_in

log = logging.getLogger("amqpjobs.durable")


class HandledRun(DurableRun):
    """A run, with all that its handler may ask for."""

    async def step(
        self, name: str, function: Callable[..., Any], given: Given, options: Mapping[str, Any]
    ) -> Any:
        """See `Steps.step`."""
        self.ask(name, STEP)
        self._check_function(name, function)
        args, kwargs = given
        mark, known = fingerprint(args, kwargs), self.known.get(name)
        typed = typed_of(f"the step {name!r}", function)
        if known is not None and known.state == DONE:
            if known.fingerprint == mark:
                return typed.load(known.result or b"null")
            self._changed(name, strict=options["strict"])
        attempts = 1 if known is None else known.attempts + (known.state == FAILED)
        undo = await undo_of(self.shared.client, options["undo"], self.owner, name)
        step = Step(name, STEP, self._number(known), DONE, mark, attempts=attempts, undo=undo)
        with self.busy(name):
            try:
                result = await called(function, args, kwargs)
            except Exception as error:
                await self._note_failure(step, error)
                raise
            step.result = self._dumped(typed, result)
            await self.write(step)
        return typed.load(step.result)

    def _check_function(self, name: str, function: object) -> None:
        if not callable(function):
            words = f"ctx.step({name!r}) calls a function, not {function!r}"
            problem = ConfigurationError(words)
            self.remember(problem)
            raise problem

    def _dumped(self, typed: Typed, result: Any) -> bytes:
        try:
            return typed.dump(result)
        except InvalidResult as error:
            self.remember(error)  # each run would raise the same error
            raise

    async def _note_failure(self, step: Step, error: Exception) -> None:
        """For people: what is done again at the next run needs no note."""
        name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
        step.state, step.error, step.undo = FAILED, Failed(name, str(error)[:1000]), None
        try:
            await self.shared.groups.run(
                self.owner.job_id, put, self.owner, self.token, step, self.shared.now
            )
        except Exception as other:  # noqa: BLE001 - the handler gets its own error
            log.debug("failure of a step not noted", extra={"error": str(other)})

    def _changed(self, name: str, *, strict: bool) -> None:
        try:
            arguments_changed(self.context.log_keys(), name, strict=strict)
        except StepChanged as error:
            self.remember(error)
            raise

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager[StepInTransaction]:
        """See `Steps.step_in`."""
        self.ask(name, STEP)
        return step_in(self, session, name)

    async def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Any:
        """See `Steps.call`."""
        self.ask(name, CALL)
        async with self.calling:  # thousands at once would block the event loop
            child = Child.of(self, name, job, given)
            known = self.known.get(name)
            if known is None or known.state not in (DONE, WAITING, FAILED):
                if self.suspending:
                    raise Suspend(name)
                await self._call(child, known, options)
            elif known.fingerprint != child.fingerprint:
                keys = {**self.context.log_keys(), "step": name}
                log.warning("call has other arguments, its first ones count", extra=keys)
        step = await self.result_of(name)
        if step.state == FAILED:
            raise self.failed(step)
        result = step.result or b"null"
        return result if options.get("as_json") else child.load(result)

    async def _call(self, child: Child, known: Step | None, options: Mapping[str, Any]) -> None:
        undo = await undo_of(self.shared.client, options["undo"], self.owner, child.name)
        message = await child.prepared()
        step = Step(
            child.name, CALL, self._number(known), WAITING, child.fingerprint, awaited=True,
            child=message.job, child_id=message.job_id, undo=undo,
        )  # fmt: skip
        await self.write(step, message=message, wait=options["timeout"])

    async def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Any:
        """See `Steps.map`."""
        return await run_map(self, name, job, items, options)

    def each(self, name: str, items: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
        """See `Steps.each`. A slice is half of the consumer timeout at most, where that is set."""
        timeout = self.shared.client.runtime.settings.consumer_timeout
        if timeout is not None:
            options = {**options, "slice": min(options["slice"], timeout / 2)}
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
        typed = self._typed(f"the signal {name!r}", kind)  # what is no type never comes
        if name not in self.known:
            step = Step(name, SIGNAL, self._number(None), WAITING, awaited=True)
            await self.write(step, wait=timeout)
        step = await self.result_of(name)
        if step.state == FAILED:
            failure = SignalTimeout(f"the signal {name!r} did not come in time")
            self.remember(failure)
            raise failure
        try:
            return typed.load(step.result or b"null")
        except InvalidResult as error:
            self.remember(error)
            raise

    def _typed(self, what: str, kind: Any) -> Typed:
        try:
            return Typed(what, kind)
        except (PydanticUserError, TypeError) as error:
            first = str(error).splitlines()[0]
            problem = ConfigurationError(f"{what} cannot be validated into {kind!r}: {first}")
            self.remember(problem)
            raise problem from None
