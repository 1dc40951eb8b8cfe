"""Limits of a virtual host are told as what they are, in words of the real broker."""

from typing import Any
from urllib.parse import quote

import pytest

from amqpjobs.errors import BrokerUnavailable, TopologyMismatch
from tests.support.brokers.broker_server import VirtualHost
from tests.support.workers import app_at, working


def limit(broker: VirtualHost, name: str, value: int) -> None:
    path = f"/vhost-limits/{quote(broker.name, safe='')}/{name}"
    broker.server.api("PUT", path, {"value": value})


def app_of(broker: VirtualHost) -> Any:
    app = app_at(broker.url)
    app.job(queue="work", name="job")(lambda: None)
    return app


async def test_a_limit_of_queues(broker_43: VirtualHost) -> None:
    """Other arguments are not what is the matter."""
    limit(broker_43, "max-queues", 2)
    with pytest.raises(TopologyMismatch, match="the limit of 2 queues in vhost .* is reached") as e:
        async with working(app_of(broker_43)):
            pass
    assert "other arguments" not in str(e.value)
    assert e.value.difference == "missing"
    assert e.value.entity == "queue 'work.parked'"


async def test_a_limit_of_connections(broker_43: VirtualHost) -> None:
    """Neither the virtual host nor the permissions are; and it may be over in a moment."""
    limit(broker_43, "max-connections", 0)
    with pytest.raises(BrokerUnavailable, match="takes no more connections: .*limit") as e:
        async with working(app_of(broker_43)):
            pass
    assert "permissions" not in str(e.value)
    assert e.value.temporary
