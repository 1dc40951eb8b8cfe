"""What was acked and comes again: only if the ack may have been lost is it known."""

from types import SimpleNamespace

from amqpjobs.rabbitmq import deliveries as deliveries_module
from amqpjobs.worker import settled as settled_module
from amqpjobs.worker.settled import ARRIVES, Settled
from tests.rabbitmq.fake_wire import turns
from tests.worker.hand import Hand

GIVEN = {"type": "job", "message_id": "7", "body": b"1"}


class Clock:
    now = 100.0

    def monotonic(self):
        return self.now


async def known(monkeypatch, *, lost_after):
    """Whether what was acked is known when it comes again on another channel; the first one was
    lost so many seconds after the ack."""
    clock = Clock()
    for module in (deliveries_module, settled_module):
        monkeypatch.setattr(module, "time", SimpleNamespace(monotonic=clock.monotonic))
    settled = Settled()
    async with Hand() as hand, Hand() as again:
        delivery = hand.give(**GIVEN)
        delivery.ack()
        settled.acked(delivery)
        if lost_after is not None:
            clock.now += lost_after
            hand.link.lose()
            await turns()
        clock.now += 1000
        assert not settled.knows(again.give(**GIVEN))
        return settled.knows(again.give(redelivered=True, **GIVEN))


async def test_an_ack_that_may_have_been_lost_is_known(monkeypatch):
    """Its connection was dead already, or died right behind it."""
    assert await known(monkeypatch, lost_after=0.01)
    assert await known(monkeypatch, lost_after=ARRIVES - 1)


async def test_an_ack_that_has_arrived_is_forgotten(monkeypatch):
    """The same message, published again and given back, must run."""
    assert not await known(monkeypatch, lost_after=None)
    assert not await known(monkeypatch, lost_after=ARRIVES + 1)


async def test_an_ack_of_what_was_taken_back_is_known_to_be_lost():
    """Its channel is there, and RabbitMQ gives it out again all the same."""
    async with Hand() as hand:
        settled, first = Settled(), hand.give()
        first.lose()
        settled.acked(first)
        assert settled.knows(hand.give(redelivered=True))
