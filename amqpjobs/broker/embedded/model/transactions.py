"""What a channel has published and acknowledged in a transaction, until that is over.

RabbitMQ routes a publish when it comes and hands it over at the commit; an acknowledged delivery is
out of the channel's hands until then (rabbit_channel.erl, `tx`). Changes when that does.
"""

from typing import NamedTuple

from amqpjobs.broker.embedded.model.messages import Message
from amqpjobs.broker.embedded.model.settling import Held, Settlement


class Routed(NamedTuple):
    """A message, and where it goes.

    Attributes:
        message: as the queues get it.
        queues: their names; from 4.3 on also the address of a direct reply.
        mandatory: whether it is returned when there is none of them.
    """

    message: Message
    queues: tuple[str, ...]
    mandatory: bool


class Transaction:
    """One transaction of a channel.

    Attributes:
        published: in their order.
        settled: in their order; neighbours that are settled alike are one.
    """

    __slots__ = ("published", "settled")

    def __init__(self) -> None:
        self.published: list[Routed] = []
        self.settled: list[tuple[Settlement, list[tuple[int, Held]]]] = []

    def __repr__(self) -> str:
        count = sum(len(held) for _, held in self.settled)
        return f"<Transaction: {len(self.published)} published, {count} settled>"

    def settle(self, how: Settlement, held: list[tuple[int, Held]]) -> None:
        """Deliveries are acknowledged or refused."""
        if self.settled and self.settled[-1][0] == how:
            self.settled[-1][1].extend(held)
        else:
            self.settled.append((how, held))

    def held(self) -> list[tuple[int, Held]]:
        """All that was settled, with its tags."""
        return [each for _, held in self.settled for each in held]
