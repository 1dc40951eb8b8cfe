"""The app that the workers of the fault tests run. Where effects go is in the environment.

Queues: ``work`` has five jobs, ``other`` one of its own, ``echo`` one that takes any JSON.
"""

import asyncio
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, JsonValue

from amqpjobs import App, Context, Queue, Retry, RetryAfter
from amqpjobs.settings import Settings
from tests.faults.ledger import Effect, record

LEDGER: Final = "FAULTS_EFFECTS"
"""The variable with the file of effects."""


class Item(BaseModel):
    """A schema, for messages that do not fit it."""

    number: int
    text: str


@dataclass(frozen=True)
class Jobs:
    """An app and its jobs, made anew for each URL that something is published to."""

    app: App
    work: Any
    item: Any
    fails: Any
    again: Any
    blocks: Any
    other: Any
    echo: Any


def note(ctx: Context, start: float, text: str = "") -> None:
    """Write the effect of the job that runs."""
    effect = Effect(ctx.job_id, ctx.attempt, os.getpid(), start, time.time(), text)
    record(Path(os.environ[LEDGER]), effect)


async def passing(seconds: float, gate: Path | None) -> None:
    """Take so long, or until there is such a file, however fast or slow the machine is."""
    if seconds:
        await asyncio.sleep(seconds)
    while gate is not None and not gate.exists():
        await asyncio.sleep(0.05)


def build(settings: Settings | None = None) -> Jobs:
    """Make the app."""
    app = App("faults", settings=settings, retry=Retry(attempts=1))
    work_queue = Queue("work")

    @app.job(queue=work_queue)
    async def work(
        ctx: Context, number: int, seconds: float = 0.0, gate: Path | None = None
    ) -> None:
        start = time.time()
        await passing(seconds, gate)
        note(ctx, start, str(number))

    @app.job(queue=work_queue)
    async def item(ctx: Context, item: Item) -> None:
        note(ctx, time.time(), str(item.number))

    @app.job(queue=work_queue)
    async def fails(ctx: Context, text: str) -> None:
        """Raises what the hex digits say, as `os.fsdecode` would have made it of a file name."""
        raise ValueError(bytes.fromhex(text).decode(errors="surrogateescape"))

    @app.job(queue=work_queue, retry=Retry(attempts=10))
    async def again(ctx: Context, seconds: float, times: int) -> None:
        """Asks so many times for another attempt, so many seconds later."""
        if ctx.attempt <= times:
            raise RetryAfter(seconds)
        note(ctx, time.time())

    @app.job(queue=work_queue)
    async def blocks(ctx: Context, seconds: float) -> None:
        """Does what an `async def` must not do."""
        start = time.time()
        time.sleep(seconds)  # noqa: ASYNC251 - the fault
        note(ctx, start)

    @app.job(queue="other")
    async def other(ctx: Context, number: int, seconds: float = 0.0) -> None:
        start = time.time()
        await asyncio.sleep(seconds)
        note(ctx, start, str(number))

    @app.job(queue="echo")
    async def echo(ctx: Context, value: JsonValue) -> None:
        note(ctx, time.time())

    return Jobs(app, work, item, fails, again, blocks, other, echo)


app = build().app
