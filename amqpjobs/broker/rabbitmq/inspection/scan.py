"""Scans a queue: visits each message that was ready, and leaves most of them there.

A queue can only be looked through by consuming it. What nobody takes out is given back in the end,
in its order, so that it is at its place again. Changes when the way through a queue does.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq.calls import FAILURES, from_broker, unused_callback
from amqpjobs.broker.rabbitmq.connection import Wire
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.broker.rabbitmq.inspection.scan_channel import HeldDelivery, HoldingChannel, Page
from amqpjobs.broker.rabbitmq.permission_errors import refusal_of
from amqpjobs.broker.rabbitmq.subscription import ACKS_ARRIVE
from amqpjobs.errors import AmqpJobsError, BrokerUnavailable

T = TypeVar("T")

FIRST_PAGE = 20
"""Messages, before anything is known of their size."""

LONGEST_PAGE = 2_000
"""Messages. Each page is a consumer that the queue remembers until the last of it is settled."""

PAGE_BYTES = 16 * 2**20
"""About how much of wanted bodies is held at once, by the sizes of the page before."""

PASSED_AT_ONCE = 200
"""Messages at the end of a look, on the way to one that was never given back."""

LOOK_AGAIN = 0.2
"""Seconds without a delivery after which the queue is asked whether it has more."""

SILENCE = 2.0
"""Seconds without a delivery after which a queue has no more for us, whatever it says."""

RETURN_TIMEOUT = 1.0
"""Seconds for what was given back to be there again; somebody else may have taken some."""

SORTED_UP_TO = 32
"""Messages. Up to RabbitMQ 4.2 a quorum queue takes those that one `basic.nack` gives back through
an Erlang map, which is in order only as long as it is this small (seen on 3.10.8)."""

SORTED_FROM_4_3 = 1_000
"""Messages that 4.3 takes back in their order."""

AHEAD = 16
"""Times `basic.nack` before waiting for what it gave back: a channel with 32 commands on their way
to a quorum queue puts those that follow together, and into one map again."""


class Scan(Generic[T]):
    """Goes once through the messages that were ready when it began, in their order::

        async with Scan(wire, "work.dead", choose) as scan:
            async for value, delivery in scan:
                delivery.ack()  # only that takes it out

    What comes into the queue meanwhile is not looked at. Whatever is not acked when the block ends
    is given back to its place, and the block ends when it is there, so that the next look sees it.
    Memory holds what was chosen and not yet taken from the iterator; of all else only numbers.

    Args:
        wire: the connection. Nothing is published on it.
        queue: the AMQP queue.
        choose: called for each message as it arrives, and must be quick: what to hand out with the
            delivery, or None for one that stays; the body of that is dropped at once.
        limit: of messages to look at; None for all.
        page: how many messages one consumer holds at most.

    Attributes:
        total: how many it was to look at.
        consumers: how many others consumed the queue when it began. What they held was not ready.

    Raises:
        TopologyMismatch: there is no such queue.
        BrokerUnavailable: the connection or the channel was lost; RabbitMQ gives all back.
        NotPermitted: this user may not read the queue.
    """

    def __init__(
        self,
        wire: Wire,
        queue: str,
        choose: Callable[[HeldDelivery], T | None],
        *,
        limit: int | None = None,
        page: int = LONGEST_PAGE,
    ) -> None:
        self.queue = queue
        self.total = 0
        self.consumers = 0
        self._wire = wire
        self._choose = choose
        self._limit = limit
        self._longest_page = max(1, min(page, LONGEST_PAGE))
        self._underlay: Any = None
        self._looking: HoldingChannel[T] | None = None
        self._tag: str | None = None
        self._calling: asyncio.Future[Any] | None = None
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<Scan {self.queue}: {self.seen} of {self.total} seen>"

    @property
    def seen(self) -> int:
        """How many it has looked at."""
        return self._looking.seen if self._looking else 0

    @property
    def age(self) -> float:
        """Seconds for which it may have been holding a message."""
        return asyncio.get_running_loop().time() - self._began

    async def __aenter__(self) -> "Scan[T]":
        async with Declarer(self._wire) as declarer:
            answer = await declarer.look(self.queue)
        count = answer.message_count or 0
        self.consumers = answer.consumer_count or 0
        self.total = count if self._limit is None else min(count, self._limit)
        if self.total:
            await self._open()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._leave()

    async def renew(self) -> None:
        """Give all back and begin again with what is left of the total: RabbitMQ takes a consumer
        that holds a message for longer than its consumer timeout (30 minutes) for dead."""
        looking = self._looking
        if looking is None:
            return
        self.total -= looking.acks
        await self._leave()
        await self._open()

    async def _open(self) -> None:
        self._began = asyncio.get_running_loop().time()
        self._underlay = await self._wire.channel()
        self._looking = HoldingChannel(
            self._wire, self._underlay, self.queue, self._choose, self.total
        )

    def __aiter__(self) -> "Scan[T]":
        return self

    async def __anext__(self) -> tuple[T, HeldDelivery]:
        looking = self._looking
        if looking is None:
            raise StopAsyncIteration
        while not looking.chosen:
            if looking.seen >= self.total:
                raise StopAsyncIteration
            if looking.closed or self._underlay.is_closed:
                reason = self._wire.reason or "RabbitMQ closed the channel"
                raise BrokerUnavailable(f"lost while looking through {self.queue!r}: {reason}")
            if looking.full:
                await self._turn_page(looking)
            elif not await self._more(looking):
                raise StopAsyncIteration
        return looking.chosen.popleft()

    async def _turn_page(self, looking: HoldingChannel[T]) -> None:
        """The next messages come to the next consumer: prefetch counts for each."""
        await self._cancel(looking)
        prefetch = min(self._page_size(looking), self.total - looking.seen)
        if prefetch >= 1:  # else they came while the consumer was cancelled
            await self._call(self._consume(looking, prefetch))

    def _page_size(self, looking: HoldingChannel[T]) -> int:
        if not looking.seen:
            return min(FIRST_PAGE, self._longest_page)
        size = max(1, looking.bytes // looking.seen)
        return max(1, min(PAGE_BYTES // size, self._longest_page))

    async def _consume(self, looking: HoldingChannel[T], prefetch: int) -> None:
        tag = str(len(looking.pages) + 1)
        looking.pages[tag.encode()] = Page(prefetch)
        await self._underlay.basic_qos(prefetch_count=prefetch)
        await self._underlay.basic_consume(self.queue, unused_callback, consumer_tag=tag)
        self._tag = tag

    async def _cancel(self, looking: HoldingChannel[T]) -> None:
        tag, self._tag = self._tag, None
        if tag is not None:
            looking.holds_acks = True
            await self._call(self._end_consumer(looking, tag))

    async def _end_consumer(self, looking: HoldingChannel[T], tag: str) -> None:
        try:
            await self._underlay.basic_cancel(tag)
        finally:
            looking.holds_acks = False
            looking.flush()

    async def _call(self, call: Awaitable[Any]) -> None:
        """A call on the channel. One that is cancelled closes its channel in aiormq, and what is
        unsettled on it would go back: so it runs on by itself, and only the waiting ends."""
        self._calling = asyncio.ensure_future(call)
        try:
            with from_broker():
                await asyncio.shield(self._calling)
        except aiormq_errors.ChannelAccessRefused as error:
            raise refusal_of(error, "read") from error
        except FAILURES as error:
            raise BrokerUnavailable(
                f"lost while looking through {self.queue!r}: {error}"
            ) from error

    async def _more(self, looking: HoldingChannel[T]) -> bool:
        """Whether another delivery came: somebody else may be taking them."""
        clock = asyncio.get_running_loop().time
        end = clock() + SILENCE
        empty = False
        while clock() < end:
            looking.arrived.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN):
                    await looking.arrived.wait()
                return True
            if looking.closed:
                return True  # the loop that asks will say so
            if await self._ready():
                continue
            # Its answer stands behind what was sent to us before: twice, and nothing is on its way.
            if empty:
                return looking.arrived.is_set()
            empty = True
        return False

    async def _ready(self) -> int:
        async with Declarer(self._wire) as declarer:
            return (await declarer.look(self.queue)).message_count or 0

    async def _leave(self) -> None:
        looking, self._looking = self._looking, None
        underlay = self._underlay
        if looking is None:
            return
        try:
            if self._calling is not None:
                await asyncio.wait([self._calling])
                if not self._calling.cancelled():  # aiormq cancels it when the channel closes
                    _ = self._calling.exception()  # told to whoever waited for it
            if not looking.closed and not underlay.is_closed:
                await self._pass_returned(looking)
                await self._cancel(looking)
                await self._settle(looking)
        except AmqpJobsError:
            return  # whatever was held, RabbitMQ gives back by itself
        finally:
            looking.close()
            if not underlay.is_closed:
                with suppress(*FAILURES), from_broker():
                    await underlay.close()

    async def _pass_returned(self, looking: HoldingChannel[T]) -> None:
        """Go on to the first message that was never given back. Those that were are in front of
        all others, in the order in which they were: what is given back of them without the rest
        would come behind the rest."""
        looking.leaving = True
        looking.flush()
        await self._quiet(looking)
        while looking.redelivered and looking.full and await self._ready():
            await self._cancel(looking)
            await self._call(self._consume(looking, min(self._page_size(looking), PASSED_AT_ONCE)))
            await self._quiet(looking)

    async def _quiet(self, looking: HoldingChannel[T]) -> None:
        """Wait until nothing is on its way to the consumer: what comes when it is cancelled,
        RabbitMQ gives back at once, to the front of what is given back here in its order."""
        clock = asyncio.get_running_loop().time
        end = clock() + SILENCE
        while not looking.full and not looking.closed and clock() < end:
            looking.arrived.clear()
            await self._round_trip()
            ready = await self._ready()
            await self._round_trip()
            if not ready:
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_AGAIN / 10):
                    await looking.arrived.wait()

    async def _round_trip(self) -> None:
        """When it is answered, RabbitMQ has read what was sent on the channel, and this side what
        RabbitMQ had sent: `basic.qos` is about later consumers, and changes nothing."""
        await self._call(self._underlay.basic_qos(prefetch_count=1))

    async def _settle(self, looking: HoldingChannel[T]) -> None:
        """Give back, and wait until acks have arrived and what was given back is there: a second
        look at once would find the queue empty. Only then may the channel close (`ACKS_ARRIVE`)."""
        looking.flush()
        before = await self._ready() if looking.pages else 0
        chunk = SORTED_UP_TO if looking.nack_counts else SORTED_FROM_4_3
        back = 0
        for page in looking.pages.values():
            tags = page.unsettled()
            for start in range(0, len(tags), chunk):
                some = tags[start : start + chunk]
                looking.give_back(some)
                back += len(some)
                if back % (chunk * AHEAD) < chunk:
                    await self._returned(before + back)
        await self._returned(before + back)
        if looking.acks:
            clock = asyncio.get_running_loop().time
            await asyncio.sleep(max(0.0, looking.acked_at + ACKS_ARRIVE - clock()))

    async def _returned(self, count: int) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(RETURN_TIMEOUT):
                # Polled, since a queue tells nobody how much is in it.
                while await self._ready() < count:  # noqa: ASYNC110
                    await asyncio.sleep(RETURN_TIMEOUT / 100)
