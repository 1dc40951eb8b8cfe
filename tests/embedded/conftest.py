"""Embedded brokers for tests."""

from collections.abc import AsyncIterator

import pytest

from amqpjobs.embedded import Broker
from amqpjobs.embedded.profile import PROFILES


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
