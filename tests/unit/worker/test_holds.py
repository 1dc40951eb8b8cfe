"""When a worker looks at what operators have paused, RabbitMQ played by the test."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from amqpjobs.errors import BrokerUnavailable
from amqpjobs.worker import holds as module
from amqpjobs.worker.holds import Holds
from tests.support.waiting import until


async def nothing() -> None:
    """There is nothing to wait for."""


def lost_wire() -> Any:
    """A connection that RabbitMQ has closed over the marker, whose queue has no leader."""
    lost = asyncio.Event()
    lost.set()
    return SimpleNamespace(lost=lost, protocol=SimpleNamespace(refusal=(541, "INTERNAL_ERROR")))


async def test_new_connections_do_not_cut_the_pause_of_a_marker_that_is_down_short(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each look costs the connection, and the next connection would look again at once: the worker
    would consume nothing. A change by an operator is a reason to look."""
    looks: list[int] = []

    async def look(wire: Any) -> bytes:
        looks.append(1)
        raise BrokerUnavailable("lost while looking")

    async def up() -> Any:
        return lost_wire()

    monkeypatch.setattr(module, "look_at_marker", look)
    monkeypatch.setattr(module, "down_pause", lambda failures: 60.0)
    holds = Holds(SimpleNamespace(up=up), SimpleNamespace(), nothing)  # type: ignore[arg-type]
    running = asyncio.create_task(holds.run(nothing))
    try:
        await until(lambda: len(looks) == 1, "it has looked")
        for _ in range(100):
            holds.interrupted()  # as each time that notices arrive on a new connection
            await asyncio.sleep(0)
        assert len(looks) == 1
        holds.look_again(lambda: None)
        await until(lambda: len(looks) == 2, "it looks again")
    finally:
        running.cancel()
        await asyncio.wait([running])
