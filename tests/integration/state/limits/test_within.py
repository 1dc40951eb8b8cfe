"""``unique=`` and ``debounce=`` within a transaction, and while the store is away."""

from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from amqpjobs import App, Debounce, Limit, Unique
from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.settings import Settings
from amqpjobs.state.limits import turns
from amqpjobs.state.memory import memory_of
from amqpjobs.state.store.durable import DurableStore
from tests.support.shop import async_engine


class Sentinel(Exception):
    """Rolls a transaction back."""


def an_app() -> tuple[App, Any, Any]:
    app = App("shop", settings=Settings(url="amqp://nowhere.invalid"))

    @app.job(queue="index", unique=Unique())
    async def index(document: int) -> None: ...

    @app.job(queue="index", debounce=Debounce(5, key="document"))
    async def refresh(document: int, text: str) -> str:
        return text

    return app, index, refresh


async def test_a_claim_is_of_the_transaction() -> None:
    """Rolled back, it was never there; committed, it is there for all."""
    app, index, refresh = an_app()
    async with app.testing() as t:
        await memory_of(app.client).store()
        engine = async_engine(app.settings.store_url.get_secret_value())
        sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
        with pytest.raises(Sentinel):
            async with sessions.begin() as session:
                assert not (await index.within(session).later(7)).existing
                assert (await index.within(session).later(7)).existing
                raise Sentinel
        async with sessions.begin() as session:
            first = await index.within(session).later(7)
            assert not first.existing
            await refresh.within(session).later(7, "a")
        async with sessions.begin() as session:
            assert (await index.within(session).later(7)) == first
            assert (await refresh.within(session).later(7, "b")).existing
        assert (await index.later(7)) == first
        await t.run_until_idle()
        assert [ran.id for ran in t.runs(index)] == [first.id]
        assert not (await index.later(7)).existing
        await t.advance(5)
        assert t.results(refresh) == ["b"]
        await engine.dispose()


async def test_another_database_is_refused(tmp_path: Path) -> None:
    """By an error that says what to do."""
    from sqlalchemy import MetaData

    app, index, _ = an_app()
    metadata = MetaData()
    engine = async_engine(f"sqlite:///{tmp_path}/own.db")
    app.outbox(metadata, bind=engine)
    async with engine.begin() as connection:
        await connection.run_sync(metadata.create_all)
    async with app.testing():
        sessions: async_sessionmaker[AsyncSession] = async_sessionmaker(engine)
        async with sessions() as session, session.begin():
            with pytest.raises(ConfigurationError, match="outside of the transaction"):
                await index.within(session).later(7)
        first = await index.later(7)
        assert (await index.later(7)) == first
    await engine.dispose()


async def test_without_the_store_nothing_runs_that_needs_a_slot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It waits on its queue, with a growing pause, and uses no attempt."""
    app = App("shop", settings=Settings(url="amqp://nowhere.invalid"))
    attempts: list[int] = []

    @app.job(queue="sync", limit=Limit(1))
    async def sync(n: int) -> None:
        attempts.append(n)

    run, away = DurableStore.run, True

    async def runs(store: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
        if away and function is turns.turn:
            raise StoreUnavailable("away")
        return await run(store, function, *args, **kwargs)

    monkeypatch.setattr(DurableStore, "run", runs)
    async with app.testing() as t:
        for n in range(3):
            await sync.later(n)
        await t.run_until_idle()
        await t.advance(10)
        assert attempts == []
        snoozed = [ran for ran in t.runs(sync) if ran.outcome == "snoozed"]
        assert 3 <= len(snoozed) <= 30
        away = False
        await t.advance(60)
        assert sorted(attempts) == [0, 1, 2]
        assert {ran.attempt for ran in t.runs(sync)} == {1}
