"""The channel of a scan: what it holds, most of it as numbers only.

Changes when what is kept of a message that nobody wants does.
"""

import asyncio
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from amqpjobs.rabbitmq.connection import Wire
from amqpjobs.rabbitmq.deliveries import ConsumerChannel, Delivery
from amqpjobs.rabbitmq.frames import encode_nack

T = TypeVar("T")


class HeldDelivery(Delivery):
    """A delivery of a scan.

    Attributes:
        routing_key: with which it came into the queue.
    """

    __slots__ = ("routing_key",)

    def __init__(
        self,
        channel: ConsumerChannel,
        tag: int,
        redelivered: bool,
        header: bytes,
        body: bytes,
        routing_key: str,
    ) -> None:
        super().__init__(channel, tag, redelivered, header, body)
        self.routing_key = routing_key


class Page:
    """What one consumer got: of what nobody wants, only the tags, eight bytes each."""

    __slots__ = ("kept", "open", "prefetch")

    def __init__(self, prefetch: int) -> None:
        self.prefetch = prefetch
        self.kept = array("Q")
        self.open: set[int] = set()

    @property
    def full(self) -> bool:
        """Whether its consumer gets nothing more."""
        return len(self.kept) + len(self.open) >= self.prefetch

    def unsettled(self) -> list[int]:
        """Its tags that are not acked, in order."""
        return sorted((*self.kept, *self.open))


class HoldingChannel(ConsumerChannel, Generic[T]):
    """Decides on each delivery as it comes.

    Attributes:
        seen: how many were decided on, up to the limit.
        bytes: of their bodies.
        acks: how many were taken out.
        leaving: nothing more is wanted; what still comes is kept for being given back.
        redelivered: whether the last one was delivered before.
        holds_acks: acks wait. While a full consumer is cancelled, each would make room for a
            delivery that overtakes, or is overtaken by, those of the next consumer.
        chosen: what was wanted and not handed out yet.
        pages: by consumer tag, in order.
    """

    def __init__(
        self,
        wire: Wire,
        underlay: Any,
        queue: str,
        choose: Callable[[HeldDelivery], T | None],
        limit: int,
    ) -> None:
        self.seen = 0
        self.acks = 0
        self.bytes = 0
        self.leaving = False
        self.redelivered = False
        self.holds_acks = False
        self.arrived = asyncio.Event()
        self.chosen: deque[tuple[T, HeldDelivery]] = deque()
        self.pages: dict[bytes, Page] = {}
        self._limit = limit
        self._choose = choose
        self._page_of: dict[int, Page] = {}
        super().__init__(wire, underlay, queue, _nowhere)

    @property
    def full(self) -> bool:
        """Whether the consumer of the last page gets nothing more."""
        return all(page.full for page in deque(self.pages.values(), maxlen=1))

    def delivered(
        self,
        consumer_tag: bytes,
        delivery_tag: int,
        redelivered: bool,
        exchange: bytes,
        routing_key: bytes,
        header: bytes,
        body: bytes,
    ) -> None:
        """A message, as the splitter hands it over."""
        self.arrived.set()
        self.redelivered = redelivered
        page = self.pages[consumer_tag]
        if self.leaving or self.seen >= self._limit:
            # What is acked makes room for more than was to be looked at.
            page.kept.append(delivery_tag)
            return
        self.seen += 1
        self.bytes += len(body)
        key = routing_key.decode(errors="replace")
        delivery = HeldDelivery(self, delivery_tag, redelivered, header, body, key)
        value = self._choose(delivery)
        if value is None:
            page.kept.append(delivery_tag)
            return
        page.open.add(delivery_tag)
        self._page_of[delivery_tag] = page
        self.chosen.append((value, delivery))

    def ack(self, tag: int) -> None:
        """It goes; its place on its page is free."""
        self._page_of.pop(tag).open.discard(tag)
        self.acks += 1
        super().ack(tag)

    def flush(self) -> None:
        """Write the acks, unless they wait."""
        if self.holds_acks:
            self._scheduled = False
        else:
            super().flush()

    def nack(self, tag: int, requeue: bool = True) -> None:
        """It stays. Given back at once it would come again, in front of all others."""
        page = self._page_of.pop(tag)
        page.open.discard(tag)
        page.kept.append(tag)

    def give_back(self, tags: list[int]) -> None:
        """Give back what is unsettled up to the last of these. That has to be unsettled itself:
        RabbitMQ closes the channel over any other."""
        if not self.closed:
            self._protocol.write(encode_nack(self._number, tags[-1], True, True))
            self._protocol.flush()


def _nowhere(delivery: Delivery) -> None:
    """Deliveries have a way of their own here."""
