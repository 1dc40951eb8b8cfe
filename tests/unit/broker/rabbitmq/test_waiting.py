"""Towards a queue, later: the first level that is needed is there before anything is sent."""

import asyncio
import time

import pytest

from amqpjobs.broker.rabbitmq import delayed_publication as waiting_module
from amqpjobs.broker.rabbitmq.delayed_publication import Waiting
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.errors import BrokerUnavailable, NotConfirmed
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.jobs.queue.delays import level_name
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


async def _nothing(wire):
    """The queues are there."""


class Desk:
    """A ladder whose levels are noted instead of declared."""

    def __init__(self, monkeypatch):
        self.link = Link()
        self.publication = Publication(self.link, _nothing)
        self.waiting = Waiting(self.link, self.publication, declare=True)
        self.made = []
        self.refusals = []
        self.task = asyncio.create_task(self.publication.run())
        desk = self

        class Declarer:
            def __init__(self, wire):
                self.wire = wire

            async def __aenter__(self):
                return self

            async def __aexit__(self, *_):
                pass

            async def apply(self, topology):
                if desk.refusals:
                    raise desk.refusals.pop()
                await asyncio.sleep(0)
                desk.made.append([queue.name for queue in topology.queues])

        monkeypatch.setattr(waiting_module, "Declarer", Declarer)
        monkeypatch.setattr(waiting_module, "AGAIN", 0.0)

    def publish(self, seconds, timeout=30.0):
        due = time.time() + seconds
        properties = Properties(message_id="7")
        return asyncio.create_task(self.waiting.publish("q", properties, b"", due, timeout))

    async def sent(self):
        await turns()
        return [(m.exchange, m.routing_key) for m in self.link.wire.published()]


@pytest.fixture
async def desk(monkeypatch):
    made = Desk(monkeypatch)
    made.link.connect()
    await turns()
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


def levels(*numbers):
    return [level_name(number) for number in numbers]


async def test_below_a_second_it_goes_straight_to_its_queue(desk):
    """No level is needed."""
    for seconds in (-5, 0, 0.9):
        desk.publish(seconds)
    assert await desk.sent() == [("", "q")] * 3
    assert desk.made == []


async def test_levels_are_made_once_and_only_as_high_as_needed(desk):
    """Whoever comes at the same moment waits for the first."""
    for seconds in (5, 4, 1, 9):
        desk.publish(seconds)
    sent = await desk.sent()
    assert [exchange for exchange, _ in sent] == levels(2, 2, 0, 3)
    assert desk.made == [levels(0, 1, 2), levels(3)]
    assert sent[0][1].endswith("1.0.1.q")


async def test_a_new_connection_may_be_to_a_broker_without_them(desk):
    """So they are made again in each life."""
    desk.publish(2)
    await turns()
    desk.link.lose()
    desk.link.connect()
    await turns()
    desk.publish(1)
    await turns()
    assert desk.made == [levels(0, 1), levels(0)]


async def test_after_a_message_that_was_refused_they_are_made_again(desk):
    """Somebody may have deleted a level."""
    first = desk.publish(1)
    await turns()
    desk.link.wire.confirm(1, acked=False)
    await asyncio.wait([first])
    assert first.exception() is not None
    desk.publish(1)
    await turns()
    assert desk.made == [levels(0), levels(0)]


async def test_a_connection_that_is_lost_over_it_is_waited_for(desk):
    """Within the timeout, as for every message."""
    desk.refusals = [BrokerUnavailable("gone"), BrokerUnavailable("gone")]
    desk.publish(1)
    assert [exchange for exchange, _ in await desk.sent()] == levels(0)


async def test_without_a_connection_it_is_not_sent_and_says_so(desk):
    """A typed error, in time."""
    desk.link.lose()
    await turns()
    failed = desk.publish(1, timeout=0.05)
    await asyncio.wait([failed])
    error = failed.exception()
    assert isinstance(error, NotConfirmed)
    assert (error.sent, error.message_id) == (False, "7")
