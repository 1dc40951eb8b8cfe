"""Loops over the lives of a connection end when they are told to, whatever aiormq makes of it."""

import asyncio
from typing import Any

import pytest

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.event_publication import Announcements
from amqpjobs.broker.rabbitmq.listener import Listener
from amqpjobs.broker.rabbitmq.pause_marks import Mark
from amqpjobs.broker.rabbitmq.publication import Publication
from amqpjobs.broker.rabbitmq.subscription import Subscription
from amqpjobs.errors import BrokerUnavailable
from amqpjobs.settings import Settings
from tests.support.waiting import PATIENCE


class Swallowing:
    """What a loop waits for: cancelled, it raises an error of its own, as aiormq does."""

    channel_max = 2047

    def __init__(self) -> None:
        self.waited = asyncio.Event()
        self.lost = asyncio.Event()

    async def up(self) -> "Swallowing":
        return self

    async def channel(self, **_: Any) -> None:
        await self()

    async def __call__(self, *_: Any) -> Any:
        self.waited.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise BrokerUnavailable("the channel was closed by a cancellation") from None


def announcing(wire: Any) -> Announcements:
    return Announcements(wire, "app", lambda _: b"", enabled=True, declare=False)


def publishing(wire: Any) -> Publication:
    return Publication(wire, wire)


def linking(wire: Any) -> Link:
    link = Link(Settings(), "publish")
    link.connect = wire  # type: ignore[method-assign]
    return link


def consuming(wire: Any) -> Subscription:
    return Subscription(wire, "queue", 1, lambda delivery: None, wire)


def listening(wire: Any) -> Listener:
    return Listener(wire, lambda view, body: None)


class Marking:
    def __init__(self, wire: Any) -> None:
        self.run = Mark(wire, "queue").hold


@pytest.mark.parametrize("make", [announcing, publishing, linking, consuming, listening, Marking])
async def test_a_loop_that_is_cancelled_ends(make: Any) -> None:
    """A program that closed its publisher while it was opening channels never ended."""
    wire = Swallowing()
    task = asyncio.create_task(make(wire).run())
    await wire.waited.wait()
    task.cancel()
    done, _ = await asyncio.wait([task], timeout=PATIENCE)
    if not done:
        task.cancel()  # it waits for something else by now
    assert done
    assert task.cancelled()
