"""Stops a command on SIGTERM and SIGINT, always within its budget.

Changes when the way that a signal reaches a command does, or what holds a process up at its end.
"""

import asyncio
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import NoReturn

from amqpjobs.telemetry.log_stream import flush_logs
from amqpjobs.worker.execution.forking import default_signals_in_children

NUMBERS = (signal.SIGTERM, signal.SIGINT)

EXTRA = 1.0
"""Seconds after the budget. At its end the event loop ends the process itself, if it still runs."""

RECYCLED = 75
"""The exit status by which a child of ``consume --processes`` asks for another to take its
place."""

LAST_LINE = 0.2
"""Seconds for the last line to stderr, which may have no reader either."""


class Deadline:
    """Ends the process when the budget is over, whatever the event loop does.

    A thread hears of the signal by a wake-up descriptor of its own, so that it needs neither the
    event loop nor the main thread: both may stand still in a blocking call, in a write to a log
    that nobody reads, or at the end, in a wait for a thread that does not end. Jobs that still run
    then are not acked, so RabbitMQ delivers them again.

    Args:
        budget: seconds from the first signal.
        status: the exit status of an end by force.
        last: called before such an end, in the thread.
    """

    def __init__(
        self, budget: float, *, status: int = 1, last: Callable[[], None] | None = None
    ) -> None:
        self.status = status
        self._budget = budget
        self._last = last
        self._ends_at: float | None = None
        self._next = -1  # whoever had the wake-up descriptor before
        self._before: dict[int, Callable[[int, FrameType | None], object]] = {}
        self._heard, self._ours = os.pipe()
        os.set_blocking(self._heard, False)
        os.set_blocking(self._ours, False)
        self._null = os.open(os.devnull, os.O_WRONLY)
        # Started now: at the end there may be no room for another thread.
        threading.Thread(target=self._watch, name="amqpjobs deadline", daemon=True).start()

    def hear(self) -> None:
        """Hear the signals before their handlers do, which are set already. In the main thread.

        Something that takes the wake-up descriptor later, as `loop.add_signal_handler` does, leaves
        the handler: then the signal is heard unless the main thread is in a call that does not
        return.
        """
        for number in NUMBERS:
            before = signal.getsignal(number)
            if callable(before):
                self._before[number] = before
            signal.signal(number, self._on_signal)
            signal.siginterrupt(number, False)  # as asyncio has it
        before_us = signal.set_wakeup_fd(self._ours, warn_on_full_buffer=False)
        if before_us >= 0:
            # A copy: when the event loop closes its own, the number may soon be another file's.
            self._next = os.dup(before_us)

    def arm(self) -> None:
        """The budget runs from now, if it does not yet. Safe in a signal handler."""
        if self._ends_at is not None:
            return
        self._ends_at = time.monotonic() + self._budget + EXTRA
        self._wake()
        with suppress(RuntimeError, OSError, ValueError):
            # Its thread is C's own: it ends the process while a call holds Python's lock, too.
            # It would write where all threads stand, to a stderr that may have no reader.
            faulthandler.dump_traceback_later(
                self._budget + 1.5 * EXTRA, exit=True, file=self._null
            )

    def done(self, status: int = 0, *, within: float | None = None) -> None:
        """What was to be done was done.

        Args:
            status: the exit status of an end by force from now on.
            within: seconds that the rest may take, whatever is left of the budget.
        """
        self.status = status
        if within is not None:
            self._ends_at = time.monotonic() + within
            self._wake()

    def _wake(self) -> None:
        with suppress(OSError):  # full: it is awake
            os.write(self._ours, b"\0")

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        self.arm()
        before = self._before.get(number)
        if before is not None:
            before(number, frame)

    def _watch(self) -> None:
        poller = select.poll()
        poller.register(self._heard, select.POLLIN)
        while True:
            left = None
            if self._ends_at is not None:
                left = self._ends_at - time.monotonic()
                if left <= 0:
                    self._end()
            if poller.poll(None if left is None else left * 1000 + 1):
                self._pass_on(os.read(self._heard, 512))

    def _pass_on(self, numbers: bytes) -> None:
        if any(number in numbers for number in NUMBERS):
            self.arm()
        numbers = numbers.replace(b"\0", b"")
        if numbers and self._next >= 0:
            with suppress(OSError):  # it is closed, or full of signals that were not read yet
                os.write(self._next, numbers)

    def _end(self) -> NoReturn:
        if self._last is not None:
            self._last()
        if self.status:
            text = f"amqpjobs: did not end within {self._budget:g} s of the signal, ending now\n"
            # In a thread: a write to a pipe that is full does not return.
            saying = threading.Thread(target=_say, args=(text.encode(),), daemon=True)
            with suppress(RuntimeError):
                saying.start()
                saying.join(LAST_LINE)
        os._exit(self.status)


def stop_by_signals(
    stop: Callable[[], object], budget: float, *, status: int = 1, leaving: bool = True
) -> Deadline:
    """Have SIGTERM and SIGINT call `stop` on the running event loop; from the first one on, the
    process ends within the budget, and `EXTRA`.

    Child processes that a job forks get the signals' usual effect back.

    Args:
        stop: called for each signal.
        budget: seconds.
        status: the exit status of an end by force.
        leaving: whether the event loop ends the process at the end of the budget, with status 0:
            everything is given back by then.
    """
    loop = asyncio.get_running_loop()
    deadline = Deadline(budget, status=status)
    told = False

    def stopped() -> None:
        nonlocal told
        deadline.arm()
        if not told and leaving:
            # What may still wait then is a broker, or an application, that does not answer.
            loop.call_later(budget, leave)
        told = True
        stop()

    for number in NUMBERS:
        loop.add_signal_handler(number, stopped)
    deadline.hear()
    default_signals_in_children()
    return deadline


def leave(status: int = 0) -> NoReturn:
    """End the process now. Its output may be closed, or its disk full: that delays nothing."""
    flush_output()
    os._exit(status)


def flush_output() -> None:
    """Write out what is printed. What cannot be written is dropped, so that the interpreter does
    not fail over it at its exit, with a status of its own (120)."""
    flush_logs()
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except (OSError, ValueError, AttributeError):
            _drop(stream)


def _drop(stream: object) -> None:
    # https://docs.python.org/3/library/signal.html#note-on-sigpipe
    with suppress(OSError, ValueError, AttributeError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())  # type: ignore[attr-defined]
        os.close(null)


def _say(line: bytes) -> None:
    with suppress(OSError):
        os.write(2, line)
