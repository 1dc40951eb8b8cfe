"""A clock that a test moves."""

import itertools
from collections.abc import Callable
from typing import Any

from amqpjobs.jobs.clock import Timer

START = 1_800_000_000.0
"""Seconds since the epoch; no machine's clock is there while a test runs."""


class Waits:
    """A timer of `MovedClock`."""

    def __init__(self, clock: "MovedClock", key: tuple[float, int]) -> None:
        self._clock = clock
        self._key = key

    def cancel(self) -> None:
        """Do not call it."""
        self._clock.timers.pop(self._key, None)


class MovedClock:
    """Stands still until it is moved; `timers` are what waits, by when."""

    def __init__(self, now: float = START) -> None:
        self.now = now
        self.timers: dict[tuple[float, int], Callable[[], Any]] = {}
        self._numbers = itertools.count()

    def time(self) -> float:
        """Where it was moved to."""
        return self.now

    monotonic = time

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """Call it when the clock is moved there."""
        key = (self.now + seconds, next(self._numbers))
        self.timers[key] = lambda: callback(*args)
        return Waits(self, key)

    def move(self, seconds: float) -> None:
        """Call what is due, in order."""
        end = self.now + seconds
        while self.timers and (first := min(self.timers))[0] <= end:
            self.now = max(self.now, first[0])
            self.timers.pop(first)()
        self.now = end
