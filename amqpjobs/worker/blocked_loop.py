"""Names the handler that blocks the event loop, while it does: a thread that watches the loop.

A blocked loop sends no heartbeat, starts nothing and acks nothing, and cannot say so itself.
Changes when there is more to say about it.
"""

import asyncio
import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any

from amqpjobs.jobs.run_context import RunContext, current_context

log = logging.getLogger("amqpjobs.worker")

INTERVAL = 0.25
"""Seconds between two marks of the loop, and two looks of the thread; a quarter of a threshold
that is below a second."""

FRAMES = 20
"""How many of the innermost stack frames are shown."""


class Pulse:
    """Decides by the marks of the loop whether it is blocked. Pure: the clocks are passed in.

    Args:
        threshold: seconds without a mark that mean it is.
        interval: seconds between two looks.
    """

    def __init__(self, threshold: float, interval: float) -> None:
        self._threshold = threshold
        self._interval = interval
        self._mark = 0.0
        self._looked = self._used = float("inf")
        self._excused = 0.0
        self._blocked = False

    def look(self, mark: float, now: float, used: float) -> tuple[bool, float] | None:
        """Look at the last mark.

        A process that was stopped (SIGSTOP, a laptop's lid) stood still altogether: what this look
        comes too late is no fault of the loop, unless the process was at work meanwhile, as in a
        call that does not let any other thread run.

        Args:
            mark: when the loop made it.
            now: the same clock.
            used: seconds of processor time of this process.

        Returns:
            None if there is nothing new; else whether it is blocked now, and for how many seconds
            it is, or was.
        """
        late = now - self._looked - self._interval
        still = max(0.0, late - max(0.0, used - self._used))
        self._looked, self._used = now, used
        if mark != self._mark:
            lasted = mark - self._mark - self._excused
            was_blocked, self._blocked = self._blocked, False
            self._mark, self._excused = mark, 0.0
            if was_blocked:
                return False, lasted
        # The loop may have made its mark after the process went on: then nothing is to be excused.
        self._excused = min(self._excused + still, now - mark)
        lasting = now - mark - self._excused
        if self._blocked or lasting < self._threshold:
            return None
        self._blocked = True
        return True, lasting


class BlockedLoop:
    """Watches the event loop that it is run on.

    Args:
        threshold: seconds; 0 for not at all.
        job_of: finds the job that a task was made for.
    """

    def __init__(
        self, threshold: float, job_of: Callable[["asyncio.Task[Any]"], RunContext | None]
    ) -> None:
        self._interval = min(INTERVAL, threshold / 4)
        self._pulse = Pulse(threshold, self._interval)
        self._threshold = threshold
        self._job_of = job_of
        self._mark = 0.0
        self._ended = threading.Event()
        self._keys: dict[str, object] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        if not self._threshold:
            return
        self._mark = time.monotonic()
        watcher = threading.Thread(
            target=self._watch,
            args=(asyncio.get_running_loop(), threading.get_ident()),
            name="amqpjobs blocked loop",
            daemon=True,
        )
        watcher.start()
        try:
            while True:
                self._mark = time.monotonic()
                await asyncio.sleep(self._interval)
        finally:
            self._ended.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread: int) -> None:
        while True:
            found = self._pulse.look(self._mark, time.monotonic(), time.process_time())
            if self._ended.wait(self._interval):
                return
            if found is None:
                continue
            blocked, seconds = found
            if blocked:
                self._keys = self._found(loop)
                stack = stack_of(sys._current_frames().get(thread))
                log.warning(
                    "the event loop is blocked",
                    extra={**self._keys, "blocked_s": round(seconds, 1), "stack": stack},
                )
            else:
                log.warning(
                    "the event loop runs again",
                    extra={**self._keys, "blocked_s": round(seconds, 1)},
                )

    def _found(self, loop: asyncio.AbstractEventLoop) -> dict[str, object]:
        """What is known of the job: it may be a callback of nobody's, too."""
        task = asyncio.current_task(loop)
        context = None if task is None else self._job_of(task) or _inherited(task)
        return {} if context is None else {"job": context.job, "job_id": context.job_id}


def _inherited(task: "asyncio.Task[Any]") -> RunContext | None:
    """The job of a task that a handler has made; Python 3.11 does not tell."""
    get_context = getattr(task, "get_context", None)
    return get_context().get(current_context) if get_context is not None else None


def stack_of(frame: FrameType | None) -> list[str]:
    """The innermost frames, innermost first: places in the code, no values."""
    if frame is None:
        return []
    summary = traceback.StackSummary.extract(traceback.walk_stack(frame), limit=FRAMES)
    return [f"{f.filename}:{f.lineno} {f.name}" for f in summary]
