"""The app of the fault tests whose jobs have a limit. `FAULTS_STORE` is the store, `FAULTS_LIMIT`
how many run at once for each key.

A run writes to a row that keeps the newest token: what a zombie writes is refused. Its effect is
that write, in the ledger of the test, with when the run began and ended.
"""

import asyncio
import os
import time
from pathlib import Path
from typing import Annotated, Any, Final

import asyncpg

from amqpjobs import App, Context, Limit, Retry, Unique
from amqpjobs.settings import Settings
from tests.faults.jobs import LEDGER
from tests.faults.ledger import Effect, record

STORE: Final = "FAULTS_STORE"
LIMIT: Final = "FAULTS_LIMIT"

FENCED: Final = """
    INSERT INTO fenced AS f (name, token) VALUES ($1, $2)
    ON CONFLICT (name) DO UPDATE SET token = excluded.token WHERE f.token <= excluded.token
    RETURNING extract(epoch FROM clock_timestamp())::float8
"""
"""When it was written, too: a process may be frozen before it reads that it was."""


def build(limit: int, settings: Settings | None = None) -> tuple[App, Any, Any]:
    """The app, its job with a limit, and its unique job."""
    app = App("faults", settings=settings, retry=Retry(attempts=1))
    pools: list[asyncpg.Pool] = []

    @app.job(queue="limited", retry=Retry(attempts=3, first=0.1, jitter=0))
    async def limited(
        ctx: Context, key: Annotated[int, Limit(limit, lease=30)], seconds: float = 0.05
    ) -> None:
        start = time.time()
        await asyncio.sleep(seconds)
        # Several may hold a slot of one key: then each job has a row of its own.
        name = str(key) if limit == 1 else ctx.job_id
        if not pools:
            url = os.environ[STORE]
            pools.append(await asyncpg.create_pool(url, min_size=1, max_size=4))
        written = await pools[0].fetchval(FENCED, name, ctx.fence("key"))
        note = f"{key} {'refused' if written is None else 'written'}"
        end = time.time() if written is None else written
        effect = Effect(ctx.job_id, ctx.attempt, os.getpid(), start, end, note)
        record(Path(os.environ[LEDGER]), effect)

    @app.job(queue="unique", unique=Unique(key="document"))
    async def unique(ctx: Context, document: int) -> None:
        effect = Effect(ctx.job_id, ctx.attempt, os.getpid(), time.time(), time.time())
        record(Path(os.environ[LEDGER]), effect)

    return app, limited, unique


def _settings() -> Settings | None:
    store = os.environ.get(STORE)
    if store is None:
        return None
    os.environ["AMQPJOBS_STORE_URL"] = store
    return None


_settings()
app = build(int(os.environ.get(LIMIT, "1")))[0]
