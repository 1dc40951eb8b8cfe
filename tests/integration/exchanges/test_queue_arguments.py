"""What `Queue(arguments=...)` allows, RabbitMQ declares: each argument, on old and new servers."""

from collections.abc import Mapping
from typing import Any

import pytest

from amqpjobs import Queue
from amqpjobs.errors import PublishRejected, TopologyMismatch
from amqpjobs.jobs.queue.arguments import KNOWN, LONGEST_TTL
from tests.support.amqp import ready, stranger
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at

VALUES: Mapping[str, tuple[Any, ...]] = {
    "x-max-length": (1, 2**63 - 1),
    "x-max-length-bytes": (1, 2**63 - 1),
    "x-overflow": ("reject-publish", "drop-head"),
    "x-message-ttl": (0, LONGEST_TTL),
    "x-queue-leader-locator": ("client-local", "balanced"),
    "x-quorum-initial-group-size": (1,),
    "x-quorum-target-group-size": (1, 3),
    "x-consumer-timeout": (60_000,),
    "x-delayed-retry-type": ("disabled", "all", "failed", "returned"),
    "x-delayed-retry-min": (0, 1_000),
    "x-delayed-retry-max": (0, 1_000),
    "x-queue-version": (1, 2),
    "x-queue-mode": ("default", "lazy"),
}

REFUSED = {
    ("3.10", "classic", "x-queue-leader-locator", "client-local"),
    ("3.10", "classic", "x-queue-leader-locator", "balanced"),
    ("4.3", "classic", "x-queue-version", 1),
}
"""What these servers do not have."""


def test_each_argument_is_tried() -> None:
    """With every value that it may have, or the smallest and the largest."""
    assert VALUES.keys() == KNOWN.keys()


@pytest.mark.parametrize("argument", VALUES)
async def test_rabbitmq_declares_it(broker: VirtualHost, argument: str) -> None:
    """The queue has it then, for each type that may. What a server does not have is refused in its
    own words. What it does not know it keeps and ignores, until it is upgraded."""
    for type_ in KNOWN[argument].types:
        for value in VALUES[argument]:
            name = f"{type_}-{value}"
            if (broker.version, type_, argument, value) in REFUSED:
                with pytest.raises(TopologyMismatch, match=f"invalid arg '{argument}'"):
                    await declare_one(broker, name, type_, argument, value)
                continue
            await declare_one(broker, name, type_, argument, value)
            found = broker.server.api("GET", f"/queues/{broker.name}/{name}")
            assert found["arguments"][argument] == value


async def declare_one(
    broker: VirtualHost, name: str, type_: Any, argument: str, value: object
) -> None:
    """As an app does."""
    app = app_at(broker.url)
    given: Any = {argument: value}

    @app.job(queue=Queue(name, type=type_, arguments=given))
    async def job(n: int) -> None: ...

    async with app.lifespan():
        await app.client.publisher()


async def test_the_oldest_is_dropped_or_the_newest_refused(broker: VirtualHost) -> None:
    """A full queue refuses what is published, and the caller knows; with `drop-head` its oldest job
    goes to the dead letters."""
    app = app_at(broker.url)

    @app.job(queue=Queue("refuses", arguments={"x-max-length": 2}))
    async def refused(n: int) -> None: ...

    @app.job(queue=Queue("drops", arguments={"x-max-length": 2, "x-overflow": "drop-head"}))
    async def dropped(n: int) -> None: ...

    async with app.lifespan(), stranger(broker.url) as channel:
        with pytest.raises(PublishRejected):
            for n in range(20):  # quorum queues refuse a little later than at the limit
                await refused.later(n)
        for n in range(5):
            await dropped.later(n)
        await ready(channel, "drops", 2)
        await ready(channel, "drops.dead", 3)
