"""The clock of jobs: due times, deadlines, pauses, rates.

An app has one, `App.clock`, and a test may give it another, which moves when the test says so. What
is about the machine (heartbeats, confirms, the budget of a stop, how long a job runs) asks the
machine. Changes when jobs ask the time for something else.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, time
from typing import Protocol


class Timer(Protocol):
    """Something that is going to be called."""

    def cancel(self) -> None:
        """Do not call it."""


class Clock(Protocol):
    """The current time, and timers."""

    def time(self) -> float:
        """Seconds since the epoch."""
        ...

    def monotonic(self) -> float:
        """Seconds since whenever; it is never set back."""
        ...

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Have it called, on the running event loop, when so many seconds have passed."""
        ...


class MachineClock:
    """The machine's own."""

    # Not methods of ours around them: they are asked several times for every job.
    time = staticmethod(time)
    monotonic = staticmethod(monotonic)

    def __repr__(self) -> str:
        return "<MachineClock>"

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """See `Clock`."""
        return asyncio.get_running_loop().call_later(seconds, callback, *args)


MACHINE = MachineClock()
