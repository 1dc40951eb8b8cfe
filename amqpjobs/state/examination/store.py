"""Looks at the database of ``AMQPJOBS_STORE_URL``. Changes when there is more to say of it."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from amqpjobs.errors import AmqpJobsError
from amqpjobs.state.examination.finding import Finding
from amqpjobs.state.store.engine import open_engine, store_exists

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

    from amqpjobs.settings import Settings

SKEW = 1.0
"""Seconds between the clock of the database and the machine's, from which on it is told."""

MOST_APPS = 10
"""Other apps that are named."""

LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


async def examine_store(
    settings: "Settings", app: str, needed: Sequence[str] = ()
) -> list[Finding]:
    """Whether there is a store, it can be reached and written, and is of this version; whose it is,
    and how its clock goes.

    Args:
        app: the name of the app that looks.
        needed: what of the app needs it; nothing if it keeps statuses only.
    """
    if not store_exists(settings):
        maker = (
            "the first process that needs it makes it" if needed else "`amqpjobs record` makes it"
        )
        return [Finding("store", "ok", f"none yet: {maker}"), *_sharing(settings, needed)]
    try:
        engine = open_engine(settings)
    except AmqpJobsError as error:
        fix = "set AMQPJOBS_STORE_URL, or install the extra sql"
        return [Finding("store", "error", str(error), fix)]
    try:
        return [*await _examine(engine, app), *_sharing(settings, needed)]
    except AmqpJobsError as error:
        whose = f"what needs it waits: {', '.join(needed)}" if needed else "jobs run without it"
        fix = f"start the database, or set AMQPJOBS_STORE_URL; {whose}"
        return [Finding("store", "error", str(error), fix)]
    finally:
        await engine.dispose()


async def _examine(engine: "AsyncEngine", app: str) -> list[Finding]:
    from sqlalchemy import false, update

    from amqpjobs.state.status.table import jobs
    from amqpjobs.state.store.errors import errors
    from amqpjobs.state.store.migrate import look

    place = f"{engine.dialect.name} {_name_of(engine)}"
    async with errors():
        migration = await look(engine)
        if migration.needed:
            found = f"{place}: version {migration.before or 'none'}, needed is {migration.after}"
            return [Finding("store", "error", found, "amqpjobs migrate")]
        async with engine.connect() as connection:
            await connection.execute(update(jobs).where(false()).values(state="queued"))
            others = await connection.run_sync(others_in, app)
            ahead, within = await _ahead(connection)
            await connection.rollback()
    shared = f", shared with {', '.join(others)}" if others else ""
    well = f"{place}: version {migration.after}, may be written{shared}"
    return [Finding("store", "ok", well), *_clock(ahead, within)]


def others_in(connection: "Connection", app: str) -> list[str]:
    """The names of other apps that have rows in the store; some of them where there are many."""
    from sqlalchemy import func, select

    from amqpjobs.state.store.tables import MEMORY

    found: set[str] = set()
    for table in MEMORY:
        if "app" not in table.c:
            continue
        last = ""
        # One after the other by the index: an inbox may have millions of rows.
        while len(found) <= MOST_APPS:
            name = connection.scalar(select(func.min(table.c.app)).where(table.c.app > last))
            if name is None:
                break
            found.add(name)
            last = name
    return sorted(found - {app})[:MOST_APPS]


async def _ahead(connection: "AsyncConnection") -> tuple[float, float]:
    """Seconds that the database's clock is ahead of ours, and how exact that is."""
    from sqlalchemy import select

    from amqpjobs.state.store.runs import now_of

    best = (0.0, float("inf"))
    for _ in range(3):
        before = time.time()
        there = float(await connection.scalar(select(now_of(connection.dialect.name))) or 0.0)
        after = time.time()
        best = min(best, (there - (before + after) / 2, (after - before) / 2), key=lambda b: b[1])
    return best


def _clock(ahead: float, within: float) -> list[Finding]:
    if abs(ahead) - within <= SKEW:
        return []
    way = "ahead of" if ahead > 0 else "behind"
    found = f"the clock of its database is {abs(ahead):.1f} s {way} that of this machine"
    fix = "run an NTP client on both: schedules and leases go by the database's, deadlines by ours"
    return [Finding("store clock", "warning", found, fix)]


def _sharing(settings: "Settings", needed: Sequence[str]) -> list[Finding]:
    """A file of this machine, where workers of other machines may need it, too."""
    url = settings.store_url.get_secret_value()
    hosts = {node.host for node in settings.broker_url.nodes}
    if not needed or not url.startswith("sqlite") or hosts <= LOCAL:
        return []
    found = "SQLite: only processes of this machine share it, and RabbitMQ is on another one"
    fix = "fine if all processes of the app run here, with this file; else use PostgreSQL"
    return [Finding("store file", "warning", found, fix)]


def _name_of(engine: "AsyncEngine") -> str:
    url = engine.url
    if engine.dialect.name == "sqlite":
        return Path(url.database or "").name
    return f"{url.database} at {url.host}"
