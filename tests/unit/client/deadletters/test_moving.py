"""Sending letters on, the broker's part played by the test: how many are on their way at once."""

import asyncio

import pytest

from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.client.deadletters import mover as moving_module
from amqpjobs.client.deadletters.mover import Mover
from amqpjobs.errors import PublishRejected, Unroutable
from amqpjobs.jobs.message.header_names import HEADER_DROPPED, HEADER_HISTORY
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


class Desk:
    """A mover that sends on a wire, and the fates that it told."""

    def __init__(self) -> None:
        self.link = Link()
        self.publication = Publication(self.link, self._prepare)
        self.mover = Mover(self.publication, 30)
        self.fates = {}
        self._task = asyncio.create_task(self.publication.run())

    async def _prepare(self, wire):
        """Nothing is declared."""

    async def send(self, name, properties=None):
        given = properties or Properties(message_id=name)

        def settle(error):
            assert name not in self.fates, "the fate of each is told once"
            self.fates[name] = error

        await self.mover.send("", "q", given, name.encode(), settle)

    async def end(self):
        self._task.cancel()
        await asyncio.wait([self._task])


@pytest.fixture
async def desk():
    made = Desk()
    made.wire = made.link.connect()
    await turns()
    yield made
    await made.end()


async def test_no_more_are_on_their_way_than_the_window(desk, monkeypatch):
    """One that was acked counts on, for as long as RabbitMQ may lose that ack."""
    monkeypatch.setattr(moving_module, "ACKS_ARRIVE", 3600)
    desk.mover._slots = asyncio.Semaphore(3)

    async def send_all():
        for n in range(5):
            await desk.send(f"{n}")

    task = asyncio.create_task(send_all())
    await turns()
    assert len(desk.wire.published()) == 3
    desk.wire.confirm(3, multiple=True)
    await turns()
    assert list(desk.fates.values()) == [None] * 3
    assert len(desk.wire.published()) == 3, "a confirm alone makes no room"
    task.cancel()
    await asyncio.wait([task])
    await desk.mover.drain()
    assert desk.fates.keys() == {"0", "1", "2"}


async def test_a_letter_is_settled_when_it_is_confirmed_and_not_before(desk):
    """Also by `drain`, which waits for all."""
    await desk.send("a")
    await desk.send("b")
    drained = asyncio.create_task(desk.mover.drain())
    await turns()
    assert desk.fates == {}
    desk.wire.confirm(2)
    await turns()
    assert desk.fates == {"b": None}
    assert not drained.done()
    desk.wire.confirm(1)
    await drained
    assert desk.fates == {"b": None, "a": None}
    assert desk.mover.broken is None


async def test_a_missing_queue_is_one_letters_fate_and_a_full_one_is_everybodys(desk):
    """After the second nothing more makes sense."""
    await desk.send("a")
    await desk.send("b")
    await turns()
    desk.wire.give_back(desk.wire.published()[0])
    desk.wire.confirm(1)
    await turns()
    assert isinstance(desk.fates["a"], Unroutable)
    assert desk.mover.broken is None
    desk.wire.confirm(2, acked=False)
    await turns()
    assert isinstance(desk.fates["b"], PublishRejected)
    assert desk.mover.broken is desk.fates["b"]


async def test_headers_that_have_grown_too_long_are_left_behind(desk):
    """The letter matters more, and says what it has lost."""
    headers = {HEADER_HISTORY: ["x" * 140_000], "mine": 1}
    await desk.send("a", Properties(message_id="a", headers=headers))
    await turns()
    [sent] = desk.wire.published()
    assert dict(sent.properties.headers) == {"mine": 1, HEADER_DROPPED: [HEADER_HISTORY]}
    await desk.send("b", Properties(message_id="b", headers={"mine": "x" * 140_000, "b": 2}))
    await turns()
    [_, sent] = desk.wire.published()
    assert dict(sent.properties.headers) == {"b": 2, HEADER_DROPPED: ["mine"]}
    assert desk.mover.broken is None
