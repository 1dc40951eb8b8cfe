"""Migrates a store, by Alembic. Changes when migrating does, not with a migration."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sqlalchemy import inspect, text

from amqpjobs.errors import ConfigurationError
from amqpjobs.state.store.engine import missing
from amqpjobs.state.store.metadata import HEAD, VERSIONS

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

LOCK = 4_807_134_206
"""PostgreSQL's advisory locks are numbers; this one is ours."""


@dataclass(frozen=True, slots=True)
class Migration:
    """What was done, or is to be.

    Attributes:
        before: the version that was found; None for an empty database.
        after: the version of this amqpjobs.
    """

    before: str | None
    after: str

    @property
    def needed(self) -> bool:
        """Whether the store was behind."""
        return self.before != self.after


async def look(engine: "AsyncEngine") -> Migration:
    """What there would be to do; changes nothing."""
    async with engine.connect() as connection:
        return Migration(await connection.run_sync(_version), HEAD)


async def migrate(engine: "AsyncEngine") -> Migration:
    """Bring the store up to date. Several at once are safe: one does it, the others wait.

    Raises:
        ConfigurationError: the store is of a newer amqpjobs, or Alembic is not installed.
    """
    if engine.dialect.name == "sqlite":
        async with engine.connect() as connection:
            # Alembic cannot make DDL and the version one transaction on Python's sqlite3, which
            # begins none for DDL: so we do.
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                migration = await _upgrade(connection)
            except BaseException:
                await connection.exec_driver_sql("ROLLBACK")
                raise
            await connection.exec_driver_sql("COMMIT")
            return migration
    async with engine.begin() as connection:
        await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
        return await _upgrade(connection)


async def _upgrade(connection: "AsyncConnection") -> Migration:
    before = await connection.run_sync(_version)
    if before != HEAD:
        await connection.run_sync(_run_alembic)
    return Migration(before, HEAD)


def _version(connection: "Connection") -> str | None:
    if not inspect(connection).has_table(VERSIONS):
        return None
    version: str | None = connection.execute(text(f"SELECT version_num FROM {VERSIONS}")).scalar()  # noqa: S608 - our own name
    return version


def _run_alembic(connection: "Connection", target: str = "head") -> None:
    try:
        from alembic import command
        from alembic.config import Config
        from alembic.util import CommandError
    except ImportError as error:
        raise missing(error) from error
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, target)
    except CommandError as error:
        raise ConfigurationError(
            f"the store cannot be migrated: {error}; was it made by a newer amqpjobs?"
        ) from error
