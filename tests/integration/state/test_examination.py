"""What the doctor says of the store, and how long a database may take."""

import asyncio
import time
from pathlib import Path

import pytest
from sqlalchemy import text

from amqpjobs.errors import StoreUnavailable
from amqpjobs.settings import Settings, load_settings
from amqpjobs.state.status.examination import examine
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.store import Store
from amqpjobs.state.store import engine as engine_module
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.metadata import HEAD
from amqpjobs.state.store.migrate import _run_alembic, migrate
from tests.support.brokers.postgres import Postgres


async def test_none_yet_is_no_problem(tmp_path: Path) -> None:
    """And looking makes none."""
    found = await examine(load_settings(store_url=f"sqlite:///{tmp_path}/s.db"))
    assert found == ("none yet: `amqpjobs record` makes it", "")
    assert list(tmp_path.iterdir()) == []


async def test_a_store_that_is_behind_is_to_be_migrated(settings: Settings) -> None:
    """Both versions are named; then it is well, and no secret is in the words."""
    engine = open_engine(settings)
    async with engine.begin() as connection:
        await connection.run_sync(_run_alembic, "0001")
    behind = await examine(settings)
    assert f"version 0001, needed is {HEAD}" in behind.text
    assert behind.fix == "amqpjobs migrate"
    await migrate(engine)
    await engine.dispose()
    well = await examine(settings)
    assert well.text.endswith(f"version {HEAD}, may be written")
    assert well.fix == ""
    assert "password" not in well.text


async def test_a_database_that_is_away_is_named() -> None:
    """With what to do; jobs do not need it."""
    settings = load_settings(store_url="postgresql://user:hunter2@127.0.0.1:1/db")
    found = await examine(settings)
    assert "jobs run without it" in found.fix
    assert "hunter2" not in found.text


async def test_a_user_who_may_only_read_is_told(postgres: Postgres) -> None:
    """By the database's own words."""
    url = postgres.new_database()
    settings = load_settings(store_url=url)
    engine = open_engine(settings)
    await migrate(engine)
    async with engine.begin() as connection:
        database = engine.url.database
        await connection.execute(
            text(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
        )
    await engine.dispose()
    found = await examine(settings)
    assert "read-only" in found.text
    assert found.fix


async def test_a_statement_has_a_limit(postgres: Postgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody holds a lock: the recorder and the web tier go on, and try again."""
    monkeypatch.setattr(engine_module, "QUERY_TIMEOUT", 0.5)
    settings = load_settings(store_url=postgres.new_database())
    engine = open_engine(settings)
    await migrate(engine)
    store: Store = await open_store(settings)
    try:
        async with engine.connect() as connection:
            await connection.execute(text("LOCK TABLE amqpjobs_status IN ACCESS EXCLUSIVE MODE"))
            began = time.monotonic()
            async with asyncio.timeout(10):
                with pytest.raises(StoreUnavailable):
                    await store.get("a")
            assert time.monotonic() - began < 5
        assert await store.get("a") is None
    finally:
        await store.close()
        await engine.dispose()
