"""What carries out what the handler of a durable job asks of its context.

In a worker that is `amqpjobs.state.durable`; a plain call does all at once. Changes when a handler
may ask for something else.
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
    """The run of a durable job: what the methods of a context of the same names do.

    Attributes:
        suspending: whether its handler is being left, and goes on later.
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
    """A step whose mark is written by a transaction of the handler's.

    Attributes:
        open: whether it is to be done now; False if a transaction that was kept has done it.
        result: what it leaves for later runs, as JSON can hold it; set it while the step is open.
    """

    def __init__(self, open: bool = True, result: Any = None) -> None:  # noqa: A002 - as DESIGN has it
        self.open = open
        self.result = result

    def __repr__(self) -> str:
        return f"<StepInTransaction: {'open' if self.open else 'done'}>"


class Plainly:
    """A plain call: everything is done here, now, and nothing is remembered.

    Attributes:
        suspending: never.
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
        """It is to be done."""
        yield StepInTransaction()

    async def call(self, name: str, job: Any, given: Given, options: Mapping[str, Any]) -> Any:
        """Call the job plainly, too."""
        if not callable(job):
            raise ConfigurationError(
                f"a plain call has no worker, and runs no message: ctx.call({name!r}, job, ...)"
            )
        args, kwargs = given
        result = job(*args, **kwargs)
        return await result if inspect.isawaitable(result) else result

    async def map(self, name: str, job: Any, items: Any, options: Mapping[str, Any]) -> Any:
        """Call the job for one item after the other."""
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
        """All of them."""
        async for item in each_of(items(None) if callable(items) else items):
            yield item

    async def sleep(self, name: str, seconds: float) -> None:
        """Sleep."""
        await asyncio.sleep(seconds)

    async def signal(self, name: str, kind: Any, timeout: float | None) -> Any:
        """Nobody can send it one."""
        raise ConfigurationError(
            f"a plain call has no id that a signal {name!r} could be sent to: enqueue the job, or "
            "test it with app.testing()"
        )


PLAINLY = Plainly()


async def each_of(items: Any) -> AsyncIterator[Any]:
    """What is in an iterable, asynchronous or not."""
    if hasattr(items, "__aiter__"):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
