"""A Python prompt with top-level `await`, for machines without IPython. Changes when it does."""

import ast
import asyncio
import builtins
import code
import inspect
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from types import CodeType, CoroutineType, FunctionType
from typing import Any

PROMPT_FILE = "<console>"
"""What tracebacks call the lines that were typed."""


class Prompt(code.InteractiveConsole):
    """Reads, runs and shows. What a line awaits runs on one event loop for the whole session.

    The loop has a thread of its own: it goes on while a person thinks, and RabbitMQ, which wants a
    heartbeat, keeps the connection. A coroutine that was not awaited is named, since it has done
    nothing: ``job.later(5)`` without ``await`` sends nothing.

    Args:
        names: what the prompt knows.
        close: awaited at the end, on the same loop.
    """

    def __init__(self, names: dict[str, Any], close: Callable[[], Awaitable[None]]) -> None:
        own = {"__name__": "__console__", "__builtins__": builtins}
        super().__init__({**names, **own}, PROMPT_FILE)
        self.compile.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
        self._close = close
        self._loop = asyncio.new_event_loop()
        self._named: set[int] = set()

    def run(self) -> None:
        """Until Ctrl-D, or ``exit()``."""
        hooks = sys.displayhook, sys.excepthook
        # typer's excepthook would show the frames of this module with each syntax error.
        sys.displayhook, sys.excepthook = self._show, sys.__excepthook__
        try:
            with self._loop_running():
                self.interact(banner="", exitmsg="")
        finally:
            sys.displayhook, sys.excepthook = hooks

    @contextmanager
    def _loop_running(self) -> Iterator[None]:
        thread = threading.Thread(target=self._loop.run_forever, name="amqpjobs shell", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._result_of(self._end())
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()

    async def _end(self) -> None:
        await self._close()
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)

    def _result_of(self, coroutine: Coroutine[Any, Any, object]) -> None:
        """Wait for a coroutine on the loop; Ctrl-C cancels it."""

        async def run() -> SystemExit | None:
            try:
                await coroutine
            except SystemExit as end:  # it would end the loop, and not the prompt
                return end
            return None

        future = asyncio.run_coroutine_threadsafe(run(), self._loop)
        try:
            end = future.result()
        except KeyboardInterrupt:
            future.cancel()
            raise
        if end is not None:
            raise end

    def runcode(self, code: CodeType) -> None:
        """See `code.InteractiveInterpreter`."""
        try:
            result = FunctionType(code, self.locals)()
            if inspect.iscoroutine(result):
                self._result_of(result)
        except SystemExit:
            raise
        except BaseException as error:  # noqa: BLE001 - shown to the person at the prompt
            self.write("".join(traceback.format_exception(_from_the_prompt(error))))
        self._name_what_waits()

    def _show(self, value: object) -> None:
        if not inspect.iscoroutine(value):
            sys.__displayhook__(value)
            return
        self.write(f"not run: {_call_of(value)} returned a coroutine; put `await` before it\n")
        value.close()  # it cannot be reached any more, and Python would warn at another line

    def _name_what_waits(self) -> None:
        """Say which names hold coroutines since this line. They stay: `asyncio.gather` may be what
        they are for."""
        waiting = {
            name: value
            for name, value in self.locals.items()
            if inspect.iscoroutine(value)
            and inspect.getcoroutinestate(value) == inspect.CORO_CREATED
        }
        for name, value in waiting.items():
            if id(value) not in self._named:
                self.write(
                    f"{name!r} is a coroutine that has not run: `await {name}`, or put `await` "
                    f"before {_call_of(value)}\n"
                )
        self._named = {id(value) for value in waiting.values()}


def _call_of(coroutine: "CoroutineType[Any, Any, Any]") -> str:
    """What made it; a qualified name may go on with a hint, behind a space."""
    return f"{coroutine.__qualname__.partition(' ')[0]}()"


def _from_the_prompt(error: BaseException) -> BaseException:
    """The error without the frames that run the prompt itself."""
    place = error.__traceback__
    while place is not None and place.tb_frame.f_code.co_filename != PROMPT_FILE:
        place = place.tb_next
    return error.with_traceback(place)  # none of Ctrl-C while a line waits
