"""How late the event loop is: looked at four times a second, and said when metrics are asked for.

Changes when lateness is measured in another way.
"""

import asyncio
import time
from collections import deque

INTERVAL = 0.25
"""Seconds between two looks."""

WINDOW = 60.0
"""Seconds that a lateness is told for: as long as most collectors take from one visit to the next,
and however many there are."""


class Lag:
    """The highest lateness within the last minute."""

    def __init__(self) -> None:
        self._marked = time.monotonic()
        # Each later than all that came after it, so that the first is the highest.
        self._latest: deque[tuple[float, float]] = deque()

    def mark(self, now: float) -> None:
        """The loop is there. It should have been `INTERVAL` after the last mark."""
        late = max(0.0, now - self._marked - INTERVAL)
        self._marked = now
        while self._latest and self._latest[-1][1] <= late:
            self._latest.pop()
        self._latest.append((now, late))
        while self._latest[0][0] < now - WINDOW:
            self._latest.popleft()

    def highest(self, now: float) -> float:
        """Seconds, of one that still lasts too. May be called in another thread."""
        lasting = max(0.0, now - self._marked - INTERVAL)
        return max(lasting, *(late for at, late in list(self._latest) if at >= now - WINDOW), 0.0)

    async def run(self) -> None:
        """Look until cancelled."""
        self._marked = time.monotonic()
        while True:
            await asyncio.sleep(INTERVAL)
            self.mark(time.monotonic())
