"""Looks at the store as a whole, for people. Changes when there is more to say of it."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.store.engine import open_engine, store_exists

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

    from amqpjobs.settings import Settings


class Finding(NamedTuple):
    """What was found, and what to do about it: nothing where all is well."""

    text: str
    fix: str = ""


async def examine(settings: "Settings") -> Finding:
    """Whether there is a store, it can be reached and written, and is of this version."""
    if not store_exists(settings):
        return Finding("none yet: `amqpjobs record` makes it")
    try:
        engine = open_engine(settings)
    except AmqpJobsError as error:
        return Finding(str(error), "set AMQPJOBS_STORE_URL, or install the extra sql")
    try:
        return await _examine(engine)
    except AmqpJobsError as error:
        return Finding(
            str(error), "start the database, or set AMQPJOBS_STORE_URL; jobs run without it"
        )
    finally:
        await engine.dispose()


async def _examine(engine: "AsyncEngine") -> Finding:
    from sqlalchemy import false, update

    from amqpjobs.state.status.table import jobs
    from amqpjobs.state.store.errors import errors
    from amqpjobs.state.store.migrate import look

    place = f"{engine.dialect.name} {_name_of(engine)}"
    async with errors():
        migration = await look(engine)
        if migration.needed:
            return Finding(
                f"{place}: version {migration.before or 'none'}, needed is {migration.after}",
                "amqpjobs migrate",
            )
        async with engine.connect() as connection:
            await connection.execute(update(jobs).where(false()).values(state="queued"))
            await connection.rollback()
    return Finding(f"{place}: version {migration.after}, may be written")


def _name_of(engine: "AsyncEngine") -> str:
    url = engine.url
    if engine.dialect.name == "sqlite":
        return Path(url.database or "").name
    return f"{url.database} at {url.host}"
