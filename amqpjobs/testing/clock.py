"""One clock for the embedded broker and for the app that is tested on it.

Changes when either of the two asks for its time in another way.
"""

from collections.abc import Callable

from amqpjobs.broker.embedded.clock import ManualClock
from amqpjobs.jobs.clock import Timer


class BrokersClock:
    """The broker's clock, as an app asks for it: it stands still until the test moves it.

    Args:
        clock: the broker's.
    """

    def __init__(self, clock: ManualClock) -> None:
        self._clock = clock

    def __repr__(self) -> str:
        return f"<BrokersClock: {self._clock!r}>"

    def time(self) -> float:
        """See `amqpjobs.jobs.clock.Clock`."""
        return self._clock.time()

    monotonic = time

    def call_later(self, seconds: float, callback: Callable[..., object], *args: object) -> Timer:
        """See `amqpjobs.jobs.clock.Clock`."""

        def call() -> None:
            callback(*args)

        return self._clock.call_at(self._clock.time() + seconds, call)
