"""A durable job that maps another one over many items."""

import asyncio
import os
from typing import Any, Final

from amqpjobs import App, Context, Retry
from amqpjobs.settings import Settings

STORE: Final = "FAULTS_STORE"


def build(settings: Settings | None = None, *, many: bool = False) -> tuple[App, Any]:
    """The app, and the durable job: for many items, if that is asked for."""
    app = App("faults", settings=settings, retry=Retry(attempts=3, first=0.05))

    @app.job(queue="work", name="square")
    async def square(number: int) -> int:
        await asyncio.sleep(0.002)
        return number * number

    @app.job(queue="work", name="square-at-once")
    async def square_at_once(number: int) -> int:
        return number * number

    @app.job(queue="other", name="squares", durable=True)
    async def squares(ctx: Context, count: int) -> list[int]:
        found = await ctx.map("squares", square, range(count), chunk=25, at_most=4_000)
        return [len(found), sum(found), sum(a * b for a, b in enumerate(found))]

    @app.job(queue="other", name="many-squares", durable=True)
    async def many_squares(ctx: Context, count: int) -> list[int]:
        items = range(count)
        found = await ctx.map("squares", square_at_once, items, chunk=500, at_most=50_000)
        return [len(found), sum(found), sum(a * b for a, b in enumerate(found))]

    return app, many_squares if many else squares


if STORE in os.environ:
    app, _ = build()
