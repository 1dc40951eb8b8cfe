"""The store, in SQLite and in PostgreSQL: the same promises."""

import asyncio
import itertools
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from amqpjobs.errors import ConfigurationError, StoreUnavailable
from amqpjobs.jobs.message.events import Event
from amqpjobs.settings import Settings, load_settings
from amqpjobs.state.status.opening import open_store
from amqpjobs.state.status.store import Store
from amqpjobs.state.status.values import merged, row_of
from amqpjobs.state.store.engine import _set_up_sqlite, open_engine
from amqpjobs.state.store.metadata import HEAD, metadata
from amqpjobs.state.store.migrate import _run_alembic, look, migrate
from tests.support.brokers.postgres import Postgres, execute
from tests.unit.state.test_values import event, histories

NUMBERS = itertools.count()


def of(job_id: str, state: str = "started", **keys: object) -> Event:
    return event(state, id=job_id, **keys)


async def test_what_is_recorded_is_there(store: Store) -> None:
    """All of it; and what nobody told of is not."""
    await store.record([
        of("a", "queued", attempt=0, sequence=1_000_000),
        of("c", "failed", sequence=3_000_000, reason="rejected", error="no", answered=True),
        of("a", "done", sequence=3_000_000, started=2.0, progress=0.5, detail="half",
           worker="w:1", result={"n": [1, None]}, tags=["é", "b"]),
    ])  # fmt: skip
    found = await store.get("a")
    assert found is not None
    assert (found.state, found.attempt, found.worker) == ("done", 1, "w:1")
    assert found.tags == ("é", "b")
    assert (found.queued_at, found.started_at, found.ended_at) == (1.0, 2.0, 3.0)
    assert (found.progress, found.detail) == (1.0, "half")
    assert (found.result, found.has_result) == ({"n": [1, None]}, True)
    failed = await store.get("c")
    assert failed is not None
    assert (failed.reason, failed.error, failed.answered) == ("rejected", "no", True)
    assert await store.get("b") is None


@given(history=histories(), seed=st.randoms(use_true_random=False))
@hypothesis_settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_the_database_merges_as_the_values_do(
    store_runner: tuple[asyncio.Runner, Store], history: list[Event], seed: random.Random
) -> None:
    """Any permutation and repetition, in whatever batches: the same row, and the one that
    `merged` makes."""
    runner, store = store_runner
    mixed = history * 2
    seed.shuffle(mixed)
    job_id = f"job-{next(NUMBERS)}"
    mixed = [{**e, "id": job_id} for e in mixed]

    async def write() -> object:
        rest = list(mixed)
        while rest:
            size = seed.randint(1, len(rest))
            await store.record(rest[:size])
            del rest[:size]
        return await store.row(job_id)

    expected = row_of(mixed[0])
    for other in mixed[1:]:
        expected = merged(expected, row_of(other))
    assert runner.run(write()) == expected


@pytest.fixture
def store_runner(settings: Settings):
    """A store on a loop of its own, since hypothesis calls a plain function many times."""
    with asyncio.Runner() as runner:

        async def prepare() -> Store:
            engine = open_engine(settings)
            await migrate(engine)
            await engine.dispose()
            return await open_store(settings)

        store = runner.run(prepare())
        yield runner, store
        runner.run(store.close())


async def test_two_who_write_the_same_jobs_at_once_lose_nothing(
    store: Store, settings: Settings
) -> None:
    """Crosswise: neither waits for the other for ever, and the newest events stay."""
    other = await open_store(settings)
    ids = [f"job-{n}" for n in range(50)]

    async def write(to: Store, sequence: int) -> None:
        mixed = ids * 1
        random.Random(sequence).shuffle(mixed)
        await to.record([of(i, sequence=sequence, detail=str(sequence)) for i in mixed])

    try:
        await asyncio.gather(
            *(
                write(to, 2 * n + place)
                for n in range(1, 20)
                for place, to in enumerate((store, other))
            )
        )
    finally:
        await other.close()
    for job_id in ids:
        found = await store.get(job_id)
        assert found is not None
        assert (found.sequence, found.detail) == (39, "39")


async def test_lists_are_newest_first_by_state_and_queue(store: Store) -> None:
    """A page at a time."""
    states = ["started", "failed", "done"]
    await store.record(
        [of(f"{n}", states[n % 3], sequence=n + 1, queue=f"q{n % 2}") for n in range(12)]
    )
    assert [s.id for s in await store.recent(limit=3)] == ["11", "10", "9"]
    assert [s.id for s in await store.recent(limit=3, before=10)] == ["8", "7", "6"]
    assert [s.id for s in await store.recent(states=["failed"], queue="q1")] == ["7", "1"]
    assert await store.recent(job="other") == []


async def test_what_is_old_is_forgotten_and_results_before_it(store: Store) -> None:
    """A job that is still to run is not old."""
    await store.record([
        of("old", "done", sequence=10_000_000),
        of("waits", "retrying", sequence=10_000_000, due=500.0),
        of("young", "done", sequence=200_000_000, result=1, keep=10.0),
    ])  # fmt: skip
    assert await store.prune(older_than=100.0, now=205.0) == 1
    assert [s.id for s in await store.recent()] == ["young", "waits"]
    row = await store.row("young")
    assert row is not None
    assert row["result"] == "1"
    assert await store.prune(older_than=100.0, now=211.0) == 1
    row = await store.row("young")
    assert row is not None
    assert row["result"] is None
    assert await store.prune(older_than=100.0, now=211.0) == 0


async def test_what_the_database_cannot_hold_costs_nothing_else(store: Store) -> None:
    """The decoder lets no such event through; if one comes all the same, the others are kept."""
    wrong = of("wrong", detail="\ud800" if "sqlite" in repr(store) else "a\0b")
    try:
        unfit = await store.record([of("a"), wrong, of("z")])
    except StoreUnavailable:
        pytest.fail("it would be tried again for ever")
    assert unfit == 1
    assert await store.get("a") is not None
    assert await store.get("z") is not None


def test_a_file_that_somebody_else_sets_up_is_no_error(tmp_path: Path) -> None:
    """SQLite says at once that it is locked, whatever time it may wait for other things."""
    path = tmp_path / "new.db"
    with closing(sqlite3.connect(path)) as first, closing(sqlite3.connect(path, timeout=0)) as own:
        first.execute("CREATE TABLE something (id)")
        first.execute("INSERT INTO something VALUES (1)")  # not committed
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            own.execute("PRAGMA journal_mode=WAL")
        _set_up_sqlite(own, None)
        first.commit()
        _set_up_sqlite(own, None)
        assert own.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_migrating_is_safe_for_several_at_once(settings: Settings) -> None:
    """One does it, the others find it done; the tables are those that the code expects."""
    engines = [open_engine(settings) for _ in range(4)]
    found = await asyncio.gather(*(migrate(engine) for engine in engines))
    assert [m.before for m in found if m.needed] == [None]
    assert not (await look(engines[0])).needed

    def compare(connection):
        from alembic.autogenerate import compare_metadata
        from alembic.migration import MigrationContext

        options = {"version_table": "amqpjobs_version", "compare_type": True}
        return compare_metadata(MigrationContext.configure(connection, opts=options), metadata)

    async with engines[0].connect() as connection:
        assert await connection.run_sync(compare) == []
    for engine in engines:
        await engine.dispose()


async def test_words_of_the_first_version_become_those_of_today(settings: Settings) -> None:
    """``succeeded``, ``dead``, and ``failed`` for what was answered."""
    engine = open_engine(settings)
    async with engine.connect() as connection:
        await connection.run_sync(_run_alembic, "0001")
        for state in ("succeeded", "dead", "failed", "retrying"):
            await connection.execute(
                text(
                    "INSERT INTO amqpjobs_status (id, job, queue, state, epoch, attempt, sequence)"
                    " VALUES (:state, 'j', 'q', :state, 0, 1, 1000000)"
                ),
                {"state": state},
            )
        await connection.commit()
    assert (await migrate(engine)).before == "0001"
    await engine.dispose()
    store = await open_store(settings)
    found = {status.id: (status.state, status.answered) for status in await store.recent()}
    await store.close()
    assert found == {
        "succeeded": ("done", False), "dead": ("failed", False), "failed": ("failed", True),
        "retrying": ("retrying", False),
    }  # fmt: skip


def test_the_newest_migration_is_the_one_that_is_known() -> None:
    """Looking whether a store is behind does not import Alembic."""
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    import amqpjobs.state.store

    config = Config()
    config.set_main_option("path_separator", "os")
    folder = Path(amqpjobs.state.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    assert ScriptDirectory.from_config(config).get_current_head() == HEAD


async def test_sqlite_is_migrated_when_it_is_opened(tmp_path: Path) -> None:
    """It is this deployment's own file; opened by several at once, too."""
    settings = load_settings(store_url=f"sqlite:///{tmp_path}/new.db")
    stores = await asyncio.gather(*(open_store(settings) for _ in range(4)))
    await stores[0].record([of("a")])
    assert await stores[3].get("a") is not None
    for store in stores:
        await store.close()


async def test_the_file_and_its_journals_are_for_their_owner_alone(tmp_path: Path) -> None:
    """Errors and results of jobs are nobody else's; one that is there keeps its permissions."""
    there = tmp_path / "there.db"
    there.touch()
    there.chmod(0o640)
    for name in ("new.db", "there.db"):
        store = await open_store(load_settings(store_url=f"sqlite:///{tmp_path}/{name}"))
        async with store._engine.connect() as connection:
            await store.record([of("a")])
            found = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.glob(f"{name}*")}
            await connection.close()
        await store.close()
        mode = 0o600 if name == "new.db" else 0o640
        assert found == dict.fromkeys((name, f"{name}-wal", f"{name}-shm"), mode)


async def test_migrating_makes_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    """`amqpjobs migrate` opens it in another way."""
    from amqpjobs.state.store.migrate import migrate

    engine = open_engine(load_settings(store_url=f"sqlite:///{tmp_path}/new.db"))
    await migrate(engine)
    await engine.dispose()
    assert (tmp_path / "new.db").stat().st_mode & 0o777 == 0o600


async def test_postgresql_is_not_migrated_unasked(postgres: Postgres) -> None:
    """A clear error names the fix."""
    settings = load_settings(store_url=postgres.new_database())
    with pytest.raises(ConfigurationError, match="run `amqpjobs migrate`"):
        await open_store(settings)


async def test_a_store_of_a_newer_version_is_refused(postgres: Postgres) -> None:
    """Neither used nor migrated back."""
    url = postgres.new_database()
    settings = load_settings(store_url=url)
    engine = open_engine(settings)
    await migrate(engine)
    await execute(url, "UPDATE amqpjobs_version SET version_num = '9999'")
    with pytest.raises(ConfigurationError, match="newer amqpjobs"):
        await migrate(engine)
    await engine.dispose()


@pytest.mark.parametrize(
    "url", ["mysql://root:hunter2@h/d", "sqlite://", "hunter2", "sqlite:///:memory:"]
)
def test_a_url_that_cannot_be_used_is_an_error_that_hides_it(url: str) -> None:
    """It may hold a password."""
    with pytest.raises(ConfigurationError, match=r"sqlite:///file\.db") as caught:
        open_engine(load_settings(store_url=url))
    assert "hunter2" not in str(caught.value)


async def test_a_database_that_is_away_is_said_without_its_password() -> None:
    """Port 9 answers nobody."""
    settings = load_settings(store_url="postgresql://u:hunter2@127.0.0.1:9/d?sslmode=disable")
    assert "hunter2" not in repr(settings)
    with pytest.raises(StoreUnavailable, match="is the database running") as caught:
        await open_store(settings)
    assert "hunter2" not in str(caught.value)


def test_without_the_extra_the_fix_is_named() -> None:
    """No traceback of an import."""
    program = (
        "import asyncio, sys\n"
        "sys.modules['sqlalchemy'] = None\n"
        "from amqpjobs.settings import load_settings\n"
        "from amqpjobs.state.status.opening import open_store\n"
        "asyncio.run(open_store(load_settings()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], check=False, capture_output=True, text=True
    )
    assert "ConfigurationError: " in done.stderr
    assert "pip install" in done.stderr
    assert done.stderr.endswith(" 'amqpjobs[sql]'\n")
