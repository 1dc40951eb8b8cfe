"""Stores of both kinds."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from amqpjobs.settings import Settings, load_settings
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.store import Store
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.migrate import migrate
from tests.support.brokers.postgres import Postgres


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/status.db"
    server: Postgres = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture
def settings(store_url: str) -> Settings:
    """Settings with that store."""
    return load_settings(store_url=store_url)


@pytest.fixture
async def store(settings: Settings) -> AsyncIterator[Store]:
    """A store that is up to date."""
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    opened = await open_store(settings)
    yield opened
    await opened.close()
