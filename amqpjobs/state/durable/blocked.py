"""Whether the handler of a durable job does anything but wait for what will wake it.

It looks at what each of its tasks waits for, through `asyncio.gather`, task groups, `asyncio.wait`
and awaited tasks. What it does not know, such as a socket, counts as something that goes on.
Changes when there is another way to wait for tasks.
"""

import asyncio
from collections.abc import Iterable, Set
from typing import Any

GROUPS = {
    "asyncio.taskgroups": "_tasks",
    "anyio._backends._asyncio": "_tasks",
}
"""Modules of task groups, and where those have their tasks."""

WAITS = {"_wait": "fs", "wait_for": "fut"}
"""Functions of `asyncio.tasks` that wait for tasks, and their variables with these."""


def is_blocked(task: "asyncio.Future[Any]", parked: "Set[asyncio.Future[Any]]") -> bool:
    """Whether all that a task waits for is among these futures, however many tasks are in between.

    Args:
        task: of the handler.
        parked: what ends only when something outside of this process does.
    """
    return _blocked(task, parked, set())


def _blocked(
    task: "asyncio.Future[Any]", parked: "Set[asyncio.Future[Any]]", seen: "set[int]"
) -> bool:
    if task in parked:
        return not task.done()
    if task.done():
        return False  # who waits for it goes on in a moment
    if id(task) in seen:
        return True
    seen.add(id(task))
    children = _children(task)
    if children is None:
        return False
    live = [each for each in children if not each.done()]
    return bool(live) and all(_blocked(each, parked, seen) for each in live)


def _children(task: "asyncio.Future[Any]") -> "list[asyncio.Future[Any]] | None":
    """What a future waits for; None if that is not known."""
    if not isinstance(task, asyncio.Task):
        gathered = getattr(task, "_children", None)  # of `asyncio.gather`
        return None if gathered is None else list(gathered)
    waiter: Any = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return None  # it is about to go on
    frame = _innermost(task)
    if frame is not None and (found := _of_frame(frame)) is not None:
        return found
    return [waiter]


def _innermost(task: "asyncio.Task[Any]") -> Any:
    """The frame in which a task waits."""
    coroutine: Any = task.get_coro()
    frame = None
    while coroutine is not None:
        frame = _frame_of(coroutine) or frame
        coroutine = _awaited(coroutine)
    return frame


def _frame_of(coroutine: Any) -> Any:
    for name in ("cr_frame", "gi_frame", "ag_frame"):
        if (frame := getattr(coroutine, name, None)) is not None:
            return frame
    return None


def _awaited(coroutine: Any) -> Any:
    for name in ("cr_await", "gi_yieldfrom", "ag_await"):
        if (inner := getattr(coroutine, name, None)) is not None:
            return inner
    return None


def _of_frame(frame: Any) -> "list[asyncio.Future[Any]] | None":
    module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
    if module in GROUPS:
        tasks: Iterable[Any] | None = getattr(frame.f_locals.get("self"), GROUPS[module], None)
        return None if tasks is None else list(tasks)
    if module == "asyncio.tasks" and function in WAITS:
        found = frame.f_locals.get(WAITS[function])
        return [found] if isinstance(found, asyncio.Future) else list(found or ())
    return None
