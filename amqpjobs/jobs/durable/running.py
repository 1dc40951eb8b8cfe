"""The protocol of a run of a durable job, and the run of a plain call.

In a worker `amqpjobs.state.durable` implements the protocol. A plain call executes each step at
once. Changes when a handler may use another kind of step.
"""

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Protocol

from amqpjobs.errors import ConfigurationError

Given = tuple[tuple[Any, ...], dict[str, Any]]
"""Positional and keyword arguments."""


class Running(Protocol):
    """The run of a durable job. A context's methods call the methods of the same names.

    Attributes:
        suspending: whether the run is being suspended: the handler is left, and runs again later.
    """

    suspending: bool

    def step(
        self, name: str, function: Callable[..., Any], given: Given, options: Mapping[str, Any]
    ) -> Awaitable[Any]:
        """See `Steps.step`."""
        ...

    def step_in(self, session: Any, name: str) -> AbstractAsyncContextManager["StepInTransaction"]:
        """See `Steps.step_in`."""
        ...

    def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Awaitable[Any]:
        """See `Steps.call`."""
        ...

    def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Awaitable[Any]:
        """See `Steps.map`."""
        ...

    def each(self, name: str, items: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
        """See `Steps.each`."""
        ...

    def sleep(self, name: str, seconds: float) -> Awaitable[None]:
        """See `Steps.sleep`."""
        ...

    def signal(self, name: str, kind: Any, timeout: float | None) -> Awaitable[Any]:
        """See `Steps.signal`."""
        ...


class StepInTransaction:
    """A step whose mark is written by the handler's own transaction.

    Attributes:
        open: whether the step is to be done now; False if a committed transaction has done it.
        result: a value for later runs, such as JSON can hold; set it while the step is open.
    """

    def __init__(self, open: bool = True, result: Any = None) -> None:  # noqa: A002 - as DESIGN has it
        self.open = open
        self.result = result

    def __repr__(self) -> str:
        return f"<StepInTransaction: {'open' if self.open else 'done'}>"


class Plainly:
    """The run of a plain call: each step is executed here at once, and nothing is stored.

    Attributes:
        suspending: always False.
    """

    suspending = False

    async def step(
        self, name: str, function: Callable[..., Any], given: Given, options: Mapping[str, Any]
    ) -> Any:
        """Call it."""
        args, kwargs = given
        if inspect.iscoroutinefunction(function):
            return await function(*args, **kwargs)
        from anyio import to_thread  # here: most programs have no durable jobs

        call = partial(function, *args, **kwargs)
        result = await to_thread.run_sync(call)
        return await result if inspect.isawaitable(result) else result

    @asynccontextmanager
    async def step_in(self, session: Any, name: str) -> AsyncIterator[StepInTransaction]:
        """A step that is always open."""
        yield StepInTransaction()

    async def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Any:
        """Call the job plainly, in this process."""
        if not callable(job):
            raise ConfigurationError(
                f"a plain call cannot run a message: pass the job, ctx.call({name!r}, job, ...)"
            )
        args, kwargs = given
        result = job(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Any:
        """Call the job for each item, one after the other."""
        results = []
        async for item in each_of(items):
            result = job(item)
            results.append(await result if inspect.isawaitable(result) else result)
        reduce = options.get("reduce")
        if reduce is None:
            return results
        reduced = reduce(results)
        return await reduced if inspect.isawaitable(reduced) else reduced

    async def each(self, name: str, items: Any, options: Mapping[str, Any]) -> AsyncIterator[Any]:
        """Yield all items."""
        async for item in each_of(items(None) if callable(items) else items):
            yield item

    async def sleep(self, name: str, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def signal(self, name: str, kind: Any, timeout: float | None) -> Any:
        """Fail: a plain call cannot receive a signal."""
        raise ConfigurationError(
            f"a plain call has no id, so it cannot receive the signal {name!r}: enqueue the job, "
            "or test it with app.testing()"
        )


PLAINLY = Plainly()


async def each_of(items: Any) -> AsyncIterator[Any]:
    """Yield the items of an iterable or an async iterable."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
