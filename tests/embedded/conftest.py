"""Embedded brokers for tests, and models of one."""

from collections.abc import AsyncIterator

import pytest

from amqpjobs.embedded import Broker
from amqpjobs.embedded.profile import PROFILES
from tests.embedded.model import Model


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


@pytest.fixture(params=["3.10", "4.3"])
def model(request: pytest.FixtureRequest) -> Model:
    return Model(request.param)


@pytest.fixture
def old() -> Model:
    return Model("3.10")


@pytest.fixture
def new() -> Model:
    return Model("4.3")
