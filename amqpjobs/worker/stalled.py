"""Detects that no jobs start, by the deliveries that are held.

Changes when what keeps a delivery from being started does.
"""

import time
from collections.abc import Callable, Sized

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.worker.intake import Intake

PATIENCE = 5.0
"""Seconds that a delivery may wait although a slot is free, before the worker is not ok. It starts
at once when all is well; making sure that it is still ours takes a round trip to the broker."""

STALLED = "not starting jobs"


class Progress:
    """Looks at what waits in the intake, each time that somebody asks how the worker is.

    Args:
        intake: where deliveries wait for a slot.
        running: the jobs that run, in quarantine too.
        clock: seconds.
    """

    def __init__(
        self, intake: Intake, running: Sized, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._intake = intake
        self._running = running
        self._clock = clock
        self._held: Delivery | None = None
        self._since = 0.0

    def problem(self) -> str | None:
        """The state of a worker that holds a delivery and does not start it; None if all is well.

        The same delivery has to be found again and again for `PATIENCE` seconds.
        """
        held = self._intake.startable(busy=len(self._running) > 0)
        now = self._clock()
        if held is not self._held or held is None:
            self._held, self._since = held, now
            return None
        if now - self._since < PATIENCE:
            return None
        return f"{STALLED}: {held.queue}"
