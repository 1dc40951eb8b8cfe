"""A consumer that has gone is given nothing more, whatever it still holds."""

import pytest

from amqpjobs.broker.embedded.clock import ManualClock
from amqpjobs.broker.embedded.model.vhost import VirtualHost
from amqpjobs.broker.embedded.profile import PROFILES, profile_named

HEADER = b"\0\0"
"""No properties."""


class Heard:
    """Notes what is delivered."""

    def __init__(self):
        self.tags = []

    def deliver(self, consumer_tag, delivery_tag, redelivered, message):
        self.tags.append(delivery_tag)

    def confirm(self, delivery_tag):
        """Nobody waits for it."""


@pytest.fixture(params=PROFILES)
def host(request):
    return VirtualHost(profile_named(request.param), ManualClock())


def channel_on(host, kind):
    heard = Heard()
    channel = host.open_channel(object(), heard)
    channel.declare_queue("q", durable=True, arguments={"x-queue-type": kind})
    return channel, heard


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_what_a_closed_channel_held_waits_for_others(host, kind):
    """It is not given to the consumer that was just closed."""
    channel, heard = channel_on(host, kind)
    channel.qos(2)
    channel.consume("q", "tag")
    host.dispatch()
    for _ in range(3):
        channel.publish("", "q", HEADER, b"")
    assert heard.tags == [1, 2]
    channel.close()
    assert heard.tags == [1, 2]
    assert (host.queues["q"].ready, host.queues["q"].unacked) == (3, 0)


@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_an_ack_after_a_cancel_brings_no_more(host, kind):
    """A consumer that was full, and has gone, does not come back by it."""
    channel, heard = channel_on(host, kind)
    channel.qos(1)
    channel.consume("q", "tag")
    host.dispatch()
    for _ in range(2):
        channel.publish("", "q", HEADER, b"")
    channel.cancel("tag")
    channel.ack(1)
    assert heard.tags == [1]
    assert (host.queues["q"].ready, host.queues["q"].unacked) == (1, 0)
