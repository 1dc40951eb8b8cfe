"""Room for jobs in this process: threads, processes, files. Lacking it is no job's fault.

Changes when there is something else to run out of.
"""

import asyncio
import errno
import logging
import os
import resource
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress

from amqpjobs.errors import NoRoom

log = logging.getLogger("amqpjobs.worker")

PAUSE = 2.0
"""Seconds for which a job that found no room keeps its slot, before it is given back: the next one
would find none either."""

CALM = 10.0
"""Seconds without another job that found no room, after which there is room again."""

LONGEST = 60.0
"""Seconds for which room may be lacking before the worker ends, so that another takes its place."""

NO_THREAD = "can't start new thread"
"""What CPython says, in a `RuntimeError`."""

MOST = 3 / 4
"""Of the descriptors that this process may have: when fewer are in use after a job has failed for
want of one, that job had the rest itself."""

DEEPEST = 20


class Room:
    """Counts the jobs that found no room, and ends a worker where that goes on.

    Args:
        give_up: ends the worker.
        obstacle: says why no job can start, if that is known without trying; None if not. It does
            not end the worker.
        clock: seconds.

    Attributes:
        failure: why it was ended; None if it was not.
    """

    def __init__(
        self,
        give_up: Callable[[], object],
        obstacle: Callable[[], str | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._give_up = give_up
        self._obstacle = obstacle
        self._clock = clock
        self._since: float | None = None
        self._last = 0.0
        self._problem = ""
        self.failure: NoRoom | None = None

    @property
    def state(self) -> str | None:
        """What is lacking, for probes; None if there is room. To be asked every few seconds."""
        if (problem := self._obstacle()) is not None:
            return f"no room: {problem}"
        self._look()
        return None if self._since is None else f"no room: {self._problem}"

    def _look(self) -> None:
        if self._since is not None and self._clock() - self._last >= CALM:
            self._since = None
            log.warning("room for jobs again", extra={"was": self._problem})

    async def lacking(self, problem: str) -> None:
        """A job has found no room. Returns when it is to be given back."""
        self.lacks(problem)
        await asyncio.sleep(PAUSE)

    def lacks(self, problem: str) -> None:
        """There is no room now; the worker ends if that goes on for so many seconds."""
        self._look()
        now = self._last = self._clock()
        self._problem = problem
        if self._since is None:
            self._since = now
            log.critical("no room for jobs", extra={"reason": problem, "ends_in_s": LONGEST})
        elif now - self._since >= LONGEST:
            self._end(problem, now - self._since)

    def _end(self, problem: str, seconds: float) -> None:
        if self.failure is not None:
            return
        self.failure = NoRoom(
            f"no room for jobs for {seconds:.0f} s: {problem}; give the worker more (ulimit -n, "
            "ulimit -u, the container's pids limit), or a lower --concurrency"
        )
        log.critical("no room for jobs, worker ends", extra={"reason": problem})
        self._give_up()


def lack_behind(error: BaseException) -> str | None:
    """What this process has used up, if that is why a job has failed; None for any other reason.

    A job that could not open a file, connect or start a thread may have taken all there is itself.
    So it is looked at again now that the job has ended: what is there again was the job's own, and
    the job has failed. What is still lacking was taken by others, and the job is innocent.
    """
    for each in _chain(error):
        if isinstance(each, NoRoom):
            return str(each)
        if isinstance(each, RuntimeError) and each.args == (NO_THREAD,):
            return NO_THREAD if _no_thread() else None
        if isinstance(each, OSError) and each.errno in (errno.EMFILE, errno.ENFILE):
            return each.strerror if _no_file(error) else None
        if isinstance(each, BlockingIOError) and each.filename is None:
            # fork(2) says so where threads would, too.
            return NO_THREAD if _no_thread() else None
    return None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """It, and what it was raised from: libraries make errors of their own of these."""
    for _ in range(DEEPEST):
        if error is None:
            return
        yield error
        error = error.__cause__ or error.__context__


def _no_thread() -> bool:
    thread = threading.Thread(target=lambda: None, name="amqpjobs room")
    try:
        thread.start()
    except RuntimeError:
        return True
    thread.join()
    return False


def _no_file(error: BaseException) -> bool:
    for each in _chain(error):
        # What the job had open is held by the variables of its frames.
        with suppress(RuntimeError):
            traceback.clear_frames(each.__traceback__)
    try:
        used = len(os.listdir("/dev/fd"))  # noqa: PTH208 - names are all there is
    except OSError:
        return True
    return used > MOST * resource.getrlimit(resource.RLIMIT_NOFILE)[0]
