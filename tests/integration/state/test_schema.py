"""The migrations make what the code declares: all of it, also what Alembic does not compare."""

from pathlib import Path
from typing import Any

from sqlalchemy import Connection, MetaData, create_engine, text

import amqpjobs.state.status.table
import amqpjobs.state.store.tables  # noqa: F401
from amqpjobs.settings import Settings, load_settings
from amqpjobs.state.store.engine import open_engine
from amqpjobs.state.store.metadata import VERSIONS, metadata
from amqpjobs.state.store.migrate import _run_alembic, migrate
from amqpjobs.state.store.tables import inbox_of, outbox_of
from tests.support.brokers.postgres import Postgres

POSTGRES = (
    (
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,"
        " column_default, identity_generation FROM information_schema.columns"
        " WHERE table_schema = 'public'"
    ),
    "SELECT tablename, indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    "SELECT relname, reloptions FROM pg_class WHERE relkind = 'r' AND relname LIKE 'amqpjobs%'",
    (
        "SELECT conrelid::regclass::text, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE conrelid::regclass::text LIKE 'amqpjobs%'"
    ),
)


def schema(connection: Connection) -> list[Any]:
    """All that a database says of our tables; the order of columns aside, since a later migration
    adds one at the end."""
    if connection.dialect.name == "sqlite":
        found: list[Any] = []
        names = connection.execute(text("SELECT name, tbl_name, type, sql FROM sqlite_master"))
        for name, table, kind, sql in names.all():
            if table == VERSIONS:
                continue
            if kind == "table":
                columns = connection.execute(text(f"PRAGMA table_info({name})")).all()
                found += [(name, *each[1:]) for each in columns]
            else:
                found.append((table, name, sql))
        return sorted(map(str, found))
    rows = [row for query in POSTGRES for row in connection.execute(text(query))]
    return sorted(str(tuple(row)) for row in rows if not str(row[0]).startswith(VERSIONS))


async def made(settings: Settings, by: str) -> list[Any]:
    """The schema of an empty database that was made in one way."""
    engine = open_engine(settings)
    if by == "migrations":
        await migrate(engine)
    async with engine.begin() as connection:
        if by != "migrations":
            await connection.run_sync(metadata.create_all)
        found = await connection.run_sync(schema)
    await engine.dispose()
    return found


async def test_migrations_make_what_is_declared_in_sqlite(tmp_path: Path) -> None:
    """A change of `amqpjobs.state.store.tables` needs one in the newest migration, or a new one."""
    places = [load_settings(store_url=f"sqlite:///{tmp_path}/{name}.db") for name in "ab"]
    assert await made(places[0], "migrations") == await made(places[1], "declarations")


async def test_migrations_make_what_is_declared_in_postgresql(postgres: Postgres) -> None:
    """Partial indexes, defaults and the options of the outbox as well."""
    places = [load_settings(store_url=postgres.new_database()) for _ in "ab"]
    migrated = await made(places[0], "migrations")
    assert migrated == await made(places[1], "declarations")
    assert any("autovacuum_vacuum_threshold=1000" in each for each in migrated)


async def test_what_the_users_own_migrations_have_made_is_left_alone(tmp_path: Path) -> None:
    """The outbox and the inbox, in the database that is the store as well."""
    place = f"sqlite:///{tmp_path}/s.db"
    own = MetaData()
    outbox_of(own)
    inbox_of(own)
    engine = create_engine(place)
    own.create_all(engine)
    engine.dispose()
    store = open_engine(load_settings(store_url=place))
    assert (await migrate(store)).needed
    await store.dispose()


async def test_the_migration_can_be_taken_back(settings: Settings) -> None:
    """And made again."""
    engine = open_engine(settings)
    await migrate(engine)
    async with engine.begin() as connection:
        before = await connection.run_sync(schema)
        await connection.run_sync(downgrade, "0004")
        assert not any("amqpjobs_outbox" in each for each in await connection.run_sync(schema))
        await connection.run_sync(_run_alembic)
        assert await connection.run_sync(schema) == before
    await engine.dispose()


def downgrade(connection: Connection, target: str) -> None:
    from alembic import command
    from alembic.config import Config

    import amqpjobs.state.store

    config = Config()
    folder = Path(amqpjobs.state.store.__file__).parent / "migrations"
    config.set_main_option("script_location", str(folder))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.downgrade(config, target)
