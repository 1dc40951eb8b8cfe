"""What the start of a worker costs, in declarations and in channels: linear in its queues."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs import App
from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.broker.rabbitmq import declarer
from amqpjobs.broker.rabbitmq.declarer import MOST_CHANNELS, Declarer
from amqpjobs.broker.rabbitmq.inspection.queues import connected, delete_queues, depths
from amqpjobs.broker.rabbitmq.pause_marks import marked
from amqpjobs.broker.rabbitmq.shared_topology import SharedTopology
from amqpjobs.errors import TopologyMismatch
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import Topology, topology_of
from amqpjobs.worker import watchdog
from tests.support.waiting import until
from tests.support.workers import app_at, working

QUEUES = 40


class Declared(Counter[str]):
    """Declarations that were sent, by name; and those that were under way at once."""

    at_once = most_at_once = 0

    def clear(self) -> None:
        super().clear()
        self.most_at_once = 0


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Declared:
    """Counts what is declared, or looked at."""
    counts, declare = Declared(), declarer._declare

    async def counting(channel: Any, declaration: Any, passive: bool) -> Any:
        counts[getattr(declaration, "name", "binding")] += 1
        counts.at_once += 1
        counts.most_at_once = max(counts.most_at_once, counts.at_once)
        try:
            return await declare(channel, declaration, passive)
        finally:
            counts.at_once -= 1

    monkeypatch.setattr(declarer, "_declare", counting)
    return counts


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in the process."""
    async with Broker() as running:
        yield running


def app_of(url: str, queues: int = QUEUES, **settings: Any) -> App:
    app = app_at(url, **settings)
    for n in range(queues):
        app.job(queue=f"q{n}", name=f"job{n}")(lambda: None)
    return app


def size(topology: Topology) -> int:
    return len(topology.exchanges) + len(topology.queues) + len(topology.bindings)


WHOLE = topology_of(Queue(f"q{n}") for n in range(QUEUES))


async def test_a_worker_declares_each_queue_once(broker: Broker, declared: Declared) -> None:
    """Its publisher does so, as it is opened; what is parked is looked at once."""
    async with working(app_of(broker.url)):
        await until(lambda: declared["q39.parked"] >= 2, "parked jobs were counted")
        # One for the events, as well.
        assert declared.total() == size(WHOLE) + QUEUES + 1
    assert {declared[f"q{n}"] for n in range(QUEUES)} == {1}
    assert 1 < declared.most_at_once <= 2 * MOST_CHANNELS


async def test_a_publisher_that_was_open_before_proves_nothing(
    broker: Broker, declared: Declared
) -> None:
    """Its queues may have been deleted since."""
    app = app_of(broker.url)
    async with app.lifespan():
        declared.clear()
        async with connected(app.settings, "delete") as wire:
            await delete_queues(wire, [queue.name for queue in WHOLE.queues])
        async with working(app):
            assert {declared[f"q{n}"] for n in range(QUEUES)} == {1}


async def test_a_worker_that_may_not_declare_looks_once(broker: Broker, declared: Declared) -> None:
    """At the start, whatever the number of consumers."""
    async with working(app_of(broker.url)):
        pass
    declared.clear()
    async with working(app_of(broker.url, declare_topology=False)):
        await until(lambda: declared["q39.parked"] >= 2, "parked jobs were counted")
    assert {declared[f"q{n}"] for n in range(QUEUES)} == {1}


async def test_a_lost_connection_costs_one_declaration_more(
    broker: Broker, declared: Declared
) -> None:
    """The broker may have come back empty; each consumer need not find that out by itself."""
    async with working(app_of(broker.url)) as worker:
        await until(lambda: declared["q39.parked"] >= 2, "parked jobs were counted")
        declared.clear()
        assert worker._link.wire is not None
        worker._link.wire.protocol.abort()
        await until(lambda: not worker.ready, "the loss was noticed")
        await until(lambda: worker.ready, "it consumes again")
        assert {declared[f"q{n}"] for n in range(QUEUES)} == {1}
        assert declared.total() == size(WHOLE)


async def test_a_deleted_queue_costs_its_own_declaration(
    broker: Broker, declared: Declared
) -> None:
    """The others were not lost."""
    app = app_of(broker.url)
    async with working(app) as worker:
        await until(lambda: declared["q39.parked"] >= 2, "parked jobs were counted")
        declared.clear()
        async with connected(app.settings, "delete") as wire:
            await delete_queues(wire, ["q7", "q7.dead", "q7.parked"])
        await until(lambda: declared["q7"] > 0 and worker.ready, "it is there again")
    assert {name for name in declared if name.startswith("q")} == {"q7", "q7.dead", "q7.parked"}
    assert declared.total() == size(topology_of([Queue("q7")]))


async def test_an_error_names_the_first_queue_that_is_refused(broker: Broker) -> None:
    """Also where many are declared side by side."""
    settings = app_at(broker.url).settings
    async with connected(settings, "declare") as wire, Declarer(wire) as made:
        await made.apply(topology_of(Queue(f"q{n}", type="classic") for n in (11, 12, 13)))
        for _ in range(5):
            with pytest.raises(TopologyMismatch, match="queue 'q11' is there with other") as raised:
                await made.apply(WHOLE)
            assert raised.value.entity == "queue 'q11'"


async def test_many_queues_are_compared_and_counted_in_their_order(broker: Broker) -> None:
    """`topology check`, `doctor` and `queues` look at many side by side, too."""
    settings = app_at(broker.url).settings
    names = [f"q{n}" for n in range(QUEUES)]
    async with connected(settings, "declare") as wire, Declarer(wire) as made:
        missing = await made.check(WHOLE)
        assert {finding.state for finding in missing} == {"missing"}
        await made.apply(WHOLE)
        found = await made.check(WHOLE)
        assert [finding.entity for finding in found] == [finding.entity for finding in missing]
        assert {finding.state for finding in found} == {"present"}
        counted = await depths(wire, [*names, "none"], settings)
        assert list(counted) == [*names, "none"]
        assert [name for name, depth in counted.items() if depth is None] == ["none"]
        assert await marked(wire, names) == set()


async def test_few_channels_suffice_where_few_are_allowed(broker: Broker) -> None:
    """Declaring takes half of what is left of them at most, and one always."""
    async with connected(app_at(broker.url).settings, "declare") as wire:
        wire.channel_max = 5
        async with Declarer(wire) as made:
            await made.look_at_all([])
            await made.apply(WHOLE)
        assert wire.channels_for(8) == 2
        wire.channel_max = 1
        assert wire.channels_for(8) == 1


async def test_the_watchdog_leaves_a_consumer_alone_that_waits_for_the_broker(
    broker: Broker, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Of many queues some wait for seconds after a lost connection; none of them is missing."""
    monkeypatch.setattr(watchdog, "WATCH_INTERVAL", 0.02)
    held, looks = asyncio.Event(), 0
    ensure = SharedTopology.ensure

    async def waiting(self: SharedTopology, wire: Any, queue: str) -> None:
        if held.is_set():
            await until(lambda: not held.is_set(), "the test lets it")
        await ensure(self, wire, queue)

    async def sleep(seconds: float) -> None:
        nonlocal looks
        looks += 1
        await asyncio.sleep(seconds)

    monkeypatch.setattr(SharedTopology, "ensure", waiting)
    monkeypatch.setattr(watchdog, "asyncio", SimpleNamespace(sleep=sleep))
    async with working(app_of(broker.url, 3)) as worker:
        held.set()
        assert worker._link.wire is not None
        worker._link.wire.protocol.abort()
        consumers = worker._consuming.subscriptions if worker._consuming else []
        await until(lambda: all(s.starting for s in consumers), "they wait")
        before = looks
        await until(lambda: looks > before + 4, "the watchdog has looked")
        held.clear()
        await until(lambda: worker.ready, "it consumes again")
    assert "consumer missing, starting it again" not in caplog.messages
