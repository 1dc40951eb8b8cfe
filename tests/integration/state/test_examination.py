"""What the doctor says of the store, and how long a database may take."""

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, MetaData, create_engine, event, insert, text
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

from amqpjobs import App
from amqpjobs.client.prepared import Prepared
from amqpjobs.errors import StoreUnavailable
from amqpjobs.jobs.message.properties import Properties
from amqpjobs.settings import Settings, load_settings
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.examination.store import examine_store
from amqpjobs.state.examination.whole import examine
from amqpjobs.state.memory import Memory, memory_of
from amqpjobs.state.outbox.rows import values_of
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.store import Store
from amqpjobs.state.store import engine as engine_module
from amqpjobs.state.store.durable import begin_immediate
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.metadata import HEAD
from amqpjobs.state.store.migrate import _run_alembic, migrate
from amqpjobs.state.store.tables import inbox
from tests.support.brokers.postgres import Postgres


async def test_none_yet_is_no_problem(tmp_path: Path) -> None:
    """And looking makes none."""
    found = await examine_store(load_settings(store_url=f"sqlite:///{tmp_path}/s.db"), "tests")
    assert found == [("store", "ok", "none yet: `amqpjobs record` makes it", "")]
    assert list(tmp_path.iterdir()) == []


async def test_a_store_that_is_behind_is_to_be_migrated(settings: Settings) -> None:
    """Both versions are named; then it is well, and no secret is in the words."""
    engine = open_engine(settings)
    async with engine.begin() as connection:
        await connection.run_sync(_run_alembic, "0001")
    [behind] = await examine_store(settings, "tests")
    assert f"version 0001, needed is {HEAD}" in behind.text
    assert behind.fix == "amqpjobs migrate"
    await migrate(engine)
    await engine.dispose()
    [well] = await examine_store(settings, "tests")
    assert well.text.endswith(f"version {HEAD}, may be written")
    assert well.fix == ""
    assert "password" not in well.text


async def test_a_database_that_is_away_is_named() -> None:
    """With what to do; jobs do not need it."""
    settings = load_settings(store_url="postgresql://user:hunter2@127.0.0.1:1/db")
    [found] = await examine_store(settings, "tests")
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
    [found] = await examine_store(settings, "tests")
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


async def test_other_apps_in_the_store_are_named(settings: Settings) -> None:
    """However many rows they have."""
    engine = open_engine(settings)
    await migrate(engine)
    row = {"job": "a", "epoch": 0, "done_at": 0.0}
    async with engine.begin() as connection:
        rows = [{**row, "app": app, "job_id": app} for app in ("shop", "bank", "tests")]
        await connection.execute(insert(inbox), rows)
    await engine.dispose()
    [found] = await examine_store(settings, "tests")
    assert found.text.endswith("may be written, shared with bank, shop")


async def test_a_clock_that_goes_wrong_is_told(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With whose it is."""
    engine = open_engine(settings)
    await migrate(engine)
    await engine.dispose()
    now = time.time
    monkeypatch.setattr(time, "time", lambda: now() + 3.0)
    [well, clock] = await examine_store(settings, "tests")
    assert well.state == "ok"
    assert clock.state == "warning"
    assert "3.0 s behind that of this machine" in clock.text


@pytest.mark.parametrize(
    ("url", "needed", "warns"),
    [
        ("amqp://rabbit.example/", ("app.outbox",), True),
        ("amqp://127.0.0.1/", ("app.outbox",), False),
        ("amqp://rabbit.example/", (), False),
    ],
)
async def test_a_file_is_shared_by_one_machine(
    tmp_path: Path, url: str, needed: tuple[str, ...], warns: bool
) -> None:
    """That is said where RabbitMQ is elsewhere, and something needs the store."""
    settings = load_settings(url=url, store_url=f"sqlite:///{tmp_path}/s.db")
    found = await examine_store(settings, "tests", needed)
    assert [each.check for each in found][1:] == ["store file"] * warns


def app_with(tmp_path: Path, **settings: Any) -> App:
    return App("tests", settings=load_settings(store_url=f"sqlite:///{tmp_path}/s.db", **settings))


async def put(memory: Memory, *, age: float = 0.0, error: str | None = None) -> None:
    """A row in the outbox, so many seconds old."""
    place = await memory.place()

    def write(connection: Connection) -> None:
        message = Prepared("id", "send", "work", Properties(), b"[]")
        values = values_of("tests", message, place.now - age)
        failed = {} if error is None else {"failed_at": place.now, "error": error}
        connection.execute(insert(memory.outbox.table).values({**values, **failed}))

    await place.run(write)


async def test_what_waits_in_the_outbox_and_what_was_refused_is_told(tmp_path: Path) -> None:
    """Each with its fix; an app that has used no outbox is not told of one."""
    app = app_with(tmp_path)
    assert [each.check for each in await examine(app.client)] == ["store"]
    app.outbox()
    memory = memory_of(app.client)
    await put(memory, age=90)
    await put(memory)
    await put(memory, error="no queue 'gone'")
    [_, failed, late] = await examine(app.client)
    assert failed.state == "error"
    assert "1 message cannot be sent; the last, of the job 'send': no queue 'gone'" in failed.text
    assert "amqpjobs outbox retry" in failed.fix
    assert late.state == "warning"
    assert "2 messages not sent yet, the oldest for 90 s" in late.text
    assert "AMQPJOBS_HOUSEKEEPING" in late.fix


async def test_the_users_own_database_is_looked_at(tmp_path: Path) -> None:
    """Where `app.outbox` has named it: first it has no table, then it has."""
    app, own = app_with(tmp_path), MetaData()
    engine = create_engine(f"sqlite:///{tmp_path}/own.db")
    app.outbox(own, bind=engine)
    [_, found] = await examine(app.client)
    assert found.state == "error"
    assert "has no table amqpjobs_outbox: declare it by app.outbox" in found.text
    assert "AMQPJOBS_STORE_URL right" not in found.text
    own.create_all(engine)
    [_, found] = await examine(app.client)
    assert found == ("outbox", "ok", "nothing waits in sqlite own.db", "")
    await put(memory_of(app.client))
    [_, found] = await examine(app.client)
    assert found == ("outbox", "ok", "1 message on the way in sqlite own.db", "")


async def test_the_sessions_of_once_are_looked_at(tmp_path: Path) -> None:
    """Whether they have transactions, and the inbox is there. No thread of theirs stays."""
    before = set(threading.enumerate())
    app, own = app_with(tmp_path), MetaData()
    engine = create_async_engine(f"sqlite+aiosqlite:///{tmp_path}/own.db")
    app.outbox(own, bind=engine)
    sessions = async_sessionmaker(engine)

    @app.job(queue="work", once=sessions)
    async def charge(session: AsyncSession) -> None: ...

    async def once() -> Finding:
        return next(each for each in await examine(app.client) if each.check == "once= of charge")

    assert "does not begin transactions" in (await once()).text

    @event.listens_for(engine.sync_engine, "connect")
    def connected(connection: Any, _: object) -> None:
        connection.isolation_level = None

    event.listen(engine.sync_engine, "begin", begin_immediate)
    assert "has no table amqpjobs_inbox" in (await once()).text
    async with engine.begin() as connection:
        await connection.run_sync(own.create_all)
    assert (await once()).text == "sqlite own.db: the inbox is there, transactions are kept"
    assert [each.state for each in await examine(app.client)] == ["ok"] * 3
    left = set(threading.enumerate()) - before
    assert not [each for each in left if "connection_worker" in each.name]


async def test_what_is_not_installed_is_an_error_where_it_is_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing to worry about where it is not."""
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert [each.state for each in await examine(App("tests").client)] == ["ok"]
    app = App("tests")

    @app.job(queue="work", once=async_sessionmaker())
    async def tick(session: AsyncSession) -> None: ...

    [found] = await examine(app.client)
    assert found.state == "error"
    assert "the job tick of this app need it" in found.text
