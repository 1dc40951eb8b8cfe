"""What holds a queue's jobs back: a kill switch, a rate. Values, checked where they are written.

Changes when there is another reason to start fewer jobs than there are slots.
"""

import re
from dataclasses import dataclass

from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.exceptions import Kinds, matches, problem_with

FOREVER = float("inf")

LONGEST_HOLD = 600.0
"""Seconds that a delivery may be held, unacked, because of a rate: a third of RabbitMQ's consumer
timeout, 30 minutes, after which it takes deliveries back and closes the channel
(https://www.rabbitmq.com/docs/consumers#acknowledgement-timeout)."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True, slots=True)
class KillSwitch:
    """Stops consuming a queue while what its jobs depend on is down.

    When more than ``ratio`` of the runs that ended within ``window`` seconds failed with one of
    ``on``, and they were ``at_least`` so many, the worker process consumes that queue no more. What
    runs goes on, what was not started goes back to the queue. After ``pause`` seconds it tries one
    job at a time: the first that succeeds ends the pause, one that fails begins another, twice as
    long. So an outage uses up a few attempts of a few jobs, not all attempts of all of them.

    Args:
        ratio: from 0 to below 1; of the runs, more than this part must have failed.
        at_least: runs that must have ended within the window.
        window: seconds.
        pause: seconds; the first pause.
        longest: seconds; pauses grow no further.
        on: classes of exceptions that mean the dependency is down, as a `Retry` takes them. HTTP
            and database libraries have classes of their own: name them.

    Raises:
        ConfigurationError: a number or a class that makes no sense.
    """

    ratio: float = 0.5
    at_least: int = 10
    window: float = 60.0
    pause: float = 30.0
    longest: float = 600.0
    on: Kinds = (ConnectionError, TimeoutError)

    def __post_init__(self) -> None:
        problem = self._problem()
        if problem:
            raise ConfigurationError(f"KillSwitch: {problem}")

    def _problem(self) -> str | None:
        if not 0 <= self.ratio < 1:
            return f"ratio is a number from 0 to below 1, not {self.ratio!r}"
        if isinstance(self.at_least, bool) or not self.at_least >= 1:
            return f"at_least is a number of runs from 1, not {self.at_least!r}"
        if not 0 < self.window < FOREVER:
            return f"window is a number of seconds above 0, not {self.window!r}"
        if not 0 < self.pause < FOREVER:
            return f"pause is a number of seconds above 0, not {self.pause!r}"
        if not self.pause <= self.longest < FOREVER:
            return f"longest is a number of seconds from pause={self.pause!r}, not {self.longest!r}"
        return problem_with("on", self.on)

    def blames(self, error: BaseException) -> bool:
        """Whether this error means that the dependency is down."""
        return matches(error, self.on)


def starts_per_second(rate: str) -> float:
    """What ``"100/s"``, ``"30/m"`` or ``"20/h"`` says, in starts a second.

    Raises:
        ConfigurationError: it says nothing, or too little to be waited for.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*/\s*([smh])\s*", str(rate), re.ASCII)
    if found is None or not float(found[1]) > 0:
        raise ConfigurationError(
            f"rate is a number above 0 for each second, minute or hour, such as '100/s', '30/m' or "
            f"'20/h', not {rate!r}"
        )
    return float(found[1]) / _UNITS[found[2]]
