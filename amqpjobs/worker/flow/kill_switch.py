"""The kill switch of one queue: a state machine, and nothing else. Pure: the clock is passed in.

Changes when it decides by something else.
"""

from collections import deque
from typing import Literal, TypeAlias

from amqpjobs.jobs.outcome import (
    Outcome,
)
from amqpjobs.jobs.queue.limits import KillSwitch

State: TypeAlias = Literal["consuming", "paused", "trying"]

SLICES = 20
"""Of the window: what ended is counted by slice, so that a fast queue costs no memory. A run is
forgotten when its slice is as old as the window."""


class Switch:
    """Whether a queue is consumed, by how its runs end.

    Attributes:
        state: ``consuming``: all is well. ``paused``: nothing starts until `resumes_at`.
            ``trying``: one run at a time.
        epoch: counts the changes of state. A run says something about the state that it was started
            in, and nothing about a later one.
        pause: seconds; of the pause that is, or was last.
    """

    def __init__(self, policy: KillSwitch) -> None:
        self._policy = policy
        self.state: State = "consuming"
        self.epoch = 0
        self.pause = 0.0
        self.resumes_at = 0.0
        self._window = _Window(policy.window)

    def __repr__(self) -> str:
        return f"<Switch: {self.state}, {self.failed} of {self.ended} failed>"

    @property
    def ended(self) -> int:
        """Runs that ended within the window when it was last looked at."""
        return self._window.ended

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return self._window.failed

    def run_ended(self, epoch: int, failed: bool, now: float) -> bool:
        """A run that was started in this epoch has ended.

        Returns:
            Whether the state is another one now.
        """
        if epoch != self.epoch or self.state == "paused":
            return False
        if self.state == "trying":
            if failed:
                self._pause(min(2 * self.pause, self._policy.longest), now)
            else:
                self._window.clear()
                self._turn("consuming")
            return True
        self._window.add(failed, now)
        if not failed or self.ended < self._policy.at_least:
            return False
        if self.failed <= self._policy.ratio * self.ended:
            return False
        self._pause(self._policy.pause, now)
        return True

    def look(self, now: float) -> bool:
        """Begin to try if the pause is over.

        Returns:
            Whether the state is another one now.
        """
        if self.state != "paused" or now < self.resumes_at:
            return False
        self._turn("trying")
        return True

    def _pause(self, seconds: float, now: float) -> None:
        self.pause = seconds
        self.resumes_at = now + seconds
        self._turn("paused")

    def _turn(self, state: State) -> None:
        self.state = state
        self.epoch += 1


class _Window:
    """How many runs ended lately, and how many of them failed."""

    def __init__(self, seconds: float) -> None:
        self._width = seconds / SLICES
        self._slices: deque[list[int]] = deque()  # number, ended, failed
        self.ended = self.failed = 0

    def add(self, failed: bool, now: float) -> None:
        number = int(now // self._width)
        slices = self._slices
        while slices and slices[0][0] <= number - SLICES:
            _, ended, failures = slices.popleft()
            self.ended -= ended
            self.failed -= failures
        if not slices or slices[-1][0] != number:
            slices.append([number, 0, 0])
        slices[-1][1] += 1
        slices[-1][2] += failed
        self.ended += 1
        self.failed += failed

    def clear(self) -> None:
        self._slices.clear()
        self.ended = self.failed = 0


def speaks(policy: KillSwitch, outcome: Outcome) -> bool | None:
    """What a run says about the dependency: True that it is down, False that it is not, None for a
    run that never got so far, or came to no end."""
    if not outcome.judges:
        return None
    return outcome.error is not None and policy.blames(outcome.error)
