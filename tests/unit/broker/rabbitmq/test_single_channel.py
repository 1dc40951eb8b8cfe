"""The consumer of a singleton queue: cancelled with the settlement of its job, and not before."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pamqp.frame
import pytest
from pamqp import commands

from amqpjobs.broker.rabbitmq import lives
from amqpjobs.broker.rabbitmq import subscription as subscription_module
from amqpjobs.broker.rabbitmq.delivery import Delivery
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.worker.flow.place import Place
from tests.unit.broker.rabbitmq.fake_wire import Link, turns


class Bench:
    """A consumer with one delivery, whose job runs."""

    def __init__(self) -> None:
        self.link = Link()
        self.place = Place("queue")
        self.deliveries: list[Delivery] = []
        self.subscription = Subscription(
            self.link, "queue", 1, self.deliveries.append, self._ensure, place=self.place
        )
        self.place.vacated.append(self.subscription.vacated)
        self.task = asyncio.create_task(self.subscription.run())

    async def _ensure(self, wire: Any) -> None: ...

    async def begin(self) -> Delivery:
        self.wire = self.link.connect()
        await turns()
        return self.deliver(1)

    def deliver(self, tag: int) -> Delivery:
        self.wire.deliver(tag)
        delivery = self.deliveries[-1]
        if tag == 1:
            self.place.enter(delivery)
        return delivery

    def written(self) -> list[str]:
        """The frames since the last look, in short."""
        data, found = bytes(self.wire.transport.written), []
        self.wire.transport.written.clear()
        while data:
            size, _, method = pamqp.frame.unmarshal(data)
            data = data[size:]
            match method:
                case commands.Basic.Cancel():
                    found.append("cancel" if method.nowait else "cancel and answer")
                case commands.Basic.Ack():
                    found.append(f"ack {method.delivery_tag}")
                case commands.Basic.Nack():
                    found.append(f"nack {method.delivery_tag}")
        return found

    @property
    def calls(self) -> list[str]:
        return list(self.wire.channels[-1].calls)


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Bench]:
    monkeypatch.setattr(lives, "RESTART_PAUSE", 0.0)
    monkeypatch.setattr(subscription_module, "ACKS_ARRIVE", 0.0)
    made = Bench()
    yield made
    made.task.cancel()
    await asyncio.wait([made.task])


@pytest.mark.parametrize("how", ["ack", "release"])
async def test_it_is_cancelled_in_front_of_the_settlement(bench: Bench, how: str) -> None:
    """A worker that stops: another one is the active one when this job is over."""
    delivery = await bench.begin()
    await bench.subscription.cancel()
    await turns()
    assert bench.written() == []
    assert bench.subscription.consuming
    getattr(delivery, how)()
    bench.place.leave()
    await turns()
    assert bench.written() == ["cancel", f"{'ack' if how == 'ack' else 'nack'} 1"]
    assert not bench.subscription.consuming


async def test_while_it_goes_on_an_ack_cancels_nothing(bench: Bench) -> None:
    """As of a handler that ignores its timeout: its job has failed, and it runs."""
    delivery = await bench.begin()
    bench.place.linger("handler")
    await bench.subscription.cancel()
    delivery.ack()
    bench.place.leave()
    await turns()
    assert bench.written() == ["ack 1"]
    late = bench.deliver(2)
    late.release()
    await bench.subscription.close()
    await turns()
    assert bench.written() == []
    bench.place.end("handler")
    await turns()
    assert bench.written() == ["cancel", "nack 2"]


async def test_a_pause_that_ends_first_costs_nothing(bench: Bench) -> None:
    """It goes on being the active one."""
    delivery = await bench.begin()
    bench.subscription.consume_with(0)
    await turns()
    bench.subscription.consume_with(1)
    await turns()
    delivery.ack()
    bench.place.leave()
    await turns()
    assert bench.written() == ["ack 1"]
    assert bench.subscription.starts == 1
    assert bench.subscription.consuming


async def test_a_pause_ends_it_with_its_job_and_it_begins_again(bench: Bench) -> None:
    """On the same channel, behind those that stand by."""
    delivery = await bench.begin()
    bench.subscription.consume_with(0)
    await turns()
    delivery.ack()
    bench.place.leave()
    await turns()
    assert bench.written() == ["cancel", "ack 1"]
    bench.subscription.consume_with(1)
    await turns()
    assert bench.subscription.starts == 2
    assert bench.subscription.consuming


async def test_one_that_holds_nothing_is_cancelled_at_once(bench: Bench) -> None:
    """With an answer, as of other queues."""
    delivery = await bench.begin()
    delivery.ack()
    bench.place.leave()
    await turns()
    await bench.subscription.cancel()
    assert not bench.subscription.consuming
    assert bench.written() == ["ack 1"]
    assert any("cancel" in call for call in bench.calls)
