"""A durable job that maps another one over many items."""

import asyncio
import os
from typing import Any, Final

from amqpjobs import App, Context, Retry
from amqpjobs.settings import Settings

STORE: Final = "FAULTS_STORE"


def build(settings: Settings | None = None) -> tuple[App, Any]:
    """The app, and the durable job."""
    app = App("faults", settings=settings, retry=Retry(attempts=3, first=0.05))

    @app.job(queue="work", name="square")
    async def square(number: int) -> int:
        await asyncio.sleep(0.002)
        return number * number

    @app.job(queue="other", name="squares", durable=True)
    async def squares(ctx: Context, count: int) -> list[int]:
        found = await ctx.map("squares", square, range(count), chunk=25, at_most=4_000)
        return [len(found), sum(found), sum(a * b for a, b in enumerate(found))]

    return app, squares


if STORE in os.environ:
    app, _ = build()
