"""What is declared when, for many consumers on one connection after another."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs.broker.rabbitmq import shared_topology
from amqpjobs.broker.rabbitmq.shared_topology import AGAIN_AT_ONCE, SharedTopology
from amqpjobs.errors import BrokerUnavailable, TopologyMismatch
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import Topology, topology_of
from tests.unit.broker.rabbitmq.fake_wire import turns

NAMES = [f"q{n}" for n in range(30)]


class Declaring:
    """Stands in for declaring: what was declared on which connection, and what is refused."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.done: list[tuple[Any, str]] = []
        self.fails: dict[str, Exception] = {}
        self.at_once = self.most_at_once = 0
        monkeypatch.setattr(shared_topology, "ensure", self._ensure)
        whole = topology_of(Queue(name) for name in NAMES)
        self.shared = SharedTopology(whole, lambda name: topology_of([Queue(name)]), declare=True)

    async def _ensure(self, wire: Any, topology: Topology, *, declare: bool) -> None:
        assert declare
        names = {queue.name for queue in topology.queues} & set(NAMES)
        what = "whole" if len(names) > 1 else names.pop()
        self.done.append((wire, what))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await turns(3)
        self.at_once -= 1
        error = self.fails.get(what)
        if error is not None:
            raise error

    async def start(self, wire: Any, *names: str) -> list[Any]:
        starts = (self.shared.ensure(wire, name) for name in names)
        return await asyncio.gather(*starts, return_exceptions=True)


def a_wire() -> Any:
    return SimpleNamespace()


@pytest.fixture
def declaring(monkeypatch: pytest.MonkeyPatch) -> Declaring:
    """A shared topology of all names."""
    return Declaring(monkeypatch)


async def test_all_consumers_of_a_connection_share_one_declaration(declaring: Declaring) -> None:
    """So that starting is linear in the number of queues; on the next connection, too."""
    first, second = a_wire(), a_wire()
    assert not any(await declaring.start(first, *NAMES))
    assert declaring.done == [(first, "whole")]
    assert not any(await declaring.start(second, *NAMES))
    assert declaring.done[1:] == [(second, "whole")]


async def test_what_the_worker_declared_at_its_start_is_not_declared_again(
    declaring: Declaring,
) -> None:
    """The first connection is that of the worker's start."""
    wire = a_wire()
    await declaring.shared.ensure_all(wire)
    await declaring.start(wire, *NAMES)
    assert declaring.done == [(wire, "whole")]


async def test_a_consumer_that_starts_again_declares_its_own_queue(declaring: Declaring) -> None:
    """It was deleted; and a few at once, however many were."""
    wire = a_wire()
    await declaring.start(wire, *NAMES)
    declaring.most_at_once = 0
    await declaring.start(wire, *NAMES)
    assert declaring.done[1:] == [(wire, name) for name in NAMES]
    assert declaring.most_at_once == AGAIN_AT_ONCE


async def test_a_refused_queue_holds_no_other_back(declaring: Declaring) -> None:
    """Each declares its own then, and the one that is refused says so."""
    wire, refusal = a_wire(), TopologyMismatch("q3 differs", entity="queue 'q3'", difference="")
    declaring.fails = {"whole": refusal, "q3": refusal}
    results = await declaring.start(wire, *NAMES)
    assert [name for name, result in zip(NAMES, results, strict=True) if result] == ["q3"]
    assert results[3] is refusal
    assert declaring.done == [(wire, "whole"), *((wire, name) for name in NAMES)]


async def test_the_first_start_raises_what_was_refused(declaring: Declaring) -> None:
    """A worker does not start then."""
    declaring.fails["whole"] = refusal = TopologyMismatch("differs", entity="", difference="")
    with pytest.raises(TopologyMismatch) as raised:
        await declaring.shared.ensure_all(a_wire())
    assert raised.value is refusal


async def test_those_who_waited_for_a_failure_share_it(declaring: Declaring) -> None:
    """A broker that does not answer is not asked by each of them in turn; later it is again."""
    wire = a_wire()
    declaring.fails["whole"] = BrokerUnavailable("no answer")
    results = await declaring.start(wire, *NAMES)
    assert all(isinstance(r, BrokerUnavailable) and "no answer" in str(r) for r in results)
    assert declaring.done == [(wire, "whole")]
    declaring.fails.clear()
    assert not any(await declaring.start(wire, *NAMES))
    assert declaring.done[1:] == [(wire, "whole")]


async def test_one_that_is_cancelled_while_declaring_leaves_it_to_the_next(
    declaring: Declaring,
) -> None:
    """A worker may be told to stop meanwhile, or one queue be paused."""
    wire = a_wire()
    tasks = [asyncio.create_task(declaring.shared.ensure(wire, name)) for name in NAMES]
    await turns(2)
    tasks[0].cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert not any(results[1:])
    assert declaring.done == [(wire, "whole")] * 2
