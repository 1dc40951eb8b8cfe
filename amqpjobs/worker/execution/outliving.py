"""Threads that outlive their jobs. Nothing can end a thread; each keeps its slot until it ends.

Changes when what is said of them does.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context

from amqpjobs.jobs.definition import Definition
from amqpjobs.jobs.message.arguments import Arguments
from amqpjobs.jobs.run_context import RunContext

log = logging.getLogger("amqpjobs.worker")

LOST_FOR = 60.0
"""Seconds for which half of the slots have to be taken by such threads until the worker is
recycled: some end a little after their job."""

NAMED = 3
"""Threads that are named in the state of a worker."""


class ThreadCall:
    """A handler's call in a thread, and how far it is.

    Attributes:
        begun: whether its thread has come to it.
        dropped: nobody waits for it any more; a handler that has not begun does not.
        ended: whether the handler is over.
        since: when its job was over and it was not, by the monotonic clock.
        free: gives the slot back.
        on_end: called in its thread when the handler is over, if its job was over before.
        error: what the handler has raised; None if its job was over before. It is no error of the
            call: the future that anyio makes for it, and the frames that it would be raised
            through, hold each other, and what the handler had in its variables would be there until
            the garbage collector runs.
    """

    def __init__(self, definition: Definition, context: RunContext, arguments: Arguments) -> None:
        self._definition = definition
        self.context = context
        self._arguments = arguments
        self.begun = self.dropped = self.ended = False
        self.since = 0.0
        self.free: Callable[[], object] | None = None
        self.on_end: Callable[[], object] | None = None
        self.error: BaseException | None = None

    def __call__(self) -> object:
        """Run the handler. It returns None if that raises."""
        self.begun = True
        if self.dropped:
            self._end()
            return None
        try:
            result: object = self._definition.invoke(self.context, self._arguments)
            return result
        except BaseException as error:  # noqa: BLE001 - raised by `raise_error`
            self.error = error
            return None
        finally:
            self._end()

    def raise_error(self) -> None:
        """Raise what the handler has raised, if anything, and keep it no longer.

        GeneratorExit too: raised from a future, it would close the coroutines that wait, not be
        thrown into them, and only the outermost would see it.
        """
        error, self.error = self.error, None
        if error is not None:
            try:
                raise error
            finally:
                del error

    def _end(self) -> None:
        self.ended = True
        if self.dropped:
            self.error = None
        if self.on_end is not None:
            self.on_end()


class Outliving:
    """The threads whose jobs are over and that still run.

    Attributes:
        calls: by the context of the job; empty nearly always.
        recycle: ends the worker for another to take its place, and is told why. Called when half of
            the slots are lost for long, or one that is dear.
        is_dear: whether a thread of this job holds more than its slot.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self.calls: dict[RunContext, ThreadCall] = {}
        self.recycle: Callable[[str], object] = lambda reason: None
        self.is_dear: Callable[[RunContext], bool] = lambda context: False
        self._end: asyncio.TimerHandle | None = None
        self._home = copy_context()  # of no job, for what is logged of the worker

    def add(self, call: ThreadCall) -> None:
        """A job is over, and its thread is not."""
        call.since = time.monotonic()
        self.calls[call.context] = call
        if self._end is None and self._half_lost:
            self._end = self._loop.call_later(LOST_FOR, self._recycle, context=self._home)
        call.on_end = lambda: self._tell(call)
        if call.ended:  # just now, and it has not seen `on_end`
            self._ended(call)
            return
        if not call.context.stopping.is_set():
            log.warning("thread outlives its job", extra=self._keys(call))

    def keep(self, context: RunContext | None, free: Callable[[], object]) -> bool:
        """Whether a thread still runs in this job's slot: it gives that back when it ends."""
        call = self.calls.get(context) if context is not None else None
        if call is None:
            return False
        call.free = free
        return True

    def obstacle(self) -> str | None:
        """Why no job can start, if no slot is left without such a thread."""
        return None if len(self.calls) < self._concurrency else self.state

    def close(self) -> None:
        """Recycle nothing any more."""
        if self._end is not None:
            self._end.cancel()

    @property
    def _half_lost(self) -> bool:
        return 2 * len(self.calls) >= self._concurrency or any(map(self.is_dear, self.calls))

    def _recycle(self) -> None:
        self.recycle(f"threads lost: {self.state}")

    @property
    def state(self) -> str | None:
        """Which threads they are, for probes; None if there are none. The seconds are rounded down
        to a power of two, so that it is not a new state each second."""
        if not self.calls:
            return None
        now = time.monotonic()
        calls = list(self.calls.values())
        said = [
            f"{c.context.job} {c.context.job_id} for over {_rounded(now - c.since)} s"
            for c in calls[:NAMED]
        ]
        if len(calls) > NAMED:
            said.append(f"{len(calls) - NAMED} more")
        return (
            f"threads outlive their jobs in {len(calls)} of {self._concurrency} slots: "
            f"{', '.join(said)}"
        )

    def _tell(self, call: ThreadCall) -> None:
        with suppress(RuntimeError):  # the event loop has ended before it
            self._loop.call_soon_threadsafe(self._ended, call)

    def _ended(self, call: ThreadCall) -> None:
        if self.calls.pop(call.context, None) is None:
            return
        if self._end is not None and not self._half_lost:
            self._end.cancel()
            self._end = None
        log.warning("thread outliving its job has ended", extra=self._keys(call))
        if call.free is not None:
            call.free()

    def _keys(self, call: ThreadCall) -> dict[str, object]:
        seconds = round(time.monotonic() - call.since, 1)
        slots = f"{len(self.calls)} of {self._concurrency}"
        return {**call.context.log_keys(), "seconds": seconds, "slots": slots}


def _rounded(seconds: float) -> int:
    whole = int(seconds)
    return 1 << (whole.bit_length() - 1) if whole else 0
