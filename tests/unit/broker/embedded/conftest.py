"""Embedded brokers for tests, and models of one without a server."""

from collections.abc import AsyncIterator

import pytest

from amqpjobs.broker.embedded import Broker
from amqpjobs.broker.embedded.profile import PROFILES
from tests.unit.broker.embedded.model import Model


@pytest.fixture(params=PROFILES, ids=lambda version: f"as-{version}")
async def embedded(request: pytest.FixtureRequest) -> AsyncIterator[Broker]:
    """A broker of the test's own, as each version in turn."""
    async with Broker(request.param) as broker:
        yield broker


@pytest.fixture
async def plain() -> AsyncIterator[Broker]:
    """A broker of the test's own, where the version does not matter."""
    async with Broker() as broker:
        yield broker


@pytest.fixture(params=PROFILES, ids=lambda version: f"as-{version}")
def model(request: pytest.FixtureRequest) -> Model:
    """A virtual host, as each version in turn."""
    return Model(request.param)


@pytest.fixture
def old() -> Model:
    """A virtual host of 3.10."""
    return Model("3.10")


@pytest.fixture
def new() -> Model:
    """A virtual host of 4.3."""
    return Model("4.3")
