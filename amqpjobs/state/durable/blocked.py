"""Finds out whether the handler of a durable job only waits for its steps, and where to suspend it.

It follows what each task of the handler awaits: `asyncio.gather`, task groups, `asyncio.wait`,
`asyncio.shield` and awaited tasks. Anything unknown, such as a socket, counts as work. Changes when
there is another way to wait for tasks.
"""

import asyncio
from collections.abc import Iterable, Iterator, Set
from enum import IntEnum
from typing import Any, TypeAlias

GROUPS = {
    "asyncio.taskgroups": "_tasks",
    "anyio._backends._asyncio": "_tasks",
}
"""Modules of task groups, and where those have their tasks."""

WAITS = {"_wait": "fs", "wait_for": "fut"}
"""Functions of `asyncio.tasks` that wait for tasks, and their variables with these."""

FIRST = (asyncio.FIRST_COMPLETED, asyncio.FIRST_EXCEPTION)
"""Ways of `asyncio.wait` in which it need not wait for all."""

BETWEEN = frozenset({"asyncio.locks", "asyncio.queues"})
"""Modules whose waits end when another task says so: one of the handler, or any other."""

Future: TypeAlias = "asyncio.Future[Any]"
Futures: TypeAlias = "Set[asyncio.Future[Any]]"


class Doing(IntEnum):
    """What a handler does.

    Attributes:
        WORK: it continues by itself.
        PASS: nothing is known to go on, but it waits for an event, a lock, a queue.
        WAIT: it only waits for something outside of this process.
    """

    WORK = 0
    PASS = 1
    WAIT = 2


def doing(task: Future, parked: Futures) -> Doing:
    """What a task does, with all tasks that it waits for.

    Args:
        task: of the handler.
        parked: what ends only when something outside of this process does.
    """
    return _doing(task, parked, set())


def _doing(task: Future, parked: Futures, seen: set[int]) -> Doing:
    if task in parked:
        return Doing.WORK if task.done() else Doing.WAIT
    if task.done():
        return Doing.WORK  # the task that awaits it runs in a moment
    if id(task) in seen:
        return Doing.WAIT
    seen.add(id(task))
    children = _children(task)
    if children is None:
        return Doing.PASS if _passes(task) else Doing.WORK
    live = [each for each in children if not each.done()]
    return min((_doing(each, parked, seen) for each in live), default=Doing.WORK)


def tasks_behind(task: Future) -> "Set[asyncio.Task[Any]]":
    """The tasks that a task waits for, however many are in between."""
    found: set[asyncio.Task[Any]] = set()
    seen: set[int] = set()
    left = [task]
    while left:
        future = left.pop()
        if future.done() or id(future) in seen:
            continue
        seen.add(id(future))
        children = _children(future) or []
        left += children
        found.update(each for each in children if isinstance(each, asyncio.Task))
    return found


def goes_on_at_first(task: Future) -> bool:
    """Whether a task continues as soon as the first of several has ended, by `asyncio.wait`."""
    for each in (task, *tasks_behind(task)):
        frame = _innermost(each) if isinstance(each, asyncio.Task) and not each.done() else None
        if frame is not None and _is_wait(frame) and frame.f_locals.get("return_when") in FIRST:
            return True
    return False


def where_to_leave(task: Future) -> Iterator[Future]:
    """The futures by whose exception a task is left at once: what it waits for itself. In a task
    group these are those of its tasks, so that the group ends as it does for any error.

    An exception of the tasks behind `asyncio.gather` or `asyncio.wait` would not do: the handler
    may be given it as one of the results.
    """
    if not isinstance(task, asyncio.Task):
        yield task
        return
    waiter: Any = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return
    frame = _innermost(task)
    if frame is not None and frame.f_globals.get("__name__") in GROUPS:
        for child in _of_frame(frame) or ():
            if not child.done():
                yield from where_to_leave(child)
    elif isinstance(waiter, asyncio.Task):
        yield from where_to_leave(waiter)
    elif _passes(task) or _is_wait(frame) or _children(waiter) is not None:
        yield waiter


def _children(task: Future) -> list[Future] | None:
    """What a future waits for; None if that is not known."""
    if not isinstance(task, asyncio.Task):
        gathered = getattr(task, "_children", None)  # of `asyncio.gather`
        return _shielded(task) if gathered is None else list(gathered)
    waiter: Any = getattr(task, "_fut_waiter", None)
    if waiter is None or waiter.done():
        return None  # it is about to go on
    frame = _innermost(task)
    if frame is not None:
        if (found := _of_frame(frame)) is not None:
            return found
        if frame.f_globals.get("__name__") in BETWEEN:
            return None
    return [waiter]


def _shielded(future: Future) -> list[Future] | None:
    """What `asyncio.shield` has behind a future."""
    for callback, _ in getattr(future, "_callbacks", None) or ():
        if getattr(callback, "__qualname__", "") == "shield.<locals>._outer_done_callback":
            cells = zip(callback.__code__.co_freevars, callback.__closure__ or (), strict=False)
            inner = {name: cell.cell_contents for name, cell in cells}.get("inner")
            return None if inner is None else [inner]
    return None


def _passes(task: Future) -> bool:
    """Whether a task waits for what another one is to do."""
    if not isinstance(task, asyncio.Task):
        return False
    waiter: Any = getattr(task, "_fut_waiter", None)
    frame = _innermost(task)
    waits = waiter is not None and not waiter.done() and frame is not None
    return waits and frame.f_globals.get("__name__") in BETWEEN


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


def _is_wait(frame: Any) -> bool:
    return (
        frame is not None
        and frame.f_globals.get("__name__") == "asyncio.tasks"
        and frame.f_code.co_name in WAITS
    )


def _of_frame(frame: Any) -> list[Future] | None:
    module, function = frame.f_globals.get("__name__"), frame.f_code.co_name
    if module in GROUPS:
        tasks: Iterable[Any] | None = getattr(frame.f_locals.get("self"), GROUPS[module], None)
        return None if tasks is None else list(tasks)
    if _is_wait(frame):
        found = frame.f_locals.get(WAITS[function])
        return [found] if isinstance(found, asyncio.Future) else list(found or ())
    return None
