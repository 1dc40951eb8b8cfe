"""What was acked and comes again: only if the ack may have been lost is it known."""

from types import SimpleNamespace

from amqpjobs.rabbitmq import deliveries as deliveries_module
from amqpjobs.worker import settled as settled_module
from amqpjobs.worker.settled import ARRIVES, Settled, has_key, key_of
from tests.rabbitmq.fake_wire import turns
from tests.worker.hand import BROKEN_HEADER, Hand

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


async def test_what_differs_in_its_id_costs_no_key(monkeypatch):
    """After a restart hundreds of redeliveries are compared with hundreds that wait."""
    async with Hand() as hand:
        key = key_of(hand.give(**GIVEN))
        same, other = hand.give(**GIVEN), hand.give(**{**GIVEN, "body": b"2"})
        unreadable = hand.give(header=BROKEN_HEADER)
        assert [has_key(each, key) for each in (same, other, unreadable)] == [True, False, False]
        strangers = [hand.give(type="job", message_id=str(n), body=b"1") for n in range(100, 200)]
        monkeypatch.setattr(settled_module, "key_of", None)  # to call it would raise
        assert not any(has_key(each, key) for each in strangers)
