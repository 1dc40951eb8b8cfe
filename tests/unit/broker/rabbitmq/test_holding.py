"""What the channel of a scan holds of each delivery, by the test's own frames."""

import pytest
from pamqp import commands

from amqpjobs.broker.rabbitmq.inspection.scan_channel import HoldingChannel, Page
from tests.unit.broker.rabbitmq.fake_wire import Wire, turns


@pytest.fixture
async def holding():
    """On a wire; wants what begins with `y`, and up to six of all."""
    wire = Wire(1)
    channel = HoldingChannel(
        wire, await wire.channel(), "q", lambda d: d.tag if d.body[:1] == b"y" else None, 6
    )
    channel.wire = wire
    channel.pages[b"tag1"] = Page(4)
    return channel


def deliver(holding, *bodies):
    first = holding.seen + 1
    for tag, body in enumerate(bodies, first):
        holding.wire.deliver(tag, body=body)


async def test_of_what_nobody_wants_there_is_only_the_tag(holding):
    """No body, no delivery; the page knows when it is full."""
    deliver(holding, b"no", b"yes", b"no")
    assert [tag for tag, _ in holding.chosen] == [2]
    page = holding.pages[b"tag1"]
    assert (list(page.kept), page.open, page.full) == ([1, 3], {2}, False)
    assert (holding.seen, holding.bytes) == (3, 7)
    deliver(holding, b"no")
    assert holding.full


async def test_what_is_acked_makes_room_and_what_is_released_is_kept_in_its_place(holding):
    """Released at once it would come again, in front of all others."""
    deliver(holding, b"yes", b"no", b"yes", b"no")
    (_, first), (_, third) = holding.chosen
    first.ack()
    third.release()
    await turns()
    [ack] = holding.wire.settlements()
    assert isinstance(ack, commands.Basic.Ack)
    assert (ack.delivery_tag, holding.acks) == (1, 1)
    page = holding.pages[b"tag1"]
    assert (page.unsettled(), page.full) == ([2, 3, 4], False)


async def test_acks_wait_while_a_consumer_ends(holding):
    """Each would make room for a delivery out of turn; none of them is forgotten."""
    deliver(holding, b"yes", b"yes")
    (_, first), (_, second) = holding.chosen
    holding.holds_acks = True
    first.ack()
    await turns()
    assert holding.wire.settlements() == []
    holding.holds_acks = False
    second.ack()
    await turns()
    [ack] = holding.wire.settlements()
    assert (ack.delivery_tag, ack.multiple) == (2, True)


async def test_beyond_the_limit_nothing_is_looked_at(holding):
    """What is acked lets RabbitMQ send more than was to be looked at; so does leaving."""
    deliver(holding, *[b"yes"] * 6)
    holding.wire.deliver(7, body=b"yes")
    assert (holding.seen, len(holding.chosen)) == (6, 6)
    assert list(holding.pages[b"tag1"].kept) == [7]


async def test_once_it_leaves_nothing_is_wanted(holding):
    """It comes back with the rest."""
    holding.leaving = True
    deliver(holding, b"yes")
    assert (holding.seen, list(holding.chosen)) == (0, [])
    holding.give_back([1])
    [nack] = holding.wire.settlements()
    assert (nack.delivery_tag, nack.multiple, nack.requeue) == (1, True, True)
