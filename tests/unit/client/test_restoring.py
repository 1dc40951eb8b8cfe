"""A publisher whose broker came back empty declares again when a queue is missing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from amqpjobs.broker.embedded.broker import Broker
from amqpjobs.broker.rabbitmq import declarer
from amqpjobs.broker.rabbitmq.inspection.queues import connected, delete_queues, depths
from amqpjobs.errors import Unroutable
from tests.support.workers import app_at


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    """A broker in the process."""
    async with Broker() as running:
        yield running


async def emptied(app: Any) -> None:
    """Delete all queues of the app."""
    async with connected(app.settings, "delete") as wire:
        await delete_queues(wire, ["work", "work.dead", "work.parked", "amqpjobs.delay.unroutable"])


async def waiting(app: Any) -> int:
    async with connected(app.settings, "look") as wire:
        depth = (await depths(wire, ["work"], app.settings))["work"]
    assert depth is not None
    return depth.ready


async def test_messages_of_a_broker_that_came_back_empty_arrive(
    broker: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One by one or many at once: each once, and all is declared once."""
    app = app_at(broker.url)
    job: Any = app.job(queue="work", name="job")(lambda: None)
    async with app.lifespan():
        await emptied(app)
        declared, declare = [], declarer._declare

        async def counting(channel: Any, declaration: Any, passive: bool) -> Any:
            declared.append(getattr(declaration, "name", ""))
            return await declare(channel, declaration, passive)

        monkeypatch.setattr(declarer, "_declare", counting)
        await asyncio.gather(*(job.later() for _ in range(20)))
        assert declared.count("work") == 1
        assert await waiting(app) == 20
        await emptied(app)
        await app.later_many(job.message() for _ in range(20))
        assert await waiting(app) == 20


async def test_who_may_not_declare_gets_the_error(broker: Broker) -> None:
    """`AMQPJOBS_DECLARE=false` leaves declaring to others."""
    app = app_at(broker.url, declare_topology=False)
    job: Any = app.job(queue="work", name="job")(lambda: None)
    async with app.lifespan():
        with pytest.raises(Unroutable):
            await job.later()
