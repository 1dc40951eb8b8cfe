"""Where the embedded broker has its time from: message lifetimes, queue expiry, timeouts.

Changes when the broker needs more of its clock than the time and a timer.
"""

import heapq
import time
from collections.abc import Callable
from itertools import count
from typing import Protocol


class Handle(Protocol):
    """A timer that has been set."""

    def cancel(self) -> None:
        """Let it not happen. After it has happened this does nothing."""


class Clock(Protocol):
    """The time, and timers."""

    def time(self) -> float:
        """Now, in seconds since the epoch."""

    def call_at(self, when: float, callback: Callable[[], None]) -> Handle:
        """Call back at `when`, in seconds since the epoch; soon, when that has passed."""


class ManualClock:
    """A clock that stands still until a test moves it. It starts at the real time.

    Nothing is called from within `call_at`: what is due runs in the next `advance`, also one of
    zero seconds.
    """

    def __init__(self) -> None:
        self._now = time.time()
        self._order = count()  # timers of one moment run in the order in which they were set
        self._timers: list[tuple[float, int, Timer]] = []

    def __repr__(self) -> str:
        return f"<ManualClock {self._now:.3f}, {len(self._timers)} timers>"

    def time(self) -> float:
        """The time to which it has been moved, in seconds since the epoch."""
        return self._now

    def call_at(self, when: float, callback: Callable[[], None]) -> "Timer":
        """Call back in the `advance` that reaches `when`."""
        timer = Timer(callback)
        heapq.heappush(self._timers, (when, next(self._order), timer))
        return timer

    def advance(self, seconds: float) -> None:
        """Move on by that much, and run what falls due, each at its own time and in order.

        What a callback sets, and what is due before the end, runs as well.

        Raises:
            ValueError: the seconds are negative; time does not go back.
        """
        if seconds < 0:
            raise ValueError(f"cannot go back by {-seconds} seconds")
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            timer.run()
        self._now = end

    def next_at(self) -> float | None:
        """When the next timer is due, in seconds since the epoch; None when none is set."""
        while self._timers and self._timers[0][2].cancelled:
            heapq.heappop(self._timers)
        return self._timers[0][0] if self._timers else None


class Timer:
    """One callback that waits."""

    __slots__ = ("_callback",)

    def __init__(self, callback: Callable[[], None]) -> None:
        self._callback: Callable[[], None] | None = callback

    @property
    def cancelled(self) -> bool:
        """Whether it has been cancelled, or has run."""
        return self._callback is None

    def cancel(self) -> None:
        """Forget the callback, and with it whatever it holds."""
        self._callback = None

    def run(self) -> None:
        """Call back, once."""
        callback, self._callback = self._callback, None
        if callback is not None:
            callback()
