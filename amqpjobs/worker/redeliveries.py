"""Decides what a redelivery is: still running here, a suspect of a crash, or neither.

Changes when a redelivery can mean something else.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.jobs.queue.queue import Queue, lanes_of
from amqpjobs.worker.intake import Intake
from amqpjobs.worker.quarantine import Quarantine
from amqpjobs.worker.recently_settled import Key, KeyOf, Settled, has_key, likeness_of

if TYPE_CHECKING:
    from amqpjobs.worker.run import Run


class Redeliveries:
    """Holds what still runs here, puts suspects into quarantine, and passes the others on.

    Args:
        queues: that are consumed.
        running: what runs in this worker now.
        intake: where innocents go.
        quarantine: where suspects go.
        key_of: what a redelivery is recognised by. One that cannot be is a job like any other.

    Attributes:
        held: what waits for the end of an earlier run of the same, by that run.
    """

    def __init__(
        self,
        queues: list[Queue],
        running: "Iterable[Run]",
        intake: Intake,
        quarantine: Quarantine,
        key_of: KeyOf,
    ) -> None:
        self._limits = {
            lane.queue: queue.delivery_limit if queue.type == "quorum" else None
            for queue in queues
            for lane in lanes_of(queue)
        }
        # RabbitMQ counts the failed runs there, as it counts crashes: its limit ends both.
        self._trusted = {queue.name for queue in queues if queue.failed == "requeue-limit"}
        self._running = running
        self._intake = intake
        self._quarantine = quarantine
        self.held: dict[Run, Delivery] = {}
        self._key_of = key_of
        # To take a suspect for innocent costs nothing: if it kills, it is suspect again.
        self._survived = Settled(likeness_of)

    def __repr__(self) -> str:
        return f"<Redeliveries: {len(self.held)} held, {self._quarantine!r}>"

    def offer(self, delivery: Delivery) -> None:
        """Take a delivery that was delivered before."""
        key = self._key_of(delivery)
        if key is not None:
            self._drop_waiting(key)
            first = self._run_of(key)
            if first is not None:
                if not first.delivery.stale:
                    first.delivery.lose()
                if first in self.held:
                    _give_up(self.held[first])
                self.held[first] = delivery
                return
        trusted = delivery.queue in self._trusted
        suspect = not trusted and delivery.is_suspect(self._limits[delivery.queue])
        if suspect and not self._survived.forget(delivery):
            self._quarantine.offer(delivery)
        else:
            self._intake.offer(delivery)

    def ended(self, run: "Run") -> None:
        """A run is over: what was held for it is looked at again. If that run succeeded, it is
        known by now that this need not run."""
        delivery = self.held.pop(run, None)
        if delivery is not None and not delivery.stale:
            self.offer(delivery)

    def survived(self, deliveries: Iterable[Delivery]) -> None:
        """A channel was lost, and this worker lives: what it held there is not suspect for that."""
        for delivery in deliveries:
            if delivery.stale and not delivery.settled:
                self._survived.remember(delivery)

    def take_waiting(self) -> list[Delivery]:
        """Everything that was not started."""
        held = list(self.held.values())
        self.held.clear()
        return [*held, *self._quarantine.take_waiting()]

    def waiting(self) -> list[Delivery]:
        """The same, and it stays."""
        return [*self.held.values(), *self._quarantine.waiting]

    def _run_of(self, key: Key) -> "Run | None":
        for run in self._running:
            if has_key(run.delivery, key, self._key_of):
                return run
        return None

    def _drop_waiting(self, key: Key) -> None:
        """From 4.3 RabbitMQ takes back, on a channel that lives, what waited for too long."""

        def same(waiting: Delivery) -> bool:
            return has_key(waiting, key, self._key_of)

        places: tuple[Callable[[Callable[[Delivery], bool]], list[Delivery]], ...] = (
            self._intake.drop,
            self._quarantine.drop,
        )
        for drop in places:
            for delivery in drop(same):
                _give_up(delivery)


def _give_up(delivery: Delivery) -> None:
    """RabbitMQ has taken it back, and given it out again."""
    delivery.lose()
    delivery.ack()  # for the account of its channel: RabbitMQ ignores it
