"""Threads that outlive their jobs. Nothing can end a thread; each keeps its slot until it ends.

Changes when what is said of them does.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from amqpjobs.codec import Arguments
from amqpjobs.context import Context
from amqpjobs.definition import Definition

log = logging.getLogger("amqpjobs.worker")

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
    """

    def __init__(self, definition: Definition, context: Context, arguments: Arguments) -> None:
        self._definition = definition
        self.context = context
        self._arguments = arguments
        self.begun = self.dropped = self.ended = False
        self.since = 0.0
        self.free: Callable[[], object] | None = None
        self.on_end: Callable[[], object] | None = None

    def __call__(self) -> object:
        """Run the handler."""
        self.begun = True
        if self.dropped:
            self._end()
            return None
        try:
            result: object = self._definition.invoke(self.context, self._arguments)
            return result
        except GeneratorExit as error:
            # Raised from the future, it would close the coroutines that wait, not be thrown into
            # them: only the outermost would see it.
            return Left(error)
        finally:
            self._end()

    def _end(self) -> None:
        self.ended = True
        if self.on_end is not None:
            self.on_end()


class Left:
    """Stands for what a handler has raised and a future cannot carry."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


class Outliving:
    """The threads whose jobs are over and that still run.

    Attributes:
        calls: by the context of the job; empty nearly always.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._loop = asyncio.get_running_loop()
        self.calls: dict[Context, ThreadCall] = {}
        self._changed = 0.0

    def add(self, call: ThreadCall) -> None:
        """A job is over, and its thread is not."""
        call.since = self._changed = time.monotonic()
        self.calls[call.context] = call
        call.on_end = lambda: self._tell(call)
        if call.ended:  # just now, and it has not seen `on_end`
            self._ended(call)
            return
        if not call.context.stopping.is_set():
            log.warning("thread outlives its job", extra=self._keys(call))

    def keep(self, context: Context | None, free: Callable[[], object]) -> bool:
        """Whether a thread still runs in this job's slot: it gives that back when it ends."""
        call = self.calls.get(context) if context is not None else None
        if call is None:
            return False
        call.free = free
        return True

    def obstacle(self) -> tuple[str, float] | None:
        """Why no job can start, if no slot is left without such a thread, and for how many seconds
        none of them has ended."""
        if len(self.calls) < self._concurrency or (state := self.state) is None:
            return None
        return state, time.monotonic() - self._changed

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
        log.warning("thread that outlived its job has ended", extra=self._keys(call))
        if call.free is not None:
            call.free()

    def _keys(self, call: ThreadCall) -> dict[str, object]:
        seconds = round(time.monotonic() - call.since, 1)
        slots = f"{len(self.calls)} of {self._concurrency}"
        return {**call.context.log_keys(), "seconds": seconds, "slots": slots}


def _rounded(seconds: float) -> int:
    whole = int(seconds)
    return 1 << (whole.bit_length() - 1) if whole else 0
