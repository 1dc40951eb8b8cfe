"""Two processes that use one database, of each kind."""

from collections.abc import AsyncIterator

import pytest

from amqpjobs.settings import Settings
from amqpjobs.state.store.durable import DurableStore
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.support.durable_rows import Jobs


@pytest.fixture
async def jobs(settings: Settings) -> AsyncIterator[Jobs]:
    """An empty database of each kind, and two processes that use it."""
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    first, second = DurableStore(settings), DurableStore(settings)
    yield Jobs(await first.open(), await second.open())
    await first.close()
    await second.close()
