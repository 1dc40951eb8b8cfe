"""The real time, with the event loop's timers. Changes when the loop's timers do."""

import asyncio
import time
from collections.abc import Callable


class LoopClock:
    """A `Clock` that goes by itself, while the broker runs.

    Between two looks it goes by the monotonic clock: a message does not expire because somebody
    has set the time of the machine.
    """

    def __init__(self) -> None:
        self._offset = time.time() - time.monotonic()

    def __repr__(self) -> str:
        return "<LoopClock>"

    def time(self) -> float:
        """Now, in seconds since the epoch."""
        return time.monotonic() + self._offset

    def call_at(self, when: float, callback: Callable[[], None]) -> asyncio.TimerHandle:
        """Call back at `when`, in seconds since the epoch; soon, when that has passed."""
        loop = asyncio.get_running_loop()
        return loop.call_at(loop.time() + when - self.time(), callback)
