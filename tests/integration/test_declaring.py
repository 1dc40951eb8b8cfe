"""Declaring beside a life that may end at any moment."""

import asyncio

import pytest
from aiormq import exceptions as aiormq_errors
from aiormq.abc import AbstractChannel

from amqpjobs.broker.rabbitmq.connection import Link
from amqpjobs.broker.rabbitmq.declarer import Declarer
from amqpjobs.errors import ConfigurationError
from amqpjobs.jobs.queue.queue import Queue
from amqpjobs.jobs.queue.topology import topology_of
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at


async def test_whoever_is_cancelled_while_declaring_ends_and_costs_nobody_else(
    broker: VirtualHost,
) -> None:
    """At whichever turn of the event loop: the cancellation arrives, the connection stays."""
    link = Link(app_at(broker.url).settings, "declare")
    wire = await link.connect()
    topology = topology_of([Queue("q")])
    try:
        async with Declarer(wire) as declarer:
            await declarer.apply(topology)

        async def declare() -> None:
            async with Declarer(wire) as declarer:
                await declarer.look("q")

        turns = 0
        while True:
            task = asyncio.ensure_future(declare())
            for _ in range(turns):
                await asyncio.sleep(0)
                if task.done():
                    break
            if task.done():
                # It was faster; a broker takes its time, so no number of turns is enough for sure.
                await task
                break
            task.cancel()
            await asyncio.wait((task,), timeout=5)
            assert task.cancelled(), f"after {turns} turns the cancellation was lost"
            assert not wire.lost.is_set(), f"after {turns} turns the connection was lost"
            turns += 1 if turns < 100 else turns // 2
        # What RabbitMQ thinks of it comes a moment later; a channel that works says it is fine.
        async with Declarer(wire) as declarer:
            assert (await declarer.look("q")).message_count == 0
    finally:
        await link.close()


async def test_a_name_that_cannot_be_declared_says_so(broker_43: VirtualHost) -> None:
    """The client's library knows fewer characters than RabbitMQ."""
    link = Link(app_at(broker_43.url).settings, "declare")
    try:
        async with Declarer(await link.connect()) as declarer:
            with pytest.raises(ConfigurationError, match=r"queue 'a.b.[a-z.]*': its name .* ASCII"):
                await declarer.apply(topology_of([Queue("a(b)")]))
    finally:
        await link.close()


async def test_a_cancellation_in_the_moment_of_a_refusal_is_one(broker_43: VirtualHost) -> None:
    """aiormq then raises the refusal alone, and a worker that was told to stop would wait on."""
    link = Link(app_at(broker_43.url).settings, "declare")
    try:
        wire = await link.connect()

        async def refused() -> None:
            async def act(channel: AbstractChannel) -> None:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
                raise aiormq_errors.ChannelNotFoundEntity("NOT_FOUND")

            async with Declarer(wire) as declarer:
                await declarer.call(act)

        task = asyncio.ensure_future(refused())
        await asyncio.wait((task,), timeout=10)
        assert task.cancelled()
    finally:
        await link.close()
