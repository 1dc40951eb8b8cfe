"""Holds deliveries that came less than two seconds early, in no slot, and routes redeliveries.

The delays on the broker have whole seconds; the rest is waited here. What is earlier than that
(clocks that differ, a foreign header) is sent back into the delays by the pipeline. Changes
when holding does.
"""

from collections.abc import Callable, Collection

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.errors import DecodeError
from amqpjobs.jobs.clock import MACHINE, Clock, Timer
from amqpjobs.jobs.message.header_names import DUE_ENCODED
from amqpjobs.jobs.message.headers import read_leniently

LONGEST_HOLD = 2.0
"""Seconds."""


class Deferral:
    """Passes deliveries on when they are due.

    Args:
        pass_on: called with each delivery, at once for nearly all of them.
        again: called instead with what was delivered before; None for no difference.
        clock: by which they are due.
    """

    def __init__(
        self,
        pass_on: Callable[[Delivery], None],
        again: Callable[[Delivery], None] | None = None,
        clock: Clock = MACHINE,
    ) -> None:
        self._pass_on = pass_on
        self._again = again or pass_on
        self._held: dict[Delivery, Timer] = {}
        self._clock = clock

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery; pass it on now, or when it is due."""
        wait = self._seconds_early(delivery) if delivery.may_have(DUE_ENCODED) else 0
        if 0 < wait <= LONGEST_HOLD:
            self._held[delivery] = self._clock.call_later(wait, self._due, delivery)
        elif delivery.redelivered:
            self._again(delivery)
        else:
            self._pass_on(delivery)

    def _due(self, delivery: Delivery) -> None:
        del self._held[delivery]
        self.offer(delivery)  # the clock on the wall may have been set back meanwhile

    @property
    def held(self) -> tuple[Delivery, ...]:
        """What is held, in the order in which it came."""
        return tuple(self._held)

    def take_held(self, queues: Collection[str] | None = None) -> list[Delivery]:
        """Everything that is held, in the order in which it came; of these AMQP queues alone, if
        they are given."""
        held = [d for d in self._held if queues is None or d.queue in queues]
        for delivery in held:
            self._held.pop(delivery).cancel()
        return held

    def _seconds_early(self, delivery: Delivery) -> float:
        try:
            due = read_leniently(delivery.header.headers).due
        except DecodeError:
            return 0  # the pipeline says so, better
        return due - self._clock.time() if due is not None else 0
