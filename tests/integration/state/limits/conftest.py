"""A durable store of both kinds."""

from collections.abc import AsyncIterator

import pytest

from amqpjobs.settings import Settings
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate


@pytest.fixture
async def durable(settings: Settings) -> AsyncIterator[DurableStore]:
    """One that is up to date."""
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    opened = await DurableStore(settings).open()
    yield opened
    await opened.close()
