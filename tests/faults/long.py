"""The app of the long jobs: one that may run a minute, one that is short."""

import asyncio
import time

from amqpjobs import App, Context, Queue, Retry
from tests.faults.jobs import note

app = App("long", retry=Retry(attempts=1))
work = Queue("work")


@app.job(queue=work, timeout=60)
async def long(ctx: Context, number: int, seconds: float) -> None:
    start = time.time()
    await asyncio.sleep(seconds)
    note(ctx, start, str(number))


@app.job(queue=work, durable=True)
async def sliced(ctx: Context, rows: int, seconds: float) -> None:
    """Takes `seconds` for each of its rows."""
    async for row in ctx.each("rows", range(rows)):
        start = time.time()
        await asyncio.sleep(seconds)
        note(ctx, start, str(row))


@app.job(queue=work, timeout=1)
async def short(ctx: Context, number: int) -> None:
    note(ctx, time.time(), str(number))
