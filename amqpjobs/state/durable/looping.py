"""Loops that resume at their cursor: `ctx.each`.

Changes when a loop is suspended or resumed in another way.
"""

import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from typing import Any, Protocol

from pydantic_core import from_json

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.durable.running import each_of
from amqpjobs.jobs.durable.suspension import Suspend
from amqpjobs.jobs.run_context import RunContext
from amqpjobs.state.durable.typed import NO_HINT, Typed
from amqpjobs.state.durable.values import DONE, EACH, WAITING, Step

OFTEN = 0.2
"""Seconds after which the cursor is stored, behind the next item."""

MANY = 100
"""Items after which it is, whatever the time."""

LONGEST_CURSOR = 4096
"""Characters of a cursor, as JSON."""


class LoopingRun(Protocol):
    """The run of a durable job, as far as its loops know it.

    Attributes:
        context: of the run.
        known: its steps, by their names.
        suspending: whether its handler is being left.
        waits: the names of what it waits for, once it is left.
    """

    context: RunContext
    known: dict[str, Step]
    suspending: bool
    waits: tuple[str, ...]

    def ask(self, name: str, kind: str) -> None:
        """A name is used in this run; once."""
        ...

    def number(self, known: Step | None) -> int:
        """Of a step that begins."""
        ...

    def move(self, step: Step) -> None:
        """A loop has come so far."""
        ...

    async def flush(self, name: str | None = None) -> None:
        """Store how far loops have come."""
        ...

    def leave(self) -> None:
        """Leave the handler."""
        ...


async def loop_over(
    run: LoopingRun, name: str, items: Any, options: Mapping[str, Any]
) -> AsyncIterator[Any]:
    """See `Steps.each`."""
    run.ask(name, EACH)
    known = run.known.get(name)
    if known is not None and known.state == DONE:
        return
    step = known or Step(name, EACH, run.number(None), WAITING)
    loop = _Loop(run, step, options)
    async for item in loop.left(items):
        loop.before()
        yield item
        await loop.after(item)
    run.move(replace(loop.step, state=DONE, result=b"null"))
    await run.flush(name)


class _Loop:
    """One loop in one run.

    Attributes:
        step: how far it has come.
    """

    def __init__(self, run: LoopingRun, step: Step, options: Mapping[str, Any]) -> None:
        self._run = run
        self.step = step
        self._cursor = cursor_of(options["cursor"])
        self._typed = Typed(f"the cursor of {step.name!r}", NO_HINT)
        self._end = time.monotonic() + options["slice"]
        self._stored = time.monotonic()
        self._passed = 0
        self._number = 0
        self._moved = False

    async def left(self, items: Any) -> AsyncIterator[Any]:
        """The items that were not done."""
        last = None if self.step.cursor is None else from_json(self.step.cursor)
        if callable(items) and not hasattr(items, "__aiter__"):
            async for item in each_of(items(last)):
                yield item
            return
        passing = last is not None
        async for item in each_of(items):
            if self._cursor is None:
                self._number += 1
                if last is not None and self._number <= last:
                    continue
            elif passing:
                passing = self._plain(self._cursor(item)) != last
                continue
            yield item
        if passing and self._cursor is not None:
            raise ConfigurationError(
                f"ctx.each({self.step.name!r}): no item has the cursor {last!r} of the last run: "
                "the item was removed. Pass a function that takes the cursor and returns the items "
                "after it"
            )

    def _plain(self, cursor: Any) -> Any:
        return from_json(self._typed.dump(cursor))

    def before(self) -> None:
        """Suspend the job between two items if the worker stops or the slice is over. Each run does
        at least one item, since the worker may stop right after the start of the run.

        Raises:
            Suspend: the job resumes in another worker, or later.
        """
        run = self._run
        over = run.context.stopping.is_set() or time.monotonic() > self._end
        if run.suspending or (over and self._moved):
            if not run.suspending:
                run.leave()
                run.waits = ()  # it resumes at the next item, whatever else it waits for
            raise Suspend(self.step.name)

    async def after(self, item: Any) -> None:
        """An item is done."""
        self._moved = True
        cursor = self._number if self._cursor is None else self._cursor(item)
        text = self._typed.dump(cursor, LONGEST_CURSOR).decode()
        self.step = replace(self.step, cursor=text)
        self._run.move(self.step)
        self._passed += 1
        if self._passed >= MANY or time.monotonic() - self._stored > OFTEN:
            self._passed, self._stored = 0, time.monotonic()
            await self._run.flush(self.step.name)


def cursor_of(given: Any) -> Callable[[Any], Any] | None:
    """What finds the cursor of an item; None for its number.

    Raises:
        ConfigurationError: what cannot find one.
    """
    if given is None:
        return None
    # SQLAlchemy's attributes, slots and properties of a class, fields of an attrs class.
    name = given if isinstance(given, str) else getattr(given, "key", None)
    if name is None and hasattr(given, "__get__") and not callable(given):
        name = getattr(given, "__name__", None) or getattr(
            getattr(given, "fget", None), "__name__", None
        )
    if isinstance(name, str):
        found = name
        return lambda item: getattr(item, found)
    if callable(given):
        function: Callable[[Any], Any] = given
        return function
    raise ConfigurationError(
        'cursor= must be the name of an attribute, such as "id", the attribute of the class, or a '
        f"function of the item, not {given!r}"
    )
