"""A queue of one's own: there again after each loss, and what comes to it is passed on."""

import asyncio
from types import SimpleNamespace

import pytest
from aiormq import exceptions as aiormq_errors

from amqpjobs.broker.rabbitmq import lives
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.errors import BrokerUnavailable, ConfigurationError
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.rabbitmq.fake_wire import Channel, Link, Wire, turns


class OwnChannel(Channel):
    """A channel on which queues are made, too."""

    made = 0
    refusal = None

    async def queue_declare(self, exclusive, auto_delete, durable):
        assert (exclusive, durable) == (True, False)
        OwnChannel.made += 1
        self.calls.append("declare")
        return SimpleNamespace(queue=f"amq.gen-{OwnChannel.made}")

    async def queue_bind(self, queue, exchange, routing_key):
        if OwnChannel.refusal is not None:
            raise OwnChannel.refusal
        self.calls.append(f"bind {exchange} {routing_key}")

    async def basic_consume(self, queue, callback, no_ack):
        assert no_ack
        self.calls.append("consume")


class OwnWire(Wire):
    async def channel(self, *, confirms=False):
        if self.refuse_channel is not None:
            raise self.refuse_channel
        self.channels.append(OwnChannel(len(self.channels) + 1))
        return self.channels[-1]


class OwnLink(Link):
    def connect(self):
        self.generation += 1
        self.wire = OwnWire(self.generation)
        self._up.set()
        return self.wire


class Desk:
    """A listener that runs, and what it heard."""

    def __init__(self):
        self.link = OwnLink()
        self.heard = []
        self.lost = []
        self.listener = Listener(
            self.link,
            lambda header, body: self.heard.append((header.correlation_id, body)),
            [("exchange", "key")],
            self.lost.append,
        )
        self.task = asyncio.create_task(self.listener.run())


@pytest.fixture
async def desk(monkeypatch):
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.001)
    monkeypatch.setattr(OwnChannel, "refusal", None)
    monkeypatch.setattr(OwnChannel, "made", 0)
    made = Desk()
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


async def started(desk, times):
    async with asyncio.timeout(5):
        while desk.listener.starts < times or desk.listener.queue is None:
            await asyncio.sleep(0)


async def test_what_comes_is_passed_on(desk):
    """The queue is made, bound and consumed; nothing is acked."""
    wire = desk.link.connect()
    assert await desk.listener.ready() == "amq.gen-1"
    assert wire.channels[0].calls == ["declare", "bind exchange key", "consume"]
    wire.deliver(1, Properties(correlation_id="c"), b"hello")
    assert desk.heard == [("c", b"hello")]
    assert wire.frames() == []
    assert repr(desk.listener) == "<Listener amq.gen-1, start 1>"


async def test_what_cannot_be_read_is_counted_and_dropped(desk):
    """A stranger's bytes must not cost the connection."""
    wire = desk.link.connect()
    await desk.listener.ready()
    wire.deliver(1, header=b"\0\x3c\0\0" + (2).to_bytes(8) + b"\xff\xff")
    assert (desk.heard, desk.listener.malformed) == ([], 1)
    assert wire.protocol.error is None


async def test_with_the_connection_the_queue_is_lost_and_made_again(desk):
    """Its name changes, and those who gave it away are told."""
    desk.link.connect()
    await desk.listener.ready()
    desk.link.lose()
    await turns()
    assert (desk.listener.queue, desk.lost) == (None, ["gone"])
    wire = desk.link.connect()
    assert await desk.listener.ready() == "amq.gen-2"
    wire.deliver(1, body=b"x")
    assert desk.heard == [(None, b"x")]


async def test_a_channel_that_is_closed_and_a_cancel_are_losses_too(desk):
    """Listening goes on on another channel."""
    wire = desk.link.connect()
    await desk.listener.ready()
    wire.channels[0].refuse(aiormq_errors.ChannelClosed(320, "closed by force"))
    await started(desk, 2)
    for callback in wire.channels[1].on_consumer_cancel_callbacks:
        callback(None)
    await started(desk, 3)
    assert [len(desk.lost), desk.lost[1]] == [2, "the broker has deleted the queue"]
    assert wire.channels[1].calls[-1] == "close"


async def test_a_refusal_at_the_start_is_final_and_names_the_permission(desk):
    """Trying again would not help."""
    OwnChannel.refusal = aiormq_errors.ChannelAccessRefused(403, "access refused")
    desk.link.connect()
    with pytest.raises(ConfigurationError, match=r"amq\\.gen.*exchange exchange"):
        await desk.task
    assert desk.lost == []


async def test_a_refusal_later_is_tried_again(desk):
    """It did work: somebody may be repairing the exchange."""
    wire = desk.link.connect()
    await desk.listener.ready()
    OwnChannel.refusal = aiormq_errors.ChannelNotFoundEntity(404, "no exchange")
    desk.link.lose()
    wire = desk.link.connect()
    async with asyncio.timeout(5):
        while len(wire.channels) < 3:
            await asyncio.sleep(0)
    assert desk.listener.queue is None
    OwnChannel.refusal = None
    await started(desk, 2)


async def test_no_channel_is_tried_again_with_a_pause(desk):
    """The connection went away meanwhile."""
    wire = desk.link.connect()
    wire.refuse_channel = BrokerUnavailable("gone")
    await turns()
    assert desk.listener.queue is None
    wire.refuse_channel = None
    await started(desk, 1)
