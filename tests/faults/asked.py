"""The app of F27: its jobs are asked, and each answer says which request it is for."""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from amqpjobs import App, Context, Retry
from amqpjobs.settings import Settings
from tests.faults.jobs import LEDGER
from tests.faults.ledger import Effect, record


@dataclass(frozen=True)
class Asked:
    """An app and its jobs, made anew for each URL that something is asked over."""

    app: App
    answer: Any
    unheard: Any


def build(settings: Settings | None = None) -> Asked:
    """Make the app."""
    app = App("asked", settings=settings, retry=Retry(attempts=1))

    @app.job(queue="asked")
    async def answer(ctx: Context, number: int, seconds: float = 0.0) -> int:
        """Says whose answer it is; every seventh is an error that does."""
        start = time.time()
        await asyncio.sleep(seconds)
        effect = Effect(ctx.job_id, ctx.attempt, os.getpid(), start, time.time(), str(number))
        record(Path(os.environ[LEDGER]), effect)
        if number % 7 == 0:
            raise ValueError(f"number {number}")
        return number

    @app.job(queue="unheard")
    async def unheard(number: int) -> int:
        """No worker consumes its queue."""
        return number

    return Asked(app, answer, unheard)


app = build().app
