"""What was acked and comes again: only if the ack may have been lost is it known."""

from types import SimpleNamespace

import pytest

from amqpjobs.broker.rabbitmq import delivery as deliveries_module
from amqpjobs.jobs.message.header_names import (
    HEADER_ATTEMPT,
    HEADER_COPY,
    HEADER_DUE,
    HEADER_EPOCH,
    LONGEST_TOKEN,
)
from amqpjobs.worker import recently_settled as settled_module
from amqpjobs.worker.recently_settled import ARRIVES, Settled, has_key
from tests.unit.broker.rabbitmq.fake_wire import turns
from tests.unit.worker.hand import BROKEN_HEADER, KEY_OF, Hand, ours, own_id

GIVEN = ours("7", body=b"1")


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
    settled = Settled(KEY_OF)
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
        settled, first = Settled(KEY_OF), hand.give()
        first.lose()
        settled.acked(first)
        assert settled.knows(hand.give(redelivered=True))


async def test_what_differs_in_its_id_costs_no_key():
    """After a restart hundreds of redeliveries are compared with hundreds that wait."""
    async with Hand() as hand:
        key = KEY_OF(hand.give(**GIVEN))
        same, other = hand.give(**GIVEN), hand.give(**{**GIVEN, "body": b"2"})
        unreadable = hand.give(header=BROKEN_HEADER)
        found = [has_key(each, key, KEY_OF) for each in (same, other, unreadable)]
        assert found == [True, False, False]
        others = [hand.give(**ours(str(n), body=b"1")) for n in range(100, 200)]
        assert not any(has_key(each, key, None) for each in others)  # to call it would raise


@pytest.mark.parametrize(
    "publish",
    [
        {"message_id": "order-7", "app_id": "app"},
        {"message_id": "5f0e3a52-6a9b-5f1c-9d3e-6b1c8e3f7a10", "app_id": "app"},
        {"message_id": own_id("a"), "app_id": "another"},
        {"message_id": own_id("a"), "app_id": None},
        {"message_id": None},
        {"message_id": own_id("a"), "headers": {HEADER_COPY: ""}},
        {"message_id": own_id("a"), "headers": {HEADER_COPY: 7}},
        {"message_id": own_id("a"), "headers": {HEADER_COPY: "x" * (LONGEST_TOKEN + 1)}},
    ],
    ids=["own id", "key", "other app", "no app", "no id", "empty", "number", "long"],
)
async def test_what_does_not_say_which_publish_it_is_is_never_known(publish):
    """Another program may choose the same id twice, and mean two jobs."""
    async with Hand() as hand:
        settled = Settled(KEY_OF)
        settled.remember(hand.give(**publish))
        assert not settled.knows(hand.give(redelivered=True, **publish))


async def test_a_token_tells_publishes_apart_whatever_their_ids():
    """A key, or a webhook, gives every publish the same id; another program may write a token."""
    async with Hand() as hand:
        settled = Settled(KEY_OF)
        first, second = ({"message_id": "k", "headers": {HEADER_COPY: t}} for t in "ab")
        settled.remember(hand.give(**first))
        assert settled.knows(hand.give(redelivered=True, **first))
        assert not settled.knows(hand.give(redelivered=True, **second))
        assert not settled.knows(hand.give(redelivered=True, body=b"other", **first))


async def test_copies_of_an_older_release_are_told_apart_by_what_they_say():
    """They have no token, and their attempts, times and epochs differ."""
    async with Hand() as hand:
        settled = Settled(KEY_OF)
        settled.remember(hand.give(**ours()))
        for name in (HEADER_ATTEMPT, HEADER_DUE, HEADER_EPOCH):
            assert not settled.knows(hand.give(redelivered=True, **ours(headers={name: 2})))
        assert settled.knows(hand.give(redelivered=True, **ours()))
