"""Visits the dead letters of several queues, one queue after the other.

Changes when letters are held otherwise while a command works on them.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.inspection.scan import LONGEST_PAGE, Scan
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery
from amqpjobs.client.deadletters.letter import Letter, Place, letter_of
from amqpjobs.client.deadletters.report import Gone
from amqpjobs.jobs.message.properties import BROKER_HEADERS

RENEW_AFTER = 600.0
"""Seconds. RabbitMQ takes a consumer that holds a message for 30 minutes for dead."""

Act = Callable[[Letter, HeldDelivery], Awaitable[bool]]
"""Does what is to be done with a letter that was chosen; false to end the way there. A delivery
that it neither acks nor releases is taken for one that it still works on."""


class Chooser(Protocol):
    """Says which dead letters are selected."""

    def takes(self, letter: Letter) -> bool:
        """Whether this one is."""
        ...


class Everything:
    """All letters are meant."""

    def takes(self, letter: Letter) -> bool:
        """It is."""
        return True


class Same:
    """Chooses one letter, which was seen before."""

    def __init__(self, letter: Letter) -> None:
        self._letter = _likeness(letter)
        self._found = False

    def takes(self, letter: Letter) -> bool:
        """Whether it is this one, for the first time."""
        if self._found or _likeness(letter) != self._letter:
            return False
        self._found = True
        return True


def _likeness(letter: Letter) -> tuple[object, ...]:
    """What stays the same of a letter, however often RabbitMQ hands it out and counts that. Of its
    headers the words: a number that is none (NaN) does not equal itself."""
    # In one order: RabbitMQ 3.10 sorts headers when it adds one of its own.
    headers = sorted(letter.properties.headers.items())
    own = {name: value for name, value in headers if name not in BROKER_HEADERS}
    properties = repr(letter.properties._replace(headers=own))
    return letter.place, letter.time, letter.routing_key, letter.body, properties


async def _nothing() -> None:
    """Nothing is under way."""


@dataclass(frozen=True, slots=True)
class Way:
    """Goes through places.

    Attributes:
        wire: to consume on.
        places: in the order in which they are gone through.
        lanes: the app's AMQP queues, see `letter_of`.
        bodies: whether letters have theirs.
        finish: waits until nothing is under way, before letters are requeued.
        page: letters that are held before their turn, at most.
    """

    wire: Wire
    places: Sequence[Place]
    lanes: frozenset[str]
    bodies: bool = True
    finish: Callable[[], Awaitable[None]] = _nothing
    page: int = LONGEST_PAGE

    async def go(self, chooser: Chooser, gone: Gone, act: Act) -> None:
        """Act on each selected letter.

        Cancelled, or when ``act`` raises, it waits for what is under way, and gives the rest back.

        Raises:
            TopologyMismatch: a place does not exist.
            BrokerUnavailable: the connection was lost.
        """
        for place in self.places:
            if not await self._visit(place, chooser.takes, gone, act):
                return

    async def count(
        self, chooser: Chooser, gone: Gone, counted: Callable[[Letter], object]
    ) -> None:
        """Report each selected letter, and hold none of them in memory.

        Args:
            counted: called for each, from the event loop, and must be quick.
        """

        def takes(letter: Letter) -> bool:
            if chooser.takes(letter):
                counted(letter)
            return False

        for place in self.places:
            await self._visit(place, takes, gone, _never)

    async def _visit(
        self, place: Place, takes: Callable[[Letter], bool], gone: Gone, act: Act
    ) -> bool:
        def choose(delivery: HeldDelivery) -> Letter | None:
            gone.seen += 1
            letter = letter_of(
                place, self.lanes, delivery.readable_properties(), delivery.body,
                delivery.routing_key,
            )  # fmt: skip
            if not takes(letter):
                return None
            return letter if self.bodies else replace(letter, body=b"")

        async with Scan(self.wire, place.name, choose, page=self.page) as scan:
            gone.total += scan.total
            try:
                async for letter, delivery in scan:
                    if not await act(letter, delivery):
                        gone.note(scan, whole=False)
                        return False
                    if scan.age > RENEW_AFTER:
                        await self.finish()
                        await scan.renew()
            finally:
                await self.finish()
            gone.note(scan, whole=True)
        return True


async def _never(letter: Letter, delivery: HeldDelivery) -> bool:
    raise AssertionError("counting chooses nothing")
