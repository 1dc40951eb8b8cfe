"""Consuming, the broker's part played by the test: deliveries in, and acks that are true."""

import asyncio
import random

import pytest
from aiormq import exceptions as aiormq_errors
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pamqp import commands

from amqpjobs.broker.rabbitmq import lives
from amqpjobs.broker.rabbitmq import subscription as consumption_module
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import ConfigurationError, DecodeError, TopologyMismatch
from amqpjobs.jobs.message.properties import Properties
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


class Bench:
    """A subscription that runs, its link, and what it delivered by tag."""

    def __init__(self, ensure=None) -> None:
        self.link = Link()
        self.deliveries = {}
        self.ensured = []
        self._ensure_more = ensure
        self.subscription = Subscription(self.link, "queue", 7, self._take, self._ensure)
        self.task = asyncio.create_task(self.subscription.run())

    async def _ensure(self, wire):
        self.ensured.append(wire.generation)
        if self._ensure_more is not None:
            self._ensure_more()

    def _take(self, delivery):
        self.deliveries[delivery.tag] = delivery

    @property
    def wire(self):
        return self.link.wire

    async def connect(self):
        wire = self.link.connect()
        await turns()
        return wire

    async def end(self):
        self.task.cancel()
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()


@pytest.fixture
async def bench(monkeypatch):
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.0)
    monkeypatch.setattr(consumption_module, "ACKS_ARRIVE", 0.0)
    made = Bench()
    yield made
    await made.end()


@pytest.fixture
async def wire(bench):
    return await bench.connect()


def words(wire):
    """The settlements in short: ``a3`` one ack, ``A3`` all up to it, ``n3`` given back."""
    found = []
    for frame in wire.settlements():
        if isinstance(frame, commands.Basic.Ack):
            found.append(f"{'A' if frame.multiple else 'a'}{frame.delivery_tag}")
        else:
            assert frame.requeue
            assert not frame.multiple
            found.append(f"n{frame.delivery_tag}")
    return found


class Model:
    """What the broker makes of settlements: an ack of what it has not outstanding is an error that
    costs the channel."""

    def __init__(self) -> None:
        self.acked, self.returned = set(), set()

    def read(self, settlements, delivered):
        for frame in settlements:
            tag = frame.delivery_tag
            assert tag in delivered - self.acked - self.returned, f"unknown delivery tag {tag}"
            if isinstance(frame, commands.Basic.Nack):
                self.returned.add(tag)
            elif frame.multiple:
                self.acked |= {t for t in delivered if t <= tag} - self.returned
            else:
                self.acked.add(tag)


async def test_a_delivery_is_what_was_sent(bench, wire):
    """Its body, its properties when they are looked at, whether it was delivered before."""
    properties = Properties(type="resize", message_id="7", headers={"a": 1})
    wire.deliver(1, properties, b"body", redelivered=True)
    delivery = bench.deliveries[1]
    assert (delivery.queue, delivery.body, delivery.redelivered) == ("queue", b"body", True)
    assert (delivery.header.type, delivery.header.message_id) == ("resize", "7")
    assert delivery.properties() == properties
    assert repr(delivery) == "<Delivery 1 of queue>"


async def test_properties_that_cannot_be_read_are_found_when_they_are_looked_at(bench, wire):
    """The delivery is there to be put aside, its body untouched."""
    wire.deliver(1, body=b"body", header=b"\x00\x3c\x00\x00" + (4).to_bytes(8) + b"\xff\xff")
    assert bench.deliveries[1].body == b"body"
    with pytest.raises(DecodeError):
        _ = bench.deliveries[1].header


async def test_the_acks_of_one_turn_are_one_frame(bench, wire):
    """As far as they reach up from the lowest that is open."""
    for tag in range(1, 6):
        wire.deliver(tag)
    for tag in (3, 1, 2):
        bench.deliveries[tag].ack()
    assert words(wire) == []
    await turns()
    assert words(wire) == ["A3"]
    bench.deliveries[5].ack()
    bench.deliveries[4].ack()
    await turns()
    assert words(wire) == ["A3", "A5"]


async def test_an_ack_above_an_open_delivery_is_its_own(bench, wire):
    """`multiple` would ack the one that still runs."""
    for tag in range(1, 5):
        wire.deliver(tag)
    bench.deliveries[2].ack()
    bench.deliveries[4].ack()
    await turns()
    assert sorted(words(wire)) == ["a2", "a4"]
    bench.deliveries[1].ack()
    bench.deliveries[3].ack()
    await turns()
    assert words(wire)[2:] == ["A3"]


async def test_a_delivery_that_was_given_back_is_not_acked_by_the_others(bench, wire):
    """It stands below the lowest open one then, and the broker has it."""
    for tag in range(1, 4):
        wire.deliver(tag)
    bench.deliveries[1].release()
    bench.deliveries[2].ack()
    bench.deliveries[3].ack()
    await turns()
    assert words(wire) == ["n1", "A3"]


async def test_what_is_given_back_goes_at_once_and_behind_the_acks_before_it(bench, wire):
    """In the order in which it was said."""
    for tag in range(1, 4):
        wire.deliver(tag)
    bench.deliveries[1].ack()
    bench.deliveries[2].release()
    bench.deliveries[3].ack()
    await turns()
    assert words(wire) == ["A1", "n2", "A3"]


@pytest.mark.parametrize("first", ["ack", "release"])
@pytest.mark.parametrize("second", ["ack", "release"])
async def test_a_delivery_is_settled_once(bench, wire, first, second):
    """The second time is a bug of ours, and raises; nothing of it is sent."""
    wire.deliver(1)
    getattr(bench.deliveries[1], first)()
    assert bench.deliveries[1].settled
    with pytest.raises(AssertionError, match="settled twice"):
        getattr(bench.deliveries[1], second)()
    await turns()
    assert words(wire) == ["A1" if first == "ack" else "n1"]


@settings(max_examples=150, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(1, 40))
def test_in_any_order_the_broker_has_acked_exactly_what_succeeded(chance, count):
    """Random deliveries, acks, returns and turns: compared with the set that a broker computes."""

    async def scenario():
        bench = Bench()
        wire = await bench.connect()
        succeeded, returned, model, seen = set(), set(), Model(), 0
        waiting = list(range(1, count + 1))
        open_tags = []
        while waiting or open_tags:
            if waiting and (not open_tags or chance.random() < 0.5):
                tag = waiting.pop(0)
                wire.deliver(tag)
                open_tags.append(tag)
            else:
                tag = open_tags.pop(chance.randrange(len(open_tags)))
                if chance.random() < 0.7:
                    bench.deliveries[tag].ack()
                    succeeded.add(tag)
                else:
                    bench.deliveries[tag].release()
                    returned.add(tag)
            if chance.random() < 0.3:
                bench.subscription.flush()
            if chance.random() < 0.3:
                await turns(2)
            new = wire.settlements()[seen:]
            seen += len(new)
            model.read(new, set(bench.deliveries))
            assert model.acked <= succeeded
            assert model.returned <= returned
        await turns()
        model.read(wire.settlements()[seen:], set(bench.deliveries))
        assert (model.acked, model.returned) == (succeeded, returned)
        await bench.end()

    asyncio.run(scenario())


async def test_a_delivery_of_a_lost_connection_is_stale_and_its_ack_goes_nowhere(bench, wire):
    """The broker delivers it again; the same tag means another message now."""
    wire.deliver(1)
    old = bench.deliveries[1]
    bench.link.lose()
    again = await bench.connect()
    assert old.stale
    again.deliver(1, body=b"another")
    assert not bench.deliveries[1].stale
    old.ack()
    await turns()
    assert words(again) == []
    bench.deliveries[1].ack()
    await turns()
    assert words(again) == ["A1"]


async def test_acks_that_wait_when_the_connection_is_lost_are_dropped(bench, wire):
    """They belong to tags that are worth nothing any more."""
    wire.deliver(1)
    bench.deliveries[1].ack()
    bench.link.lose()
    again = await bench.connect()
    await turns()
    assert words(again) == []


async def test_it_consumes_with_its_prefetch_when_the_queue_is_ensured(bench, wire):
    """In this order."""
    assert bench.ensured == [1]
    assert wire.channels[0].prefetch == 7
    assert wire.channels[0].calls == ["consume queue"]
    assert bench.subscription.consuming
    assert repr(bench.subscription) == "<Subscription queue: consuming, start 1>"


async def test_a_lost_connection_means_consuming_again_on_the_next(bench, wire):
    """The queue is ensured again: it may be another broker, or an empty one."""
    bench.link.lose()
    await turns()
    assert not bench.subscription.consuming
    again = await bench.connect()
    assert again.channels[0].calls == ["consume queue"]
    assert bench.ensured == [1, 2]
    assert bench.subscription.consuming


async def test_a_consumer_that_the_broker_cancels_is_started_again_on_its_channel(bench, wire):
    """So that what runs can still be settled there."""
    wire.deliver(1)
    channel = wire.channels[0]
    channel.consumers.clear()
    for callback in tuple(channel.on_consumer_cancel_callbacks):
        callback(None)
    assert not bench.subscription.consuming
    await turns()
    assert channel.calls == ["consume queue"] * 2
    assert len(wire.channels) == 1
    assert bench.subscription.consuming
    bench.deliveries[1].ack()
    await turns()
    assert words(wire) == ["A1"]


async def test_the_watchdog_can_have_it_start_again(bench, wire):
    """When this side missed that the consumer is gone."""
    wire.channels[0].consumers.clear()
    assert not bench.subscription.consuming
    bench.subscription.restart()
    await turns()
    assert bench.subscription.consuming
    assert bench.subscription.starts == 2


async def test_a_channel_that_the_broker_closes_is_followed_by_another(bench, wire):
    """What was delivered on the first one is stale."""
    wire.deliver(1)
    wire.channels[0].refuse(aiormq_errors.ChannelPreconditionFailed("timeout"))
    await turns()
    assert wire.channels[1].calls == ["consume queue"]
    assert bench.deliveries[1].stale
    assert bench.subscription.consuming


async def test_a_queue_that_is_missing_is_tried_again(monkeypatch):
    """Somebody may be about to declare it."""
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.0)
    failures = [TopologyMismatch("missing", entity="queue", difference="missing")] * 3

    def fail():
        if failures:
            raise failures.pop()

    bench = Bench(fail)
    await bench.connect()
    assert bench.ensured == [1, 1, 1, 1]
    assert bench.subscription.consuming
    await bench.end()


async def test_what_no_retry_can_fix_ends_it_at_the_start():
    """Too many channels for the broker's limit, say."""

    def fail():
        raise ConfigurationError("never")

    bench = Bench(fail)
    await bench.connect()
    assert isinstance(bench.task.exception(), ConfigurationError)


async def test_cancelling_leaves_what_is_unsettled_to_be_settled(bench, wire):
    """No more is asked for; jobs that run are acked on the same channel."""
    wire.deliver(1)
    wire.deliver(2)
    await bench.subscription.cancel()
    assert wire.channels[0].calls == ["consume queue", "cancel tag1"]
    assert not bench.subscription.consuming
    bench.deliveries[1].ack()
    bench.deliveries[2].release()
    await turns()
    assert words(wire) == ["A1", "n2"]
    await bench.subscription.close()
    assert wire.channels[0].calls[-1] == "close"


async def test_closing_writes_the_acks_that_wait_before_it_leaves(bench, wire):
    """They would be lost with the channel, and their jobs would run again."""
    wire.deliver(1)
    await bench.subscription.cancel()
    bench.deliveries[1].ack()
    await bench.subscription.close()
    assert words(wire) == ["A1"]


async def test_after_it_was_cancelled_it_does_not_consume_again(bench, wire):
    """Though the connection goes and comes while the last jobs end."""
    await bench.subscription.cancel()
    bench.link.lose()
    await turns()
    again = bench.link.connect()
    await turns()
    assert again.channels == []
    assert bench.task.done()


async def test_cancelling_without_a_connection_asks_nobody(bench):
    """There is nothing to cancel."""
    await bench.subscription.cancel()
    await bench.subscription.close()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32))
def test_over_many_lives_no_ack_reaches_the_wrong_one(seed):
    """Deliveries of all lives are settled in random order: each broker gets acks of its own."""

    async def scenario():
        chance = random.Random(seed)
        bench = Bench()
        for _ in range(4):
            wire = await bench.connect()
            held, model = [], Model()
            for tag in range(1, chance.randint(2, 8)):
                wire.deliver(tag)
                held.append(bench.deliveries[tag])
            delivered = set(range(1, len(held) + 1))
            chance.shuffle(held)
            late = held[: len(held) // 2]
            for delivery in held[len(held) // 2 :]:
                delivery.ack()
            await turns(3)
            model.read(wire.settlements(), delivered)
            assert model.acked == delivered - {d.tag for d in late}
            bench.link.lose()
            await turns()
            before = bytes(wire.transport.written)
            for delivery in late:
                delivery.ack() if chance.random() < 0.5 else delivery.release()
            await turns(3)
            assert bytes(wire.transport.written) == before
        await bench.end()

    asyncio.run(scenario())


async def test_who_is_told_of_a_lost_consumer_sees_what_is_stale(monkeypatch):
    """Whether its channel went along decides what becomes of what it held."""
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.0)
    told = []
    bench = Bench()
    bench.subscription._on_lost = lambda queue, reason: told.append(
        (queue, reason, bench.deliveries[1].stale)
    )
    wire = await bench.connect()
    wire.deliver(1)
    bench.subscription.restart()
    await turns()
    bench.link.lose()
    await turns()
    assert [stale for _, _, stale in told] == [False, True]
    assert told[0][:2] == ("queue", "cancelled by the broker, or by the watchdog")
    await bench.end()


@pytest.mark.parametrize("timeout", [None, 5000])
async def test_each_connection_is_asked_for_the_arguments(timeout):
    """The next one may be to another version."""
    arguments = {"x-consumer-timeout": timeout} if timeout else None
    asked = []

    def tell(wire, queue):
        asked.append((wire.generation, queue))
        return arguments

    link = Link()
    subscription = Subscription(link, "queue", 7, lambda delivery: None, _nothing, tell)
    task = asyncio.create_task(subscription.run())
    wire = link.connect()
    await turns()
    assert asked == [(1, "queue")]
    assert wire.channels[0].arguments == arguments
    task.cancel()
    await asyncio.wait([task])


async def _nothing(wire):
    """The queue is there."""


# --- paused, and with another prefetch -------------------------------------------------------


async def test_a_paused_consumer_keeps_its_channel(bench, wire):
    """No more is delivered; what runs is settled where it came; then it goes on there."""
    wire.deliver(1)
    bench.subscription.consume_with(0)
    await bench.subscription.rested()
    assert bench.subscription.paused
    assert not bench.subscription.consuming
    assert wire.channels[0].calls == ["consume queue", "cancel tag1"]
    bench.deliveries[1].ack()
    await turns()
    assert words(wire) == ["A1"]
    bench.subscription.consume_with(3)
    await turns()
    assert wire.channels[0].calls == ["consume queue", "cancel tag1", "consume queue"]
    assert (wire.channels[0].prefetch, len(wire.channels)) == (3, 1)
    assert bench.subscription.consuming
    assert not bench.subscription.paused


async def test_another_prefetch_means_another_consumer(bench, wire):
    """RabbitMQ takes a prefetch for the consumers that are started after it."""
    bench.subscription.consume_with(1)
    await turns()
    assert wire.channels[0].calls == ["consume queue", "cancel tag1", "consume queue"]
    assert wire.channels[0].prefetch == 1
    bench.subscription.consume_with(1)
    bench.subscription.consume_with(5)
    bench.subscription.consume_with(1)
    await turns()
    assert len(wire.channels[0].calls) == 3, "nothing has changed in the end"
    assert bench.subscription.consuming


async def test_a_lost_connection_does_not_end_a_pause(bench, wire):
    """It stays paused over all lives of the connection, until it is told otherwise."""
    wire.deliver(1)
    bench.subscription.consume_with(0)
    await bench.subscription.rested()
    bench.link.lose()
    await turns()
    assert bench.deliveries[1].stale
    await bench.connect()
    bench.link.lose()
    again = await bench.connect()
    assert again.channels == []
    bench.subscription.consume_with(7)
    await turns()
    assert again.channels[0].calls == ["consume queue"]


async def test_a_pause_begins_without_a_connection_too(bench, wire):
    """Nobody is asked, and nobody waits."""
    bench.link.lose()
    await turns()
    bench.subscription.consume_with(0)
    async with asyncio.timeout(5):
        await bench.subscription.rested()
    again = await bench.connect()
    assert again.channels == []


async def test_a_channel_that_is_closed_in_a_pause_is_left(bench, wire):
    """The next consumer has a new one."""
    bench.subscription.consume_with(0)
    await bench.subscription.rested()
    wire.channels[0].refuse(aiormq_errors.ChannelPreconditionFailed("timeout"))
    await turns()
    assert bench.subscription.paused
    bench.subscription.consume_with(7)
    await turns()
    assert wire.channels[1].calls == ["consume queue"]
    assert bench.subscription.consuming


async def test_a_paused_consumer_can_be_cancelled(bench, wire):
    """A worker that stops: nothing is asked for any more, and the rest can be settled."""
    wire.deliver(1)
    bench.subscription.consume_with(0)
    await bench.subscription.rested()
    await bench.subscription.cancel()
    bench.deliveries[1].release()
    await turns()
    assert bench.task.done()
    assert words(wire) == ["n1"]
    assert wire.channels[0].calls == ["consume queue", "cancel tag1"]


async def test_a_pause_that_comes_while_it_starts_is_kept():
    """The queue is being declared when it is told: it does not consume."""
    made = []

    def pause():
        made[0].subscription.consume_with(0)

    bench = Bench(pause)
    made.append(bench)
    wire = await bench.connect()
    assert not bench.subscription.consuming
    assert all(channel.calls == [] for channel in wire.channels)
    await bench.subscription.rested()
    await bench.end()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([0, 1, 7, "down", "up", "turn"]), max_size=30))
@example(["up", "turn", 1, "turn", "turn", "down"])  # lost between two consumers
def test_whatever_it_is_told_in_the_end_it_does(steps):
    """Prefetches and connections come and go in any order: one consumer, or none, as told last."""

    async def scenario():
        bench = Bench()
        wanted = 7
        for step in [*steps, "up"]:
            match step, bench.wire:
                case "turn", _:
                    await turns(2)
                case "up", None:
                    bench.link.connect()
                case "down", wire if wire is not None:
                    bench.link.lose()
                case int(), _:
                    wanted = step
                    bench.subscription.consume_with(step)
        async with asyncio.timeout(5):
            while bench.subscription.consuming != (wanted > 0):
                await asyncio.sleep(0)
            await turns()
        consumers = [len(c.consumers) for c in bench.wire.channels if not c.is_closed]
        assert sum(consumers) == (1 if wanted else 0)
        if wanted:
            assert bench.wire.channels[-1].prefetch == wanted
        await bench.end()

    asyncio.run(scenario())
