"""The app of the tests of a handler's ways out: each job leaves in the way that it is told. Every
way is an attempt, and the policy says two."""

import asyncio
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, NoReturn

import anyio

from amqpjobs import App, Context, Queue, Retry
from tests.faults.jobs import note

ATTEMPTS = 2

app = App("exits", retry=Retry(attempts=ATTEMPTS, first=0.2, jitter=False, on=BaseException))
work = Queue("work")


class Odd(Exception):
    """Cannot be made from its own arguments, and cannot say what it is."""

    def __init__(self, *, code: int) -> None:
        super().__init__("odd", code)

    def __str__(self) -> str:
        raise KeyboardInterrupt

    __repr__ = __str__


class Fatal(BaseException):
    """As the panics of extension modules are."""


RAISED: dict[str, Callable[[], BaseException]] = {
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "GeneratorExit": GeneratorExit,
    "CancelledError": asyncio.CancelledError,
    "StopIteration": StopIteration,
    "StopAsyncIteration": StopAsyncIteration,
    "MemoryError": MemoryError,
    "odd": lambda: Odd(code=1),
    "fatal": Fatal,
    "group": lambda: ExceptionGroup("several", [ValueError("one"), Odd(code=2)]),
    "worse group": lambda: BaseExceptionGroup("several", [KeyboardInterrupt(), Fatal()]),
}
"""By name: what is raised."""


def made(how: str) -> BaseException:
    return RAISED[how]()


def own_task() -> "asyncio.Task[Any]":
    task = asyncio.current_task()
    assert task is not None
    return task


async def cancels_itself() -> None:
    own_task().cancel()
    await asyncio.sleep(0)


async def cancels_itself_last() -> NoReturn:
    """The cancellation comes when the handler is over."""
    own_task().cancel()
    raise ValueError("cancelled, too")


async def swallows_its_cancellation() -> NoReturn:
    for _ in range(3):
        own_task().cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.sleep(0)
    raise ValueError("cancelled three times")


async def leaves_a_timer() -> NoReturn:
    """That cancels the task while what came of it is settled."""
    loop = asyncio.get_running_loop()
    for turns in range(20):
        loop.call_later(turns / 1000, own_task().cancel)
    raise ValueError("a timer is left")


async def leaves_a_scope() -> NoReturn:
    scope = anyio.CancelScope()
    scope.__enter__()
    scope.cancel()
    raise ValueError("a cancel scope is left")


async def awaits_what_is_cancelled() -> None:
    other = asyncio.ensure_future(asyncio.sleep(60))
    other.cancel()
    await other


ASYNC: dict[str, Callable[[], Any]] = {
    "cancels itself": cancels_itself,
    "cancels itself last": cancels_itself_last,
    "swallows": swallows_its_cancellation,
    "leaves a timer": leaves_a_timer,
    "leaves a scope": leaves_a_scope,
    "awaits what is cancelled": awaits_what_is_cancelled,
}
"""By name: what only an ``async def`` can do."""


def forks() -> NoReturn:
    """The child ends by itself, and the parent fails."""
    if not (pid := os.fork()):
        os._exit(0)
    os.waitpid(pid, 0)
    raise ValueError("forked")


def leaves_a_grandchild() -> NoReturn:
    """Which outlives the child, and has everything open that it has inherited."""
    program = "import os, time\nif not os.fork(): time.sleep(5)"
    subprocess.run([sys.executable, "-c", program], check=True)
    raise ValueError("a grandchild is left")


def leaves_a_thread() -> NoReturn:
    threading.Thread(target=time.sleep, args=(3,), daemon=True).start()
    raise ValueError("a thread is left")


PLAIN: dict[str, Callable[[], Any]] = {
    "forks": forks,
    "leaves a grandchild": leaves_a_grandchild,
    "leaves a thread": leaves_a_thread,
}
"""By name: what a plain ``def`` does."""


@app.job(queue=work)
async def leave(ctx: Context, how: str) -> None:
    note(ctx, time.time(), how)
    if how in RAISED:
        raise made(how)
    await ASYNC[how]()


@app.job(queue=work)
def leave_thread(ctx: Context, how: str) -> None:
    note(ctx, time.time(), how)
    if how in RAISED:
        raise made(how)
    PLAIN[how]()


@app.job(queue=work, cpu=True)
def leave_process(ctx: Context, how: str) -> None:
    note(ctx, time.time(), how)
    if how in RAISED:
        raise made(how)
    PLAIN[how]()


@app.job(queue=work, timeout=0.8)
def outlive(ctx: Context, seconds: float) -> None:
    note(ctx, time.time(), "outlives")
    time.sleep(seconds)


@app.job(queue=work)
async def innocent(ctx: Context, number: int) -> None:
    note(ctx, time.time(), str(number))


@app.job(queue=work)
def innocent_thread(ctx: Context, number: int, seconds: float = 0.0) -> None:
    start = time.time()
    time.sleep(seconds)
    note(ctx, start, str(number))
